"""A camera of the reference data, and inverses of `streamkp.motion.camera`, to make inputs of known outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp.motion.camera import Intrinsics, rotate

Floats = NDArray[np.floating[Any]]

# Camera 54138969 of Human3.6M, for which ModelScope's video lifters are configured.
H36M_CAMERA = Intrinsics((1145.0494384765625, 1143.7811279296875), (512.54150390625, 515.4514770507812))


def from_screen_coordinates(points: Floats, width: float, height: float) -> Floats:
    """The inverse of `screen_coordinates`."""
    out: Floats = (points + np.array([1, height / width], points.dtype)) * (width / 2)
    return out


def camera_to_world(points: Floats, orientation: ArrayLike, position: ArrayLike) -> Floats:
    """The inverse of `world_to_camera`."""
    out: Floats = rotate(orientation, points) + np.asarray(position)
    return out
