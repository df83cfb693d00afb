"""How alike two people in an image are: overlap of boxes, distance of keypoints.

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
    seen = points[points[:, 2] >= _SEEN, :2]
    if 3 * len(seen) < len(points):
        seen = points[:, :2]
    low, high = seen.min(axis=0), seen.max(axis=0)
    pad = _PADDING * max(float((high - low).max()), 1.0)
    return np.concatenate((low - pad, high - low + 2 * pad)).astype(np.float32, copy=False)


def clipped(box: FloatArray, width: int, height: int) -> FloatArray:
    """The part of a box inside the image; its size is 0 where there is none."""
    low = np.clip(box[:2], 0, (width, height))
    high = np.clip(box[:2] + box[2:], 0, (width, height))
    return np.concatenate((low, high - low)).astype(np.float32, copy=False)


def overlap(a: FloatArray, b: FloatArray) -> float:
    """Intersection over union of two boxes, 0..1."""
    ax, ay, aw, ah = (float(v) for v in a)
    bx, by, bw, bh = (float(v) for v in b)
    w = min(ax + aw, bx + bw) - max(ax, bx)
    h = min(ay + ah, by + bh) - max(ay, by)
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / (aw * ah + bw * bh - w * h)


def keypoint_similarity(a: FloatArray, b: FloatArray, area: float) -> float:
    """0..1 for two poses (K, 3) of a person whose box has `area` square pixels.

    COCO's object keypoint similarity with one spread for all joints, since not every skeleton has published ones.
    """
    squared: NDArray[np.float32] = np.square(a[:, :2] - b[:, :2]).sum(axis=1)
    return float(np.exp(-squared / (2 * _KEYPOINT_SPREAD**2 * max(area, 1.0))).mean())
