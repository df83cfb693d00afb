"""MediaPipe's face mesh: 478 points of one face with its irises, and from them 52 blendshapes.

Networks: Google MediaPipe, `face_landmarks_detector.tflite` and `face_blendshapes.tflite`, Apache-2.0. Sources:
Kartynnik et al. 2019, "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", Grishchenko et al. 2023,
"Blendshapes GHUM", and the constants of MediaPipe's face_landmarks_detector and face_blendshapes graphs. Agreement with
MediaPipe is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.special import expit

from streamkp.hub.catalog import ModelSpec
from streamkp.models.pose2d.square_crops import run_on_crops
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Network, NetworkSource, Pixels, open_network
from streamkp.vision.crop import points_to_source

POINTS = 478
BLENDSHAPES_FILE = "face_blendshapes.tflite"  # beside the landmark network
_LANDMARKS, _PRESENCE = "Identity", "Identity_1"
_COEFFICIENTS = "StatefulPartitionedCall:0"
_SCALE = 1.5  # of the box around the points
_EYES = (33, 263)  # outer corners: the person's right one, the left one

# The points that the blendshape network reads, in its order, and what it says, in its order.
_READ = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81,
    82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154,
    155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263,
    267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321,
    323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387,
    388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, *range(468, 478),
)  # fmt: skip
BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the outputs have the shapes of 478 landmarks and a presence."""
    shapes = {} if file.signature is None else file.signature.outputs
    if shapes.get(_LANDMARKS, ())[1:] != (1, 1, 3 * POINTS) or _PRESENCE not in shapes:
        return None
    return ModelSpec(task="face-2d-keypoints", family=__name__, skeleton="face478")


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> FaceEstimator:
    """See `streamkp.models.registry`. Blendshapes come where their network lies beside the file."""
    options.refuse_flip(name)
    source = NetworkSource(name, file=path, outputs=(_LANDMARKS, _PRESENCE), pixels=Pixels(rgb=True, scale=255.0))
    network = open_network(source, options.run)
    beside = path.with_name(BLENDSHAPES_FILE)
    if not beside.is_file():
        return FaceEstimator(name, network, None)
    try:
        shapes = open_network(NetworkSource(f"{name}, blendshapes", file=beside), options.run)
    except BaseException:
        network.close()
        raise
    return FaceEstimator(name, network, shapes)


@dataclass(slots=True)
class MeshPose(Pose):
    """One face. The score of every point is the presence of the face.

    Attributes:
        depth: float32 (478,), pixels of the source image, away from the camera, about the middle of the head at 0.
    """

    depth: FloatArray = field(default_factory=lambda: np.zeros(POINTS, np.float32))


class FaceEstimator:
    """478 points per region. It says whether there is a face, and `next_region` follows it."""

    skeleton = "face478"
    follows = True

    def __init__(self, name: str, network: Network, blendshapes: Network | None) -> None:
        self.name = name
        self._network = network
        self._blendshapes = blendshapes
        (port,) = network.inputs.values()
        self._size = port.shape[1]

    def region_from_box(self, box: FloatArray) -> Region:
        """The upright square around the box (4,) x, y, w, h of a face."""
        x, y, w, h = (float(v) for v in box)
        side = _SCALE * max(w, h)
        return np.array((x + w / 2, y + h / 2, side, side, 0), np.float32)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for box `i`."""
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The face in each region, in order, as `MeshPose`."""
        return list(self.faces(crops))

    def faces(self, crops: Sequence[tuple[Image, Region]]) -> list[MeshPose]:
        """The face in each region, in order."""
        if not crops:
            return []
        outputs = run_on_crops(self._network, crops)
        regions = np.stack([region for _, region in crops])
        landmarks = outputs[_LANDMARKS].reshape(-1, POINTS, 3)
        presence = expit(outputs[_PRESENCE].reshape(-1))
        points = np.empty_like(landmarks)
        points[..., :2] = points_to_source((landmarks[..., :2] / self._size).astype(np.float32), regions)
        points[..., 2] = presence[:, None]
        depth = landmarks[..., 2] * regions[:, 2:3] / np.float32(self._size)
        return [
            MeshPose(points[i], float(presence[i]), mesh_region(points[i, :, :2]), depth=depth[i])
            for i in range(len(crops))
        ]

    def blendshapes(self, faces: Sequence[FloatArray]) -> list[dict[str, float]]:
        """How far each expression goes, 0..1, by ARKit's names, of the points (478, >= 2) of each face, in order.

        Empty where the network for it is not there.
        """
        if self._blendshapes is None or not faces:
            return [{} for _ in faces]
        ((name, _),) = self._blendshapes.inputs.items()
        read = np.stack([face[_READ, :2] for face in faces])
        found = np.clip(self._blendshapes({name: read})[_COEFFICIENTS], 0, 1)
        return [dict(zip(BLENDSHAPES[1:], row[1:].tolist(), strict=True)) for row in found]  # without _neutral

    @property
    def batch_independent(self) -> bool:
        """See `PoseEstimator`."""
        return self._network.buckets == (1,)

    def close(self) -> None:
        """Let go of the networks."""
        self._network.close()
        if self._blendshapes is not None:
            self._blendshapes.close()


def mesh_region(points: FloatArray) -> Region:
    """Where to look for a face with these points (478, 2): the square around them, widened, the eyes level."""
    low, high = points.min(axis=0), points.max(axis=0)
    eyes = points[_EYES[1]] - points[_EYES[0]]
    side = max(_SCALE * float((high - low).max()), 1.0)
    return np.array((*(low + high) / 2, side, side, np.arctan2(eyes[1], eyes[0])), np.float32)
