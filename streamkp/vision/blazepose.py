"""What surrounds the two BlazePose networks: anchors, decoding, regions of interest, heatmap refinement.

Sources: Bazarevsky et al. 2020, "BlazePose: On-device Real-time Body Pose tracking", and the constants of MediaPipe's
pose graphs (pose_detection_cpu, pose_landmark_cpu). Agreement with MediaPipe is tested.
"""

from __future__ import annotations

from functools import cache
from math import atan2, hypot

import numpy as np

from streamkp.packet import FloatArray
from streamkp.poses import Region
from streamkp.vision.crop import points_to_source, turn
from streamkp.vision.nms import weighted_nms

JOINTS = 33
POINTS = JOINTS + 2  # and the two that say where to look next
REGION_SCALE = 1.25
_DETECTOR_SIZE = 224
_STRIDES = (8, 16, 32, 32, 32)
_ANCHORS_PER_CELL_AND_LAYER = 2
_OVERLAP = 0.3
_KERNEL = 9
_MIN_CONFIDENCE = 0.5
_LEFT_HIP, _RIGHT_HIP = 23, 24


@cache
def detector_anchors() -> FloatArray:
    """Anchor centres x, y (2254, 2) in units of the input's size; all have the size of the input."""
    layers = []
    for stride in dict.fromkeys(_STRIDES):
        cells = _DETECTOR_SIZE // stride
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack((x, y), axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, _ANCHORS_PER_CELL_AND_LAYER * _STRIDES.count(stride), axis=0))
    anchors = np.concatenate(layers).astype(np.float32)
    anchors.flags.writeable = False
    return anchors


def decode_detections(
    raw: FloatArray, logits: FloatArray, min_score: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """People in the detector's outputs (2254, 12) and (2254,).

    Returns boxes x0, y0, x1, y1 of the heads (N, 4), the four alignment points (N, 4, 2), both in units of the
    input's size, and scores (N,). What overlaps is averaged, weighted by score, as in MediaPipe.
    """
    scores = sigmoid(logits)
    found = scores >= min_score
    values = raw[found] / np.float32(_DETECTOR_SIZE)
    centres = detector_anchors()[found]
    middle, half = values[:, :2] + centres, values[:, 2:4] / 2
    boxes = np.concatenate((middle - half, middle + half), axis=1, dtype=np.float32)
    points = values[:, 4:].reshape(-1, 4, 2) + centres[:, None]
    merged, best = weighted_nms(boxes, scores[found], np.concatenate((boxes, points.reshape(-1, 8)), axis=1), _OVERLAP)
    return merged[:, :4], merged[:, 4:].reshape(-1, 4, 2), best


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


def body_boxes(anchors: FloatArray, width: int, height: int) -> FloatArray:
    """Estimated boxes of whole people x, y, w, h (N, 4), in the image, from alignment points (N, 4, 2) in pixels.

    The detector itself only boxes the head. A person is taken to be half as wide as long, lying along the line
    from the middle of the hips to the top of the body's circle.
    """
    hip, up = anchors[:, 0], anchors[:, 1] - anchors[:, 0]
    half = np.abs(up) + np.abs(up[:, ::-1]) / 2
    edge = np.array((width, height), np.float32)
    low, high = np.clip(hip - half, 0, edge), np.clip(hip + half, 0, edge)
    return np.concatenate((low, high - low), axis=1).astype(np.float32)


def decode_landmarks(raw: FloatArray, heatmaps: FloatArray, regions: FloatArray, size: int) -> FloatArray:
    """Points in source pixels and their visibility (N, 35, 3) from the landmark network's outputs.

    `raw` is (N, 195): x, y, z in pixels of the crop, visibility and presence logits of 39 points, `heatmaps` is
    (N, H, W, 39), `regions` (N, 5), `size` the side of the crop. Points 33 and 34 belong to the next region.
    """
    values = raw.reshape(len(raw), -1, 5)[:, :POINTS]
    places = refine(values[..., :2] / np.float32(size), heatmaps)
    points = np.empty((*values.shape[:2], 3), np.float32)
    points[..., :2] = points_to_source(places, regions)
    points[..., 2] = sigmoid(values[..., 3])
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
    weights = sigmoid(logits) * (inside[:, :, 1, :, None] & inside[:, :, 0, None, :])
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


def sigmoid(logits: FloatArray) -> FloatArray:
    """The logistic function in float32; large negative values give 0 without a warning."""
    result: FloatArray = 1 / (1 + np.exp(-np.clip(logits, -80, 80, dtype=np.float32)))
    return result
