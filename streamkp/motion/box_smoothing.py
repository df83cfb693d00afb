"""Smoothing by how far a joint moved for the size of its person, as ModelScope's 3D pipelines do it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRENGTH = 15.0

Floats = NDArray[np.floating[Any]]


def smooth_step(points: Floats, previous: Floats, box: Floats) -> Floats:
    """One frame: joints that barely moved stay where they were, joints that moved far follow at once.

    Args:
        points, previous: [..., K, 2] pixels; `previous` is the smoothed pose of the frame before.
        box: [..., 4] x1, y1, x2, y2 of the person; in an empty box nothing is smoothed.
    """
    size = box[..., 2:4] - box[..., 0:2]
    empty = np.any(size <= 0, axis=-1, keepdims=True)[..., None]
    width = np.where(empty, 1, size[..., :1, None])  # the reference scales both axes with the width
    inertia = np.exp(-STRENGTH / width * np.abs(points - previous))
    return np.where(empty, points, (1 - inertia) * points + inertia * previous)
