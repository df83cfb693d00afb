"""Non-maximum suppression: one box per person out of many that overlap.

Boxes here are float32 (N, 4) as x0, y0, x1, y1, in any unit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamkp.packet import FloatArray


def iou(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """Intersection over union of one box (4,) with others (N, 4): (N,), 0 where either is empty."""
    size = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared: FloatArray = np.clip(size, 0, None).prod(axis=1)
    union = _area(box[None])[0] + _area(boxes) - shared
    np.divide(shared, union, out=shared, where=union > 0)  # where the union is empty, so is what is shared
    return shared


def nms(boxes: FloatArray, scores: FloatArray, threshold: float, limit: int = 100) -> NDArray[np.intp]:
    """Indices of the boxes to keep, best first: a box goes if its IoU with a better one is above `threshold`."""
    order = np.argsort(-scores, kind="stable")
    kept: list[np.intp] = []
    while order.size and len(kept) < limit:
        best, rest = order[0], order[1:]
        kept.append(best)
        order = rest[iou(boxes[best], boxes[rest]) <= threshold]
    return np.array(kept, np.intp)


def weighted_nms(
    boxes: FloatArray, scores: FloatArray, values: FloatArray, threshold: float, limit: int = 100
) -> tuple[FloatArray, FloatArray]:
    """Like `nms`, but what overlaps the best box is averaged into it, weighted by score (as BlazeFace does).

    `values` is (N, C), what to average (boxes, keypoints). Returns (M, C) and the best scores (M,).
    """
    order = np.argsort(-scores, kind="stable")
    means: list[FloatArray] = []
    best_scores: list[float] = []
    while order.size and len(means) < limit:
        same = iou(boxes[order[0]], boxes[order]) > threshold
        same[0] = True  # an empty box overlaps nothing, not even itself
        group = order[same]
        weights = scores[group, None]
        means.append((values[group] * weights).sum(axis=0) / weights.sum())
        best_scores.append(float(scores[order[0]]))
        order = order[~same]
    if not means:
        return values[:0], scores[:0]
    return np.stack(means).astype(np.float32), np.array(best_scores, np.float32)


def _area(boxes: FloatArray) -> FloatArray:
    area: FloatArray = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return area
