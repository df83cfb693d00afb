"""BlazePose: one person's 33 joints in the image and in space.

Networks: Google MediaPipe, `pose_landmark_{lite,full,heavy}.tflite`, Apache-2.0. Sources: Bazarevsky et al. 2020,
"BlazePose: On-device Real-time Body Pose tracking", and the constants of MediaPipe's pose_landmark_cpu graph. Agreement
with MediaPipe is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import atan2, hypot
from pathlib import Path

import numpy as np
from scipy.special import expit

from streamkp.hub.catalog import ModelSpec
from streamkp.models.pose2d.square_crops import Outputs, begin_on_crops
from streamkp.models.registry import ModelFile, ModelOptions, PoseEstimator
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Network, NetworkSource, Pixels, choose, open_network
from streamkp.runtimes.torch import require_torch
from streamkp.vision.crop import points_to_source, turn

JOINTS = 33
POINTS = JOINTS + 2  # and the two that say where to look next
REGION_SCALE = 1.25
OUTPUTS = _LANDMARKS, _PRESENCE, _HEATMAPS, _WORLD = "Identity", "Identity_1", "Identity_3", "Identity_4"
_KERNEL = 9
_MIN_CONFIDENCE = 0.5
_LEFT_HIP, _RIGHT_HIP = 23, 24


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the outputs have the shapes of 39 landmarks. Any of its sizes."""
    shapes = {} if file.signature is None else file.signature.outputs
    if shapes.get(_LANDMARKS) != (1, 195) or shapes.get(_WORLD) != (1, 117) or _HEATMAPS not in shapes:
        return None
    return ModelSpec(task="body-2d-keypoints", family=__name__, skeleton="blazepose33")


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> PoseEstimator:
    """See `streamkp.models.registry`. In torch crops and refinement run on the device, too."""
    options.refuse_flip(name)
    pixels = Pixels(rgb=True, scale=255.0)
    source = NetworkSource(name, file=path, outputs=OUTPUTS, pixels=pixels, own_torch=path.suffix == ".tflite")
    runtime, device = choose(source, options.run)
    if runtime == "torch":
        require_torch(name)
        from streamkp.models.pose2d.blazepose_device import BlazePoseOnDevice

        return BlazePoseOnDevice(name, path, options.run, device)
    return BlazePoseEstimator(name, open_network(source, options.run))


