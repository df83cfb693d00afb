"""What surrounds EfficientDet-Lite: anchors and decoding (Tan et al. 2020, "EfficientDet", and its Lite variants)."""

from __future__ import annotations

from functools import cache

import numpy as np

from streamkp.packet import FloatArray
from streamkp.vision.nms import nms

PERSON = 0
_LEVELS = range(3, 8)
_OCTAVES = (0, 1, 2)
_ASPECTS = (1.0, 2.0, 0.5)  # width over height
_SCALE = 3.0
_CANDIDATES = 300


@cache
def anchors(size: int) -> FloatArray:
    """Anchors cx, cy, w, h (A, 4) in pixels of a `size` x `size` input; 19206 for 320."""
    levels = []
    for level in _LEVELS:
        stride = 2**level
        cells = -(-size // stride)
        y, x = ((np.mgrid[:cells, :cells] + 0.5) * stride).reshape(2, -1, 1)
        side = np.array([_SCALE * stride * 2 ** (octave / 3) for octave in _OCTAVES for _ in _ASPECTS])
        root = np.sqrt(np.array(_ASPECTS * len(_OCTAVES)))
        shape = np.broadcast_arrays(x, y, side * root, side / root)
        levels.append(np.stack(shape, axis=-1).reshape(-1, 4))
    result = np.concatenate(levels).astype(np.float32)
    result.flags.writeable = False
    return result


def decode_people(
    codes: FloatArray, scores: FloatArray, size: int, min_score: float, overlap: float
) -> tuple[FloatArray, FloatArray]:
    """People in one image: boxes x0, y0, x1, y1 in input pixels (N, 4) and scores (N,), best first.

    `codes` is (A, 4): y, x, h, w relative to the anchors; `scores` (A,) is the probability of a person.
    """
    found = np.flatnonzero(scores >= min_score)
    if len(found) > _CANDIDATES:
        found = found[np.argsort(-scores[found], kind="stable")[:_CANDIDATES]]
    cx, cy, w, h = anchors(size)[found].T
    y, x, log_h, log_w = codes[found].T
    x, y = cx + x * w, cy + y * h
    # A box is never much larger than the input; the limit keeps a wild code from overflowing.
    half_w, half_h = w * np.exp(np.minimum(log_w, 5)) / 2, h * np.exp(np.minimum(log_h, 5)) / 2
    boxes = np.stack((x - half_w, y - half_h, x + half_w, y + half_h), axis=1)
    kept = nms(boxes, scores[found], overlap)
    return boxes[kept], scores[found][kept]
