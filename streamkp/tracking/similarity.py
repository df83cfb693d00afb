"""Similarity of two people in an image: overlap of boxes, distance of keypoints.

Boxes are (4,): x, y, w, h in pixels; keypoints (K, 3): x, y in pixels, score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamkp.packet import FloatArray

_SEEN = 0.2  # score from which a joint counts for the box
_PADDING = 0.05  # joints lie inside the body: widen their box by this share of its longer side
_KEYPOINT_SPREAD = 0.1  # distance, over the square root of the area, at which a joint's similarity is exp(-1/2)


def box_of(points: FloatArray) -> FloatArray:
    """The box (4,) around the joints that are seen, or around all when fewer than a third are."""
    seen = points[points[:, 2] >= _SEEN]
    if 3 * len(seen) < len(points):
        seen = points
    left, top, _ = seen.min(axis=0).tolist()
    right, bottom, _ = seen.max(axis=0).tolist()
    w, h = right - left, bottom - top
    pad = _PADDING * max(w, h, 1.0)
    return np.array((left - pad, top - pad, w + 2 * pad, h + 2 * pad), np.float32)


def clipped(box: FloatArray, width: int, height: int) -> FloatArray:
    """The part of a box inside the image; its size is 0 where there is none."""
    x, y, w, h = box.tolist()
    left, right = (min(max(v, 0.0), width) for v in (x, x + w))
    top, bottom = (min(max(v, 0.0), height) for v in (y, y + h))
    return np.array((left, top, right - left, bottom - top), np.float32)


def overlap(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of two boxes, 0..1."""
    ax, ay, aw, ah = a.tolist()
    bx, by, bw, bh = b.tolist()
    w = min(ax + aw, bx + bw) - max(ax, bx)
    h = min(ay + ah, by + bh) - max(ay, by)
    if w <= 0 or h <= 0:
        return 0.0
    shared: float = w * h
    union: float = aw * ah + bw * bh - shared
    return shared / union


def keypoint_similarity(a: FloatArray, b: FloatArray, area: float) -> float:
    """0..1 for two poses (K, 3) of a person whose box has `area` square pixels.

    COCO's object keypoint similarity with one spread for all joints, since not every skeleton has published ones.
    """
    squared: NDArray[np.float32] = np.square(a[:, :2] - b[:, :2]).sum(axis=1)
    return float(np.exp(-squared / (2 * _KEYPOINT_SPREAD**2 * max(area, 1.0))).mean())