class BlazePoseEstimator:
    """33 joints per region, in the image and in space. A joint's score is its visibility."""

    skeleton = "blazepose33"

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self._network = network
        (port,) = network.inputs.values()
        self._size = port.shape[1]

    def region_from_box(self, box: FloatArray) -> Region:
        """The upright square around the box (4,): x, y, w, h; a second pass with `next_region` is more accurate."""
        return region_from_box(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for person `i`: from the alignment points where the detector gives them, else from the box."""
        if detections.anchors is None:
            return region_from_box(detections.boxes[i])
        return region_from_points(*detections.anchors[i, :2])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The pose in each region, in order."""
        return self.start(crops, crowded=False)() if crops else []

    def start(self, crops: Sequence[tuple[Image, Region]], *, crowded: bool) -> Callable[[], list[Pose]]:
        """See `streamkp.models.registry.start`."""
        outputs = begin_on_crops(self._network, crops, crowded=crowded)
        return lambda: self._poses(outputs(), crops)

    def _poses(self, outputs: Outputs, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        regions = np.stack([region for _, region in crops])
        points = decode_landmarks(outputs[_LANDMARKS], outputs[_HEATMAPS], regions, self._size)
        world = decode_world(outputs[_WORLD], regions)
        return [
            Pose(
                points=points[i, :JOINTS],
                presence=float(outputs[_PRESENCE][i, 0]),
                next_region=region_from_points(*points[i, JOINTS:, :2]),
                world=world[i],
            )
            for i in range(len(crops))
        ]

    @property
    def at_once(self) -> int | None:
        """See `PoseEstimator`."""
        return self._network.side_by_side

    @property
    def batch_independent(self) -> bool:
        """See `PoseEstimator`."""
        return self._network.buckets == (1,)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


def region_from_points(hip: FloatArray, top: FloatArray) -> Region:
    """The square around the circle about `hip` (2,) through `top` (2,), widened, turned so that `top` is up."""
    dx, dy = float(top[0] - hip[0]), float(top[1] - hip[1])
    side = 2 * REGION_SCALE * hypot(dx, dy)
    return np.array((hip[0], hip[1], side, side, atan2(dx, -dy)), np.float32)


def region_from_box(box: FloatArray) -> Region:
    """The upright square around the middle of a person's box (4,): x, y, w, h."""
    x, y, w, h = (float(v) for v in box)
    side = REGION_SCALE * max(w, h)
    return np.array((x + w / 2, y + h / 2, side, side, 0), np.float32)


def decode_landmarks(raw: FloatArray, heatmaps: FloatArray, regions: FloatArray, size: int) -> FloatArray:
    """Points in source pixels and their visibility (N, 35, 3) from the landmark network's outputs.

    `raw` is (N, 195): x, y, z in pixels of the crop, visibility and presence logits of 39 points, `heatmaps` is
    (N, H, W, 39), `regions` (N, 5), `size` the side of the crop. Points 33 and 34 belong to the next region.
    """
    values = raw.reshape(len(raw), -1, 5)[:, :POINTS]
    places = refine(values[..., :2] / np.float32(size), heatmaps)
    points = np.empty((*values.shape[:2], 3), np.float32)
    points[..., :2] = points_to_source(places, regions)
    points[..., 2] = expit(values[..., 3])
    return points


def refine(places: FloatArray, heatmaps: FloatArray) -> FloatArray:
    """Move each point to the centre of mass of its heatmap nearby, where the heatmap is sure of it.

    `places` is (N, K, 2) in units of the crop's size, `heatmaps` logits (N, H, W, >= K). Like MediaPipe's
    refinement: a point at heatmap index i is at i / size, without half a cell.
    """
    n, k = places.shape[:2]
    size = np.array(heatmaps.shape[2:0:-1])
    reach = np.arange(_KERNEL) - _KERNEL // 2
    cell = (places * size).astype(np.intp)
    around = cell[..., None] + reach  # (N, K, 2, kernel)
    inside = (around >= 0) & (around < size[:, None])
    cols, rows = np.moveaxis(np.clip(around, 0, size[:, None] - 1), 2, 0)
    logits = heatmaps[
        np.arange(n)[:, None, None, None], rows[..., :, None], cols[..., None, :], np.arange(k)[:, None, None]
    ]
    weights = expit(logits) * (inside[:, :, 1, :, None] & inside[:, :, 0, None, :])
    total = weights.sum(axis=(2, 3))
    x = (weights.sum(axis=2) * cols).sum(axis=2)
    y = (weights.sum(axis=3) * rows).sum(axis=2)
    sure = (weights.max(axis=(2, 3)) >= _MIN_CONFIDENCE) & ((cell >= 0) & (cell < size)).all(axis=2)
    centres = np.stack((x, y), axis=-1) / (np.maximum(total, 1e-9)[..., None] * size)
    return np.where(sure[..., None], centres, places).astype(np.float32)


def decode_world(raw: FloatArray, regions: FloatArray) -> FloatArray:
    """World landmarks (N, 33, 3) in metres from the network's output (N, 117), turned back into the image's frame.

    MediaPipe's frame has x right, y down and z growing away from the camera, as ours; its origin is only about
    the middle of the hips, so it is moved there.
    """
    world = raw.reshape(len(raw), -1, 3)[:, :JOINTS].copy()
    world[..., :2] = turn(world[..., :2], regions[:, 4])
    world -= (world[:, _LEFT_HIP : _LEFT_HIP + 1] + world[:, _RIGHT_HIP : _RIGHT_HIP + 1]) / 2
    return world
