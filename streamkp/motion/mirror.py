"""Left and right exchanged: what a pose is in a mirror, and averaging a network over both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.skeletons import Skeleton

Floats = NDArray[np.floating[Any]]


def mirror(points: Floats, skeleton: Skeleton) -> Floats:
    """Poses [..., K, C] as in a mirror: x changes its sign, left and right joints their places (a copy).

    x must be 0 on the mirror plane: camera axes, or image coordinates around the principal point.
    """
    mirrored = points[..., list(skeleton.mirror), :]
    mirrored[..., 0] *= -1
    return mirrored


def flip_average(plain: Floats, flipped: Floats, skeleton: Skeleton) -> Floats:
    """Mean of a network's poses [..., K, C] and of those it gave for the mirrored input."""
    out: Floats = (plain + mirror(flipped, skeleton)) / 2
    return out
