"""Poses relative to their root joint, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def split_root(poses: Floats, root: int = 0) -> tuple[Floats, Floats]:
    """[..., K, C] -> poses relative to joint `root` [..., K, C], and that joint [..., 1, C]."""
    at = poses[..., root : root + 1, :]
    return poses - at, at


def join_root(relative: Floats, at: Floats) -> Floats:
    """The inverse of `split_root`."""
    out: Floats = relative + at
    return out
