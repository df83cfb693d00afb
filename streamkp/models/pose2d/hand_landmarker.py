"""MediaPipe's hands: 21 joints of one hand in the image and in space, and whether it is a left one.

Network: Google MediaPipe, `hand_landmarks_detector.tflite`, Apache-2.0. Sources: Zhang et al. 2020, "MediaPipe Hands:
On-device Real-time Hand Tracking", and the constants of MediaPipe's hand_landmarks_detector graph. Agreement with
MediaPipe is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, sin
from pathlib import Path

import numpy as np

from streamkp.hub.catalog import ModelSpec
from streamkp.models.pose2d.square_crops import run_on_crops
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Network, NetworkSource, Pixels, open_network
from streamkp.vision.crop import points_to_source, turn

JOINTS = 21
_LANDMARKS, _PRESENCE, _MIRRORED_LEFT, _WORLD = "Identity", "Identity_1", "Identity_2", "Identity_3"
_DEPTH_UNIT = 0.4  # the network's z is larger than its x and y by 1 / 0.4
_SCALE, _SHIFT = 2.0, -0.1  # of the box around the hand: how much the region is larger, and moved up along the hand
_STEADY = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # joints that the region is drawn around: no finger tips
_WRIST, _KNUCKLES, _KNUCKLE_WEIGHTS = 0, (5, 9, 13), np.array((0.25, 0.5, 0.25), np.float32)


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the outputs have the shapes of 21 landmarks, twice, and two numbers."""
    shapes = {} if file.signature is None else file.signature.outputs
    if shapes.get(_LANDMARKS) != (1, 3 * JOINTS) or shapes.get(_WORLD) != (1, 3 * JOINTS):
        return None
    return ModelSpec(task="hand-2d-keypoints", family=__name__, skeleton="hand21")


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> HandEstimator:
    """See `streamkp.models.registry`."""
    options.refuse_flip(name)
    outputs = (_LANDMARKS, _PRESENCE, _MIRRORED_LEFT, _WORLD)
    source = NetworkSource(name, file=path, outputs=outputs, pixels=Pixels(rgb=True, scale=255.0))
    return HandEstimator(name, open_network(source, options.run))


@dataclass(slots=True)
class HandPose(Pose):
    """One hand. The score of every joint is the presence of the hand; `world` has its origin about its middle.

    Attributes:
        left: probability that it is a left hand, 0..1, as it is (not as a mirror shows it).
        depth: float32 (21,), pixels of the source image, away from the camera, the wrist at 0.
    """

    left: float = 0.5
    depth: FloatArray = field(default_factory=lambda: np.zeros(JOINTS, np.float32))


class HandEstimator:
    """21 joints per region. It says whether there is a hand, and `next_region` follows it."""

    skeleton = "hand21"
    follows = True

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self._network = network
        (port,) = network.inputs.values()
        self._size = port.shape[1]

    def region_from_box(self, box: FloatArray) -> Region:
        """The upright square around a box (4,) x, y, w, h; a second pass with `next_region` is more accurate."""
        x, y, w, h = (float(v) for v in box)
        side = _SCALE * max(w, h)
        return np.array((x + w / 2, y + h / 2, side, side, 0), np.float32)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for box `i`."""
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The hand in each region, in order, as `HandPose`."""
        return list(self.hands(crops))

    def hands(self, crops: Sequence[tuple[Image, Region]]) -> list[HandPose]:
        """The hand in each region, in order."""
        if not crops:
            return []
        outputs = run_on_crops(self._network, crops)
        regions = np.stack([region for _, region in crops])
        landmarks = outputs[_LANDMARKS].reshape(-1, JOINTS, 3)
        points = np.empty_like(landmarks)
        points[..., :2] = points_to_source((landmarks[..., :2] / self._size).astype(np.float32), regions)
        points[..., 2] = np.clip(outputs[_PRESENCE], 0, 1)
        depth = landmarks[..., 2] * regions[:, 2:3] / np.float32(self._size * _DEPTH_UNIT)
        world = outputs[_WORLD].reshape(-1, JOINTS, 3).copy()
        world[..., :2] = turn(world[..., :2], regions[:, 4])
        # The network was taught with the names that a mirror shows.
        left = 1 - np.clip(outputs[_MIRRORED_LEFT][:, 0], 0, 1)
        return [
            HandPose(
                points=points[i],
                presence=float(points[i, 0, 2]),
                next_region=hand_region(points[i, :, :2]),
                world=world[i],
                left=float(left[i]),
                depth=depth[i] - depth[i, _WRIST],
            )
            for i in range(len(crops))
        ]

    @property
    def batch_independent(self) -> bool:
        """See `PoseEstimator`."""
        return self._network.buckets == (1,)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


def hand_region(points: FloatArray) -> Region:
    """Where to look for a hand with these joints (21, 2): the knuckles above the wrist, fingers within reach."""
    knuckles = _KNUCKLE_WEIGHTS @ points[_KNUCKLES, :] - points[_WRIST]
    angle = float(np.arctan2(knuckles[0], -knuckles[1]))
    back = np.array((-angle,), np.float32)
    upright = turn(points[None, _STEADY], back)[0]
    low, high = upright.min(axis=0), upright.max(axis=0)
    width, height = (float(v) for v in high - low)
    middle = turn(((low + high) / 2)[None, None], -back)[0, 0]
    shift = _SHIFT * height
    side = max(_SCALE * max(width, height), 1.0)
    return np.array((middle[0] - shift * sin(angle), middle[1] + shift * cos(angle), side, side, angle), np.float32)
