"""What surrounds YOLOX: decoding of its raw heads (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021")."""

from __future__ import annotations

from functools import cache

import numpy as np

from streamkp.packet import FloatArray
from streamkp.vision.nms import nms

PERSON = 0
_STRIDES = (8, 16, 32)
_CANDIDATES = 300


@cache
def grid(height: int, width: int) -> FloatArray:
    """Cell x, y and stride of every row of the heads (A, 3), in order; 3549 for 416 x 416."""
    levels = []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride].reshape(2, -1)
        levels.append(np.stack((x, y, np.full_like(x, stride)), axis=1))
    result = np.concatenate(levels).astype(np.float32)
    result.flags.writeable = False
    return result


def decode_people(
    raw: FloatArray, height: int, width: int, min_score: float, overlap: float
) -> tuple[FloatArray, FloatArray]:
    """People in one image: boxes x0, y0, x1, y1 in input pixels (N, 4) and scores (N,), best first.

    `raw` is (A, 5 + classes): x, y, log w, log h relative to cell and stride, then the probabilities of an object
    and of each class.
    """
    scores = raw[:, 4] * raw[:, 5 + PERSON]
    found = np.flatnonzero(scores >= min_score)
    if len(found) > _CANDIDATES:
        found = found[np.argsort(-scores[found], kind="stable")[:_CANDIDATES]]
    cells = grid(height, width)[found]
    stride = cells[:, 2:]
    centre = (raw[found, :2] + cells[:, :2]) * stride
    half = np.exp(np.minimum(raw[found, 2:4], 8)) * stride / 2
    boxes = np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
    kept = nms(boxes, scores[found], overlap)
    return boxes[kept], scores[found][kept]
