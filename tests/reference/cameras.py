"""Cameras of the reference data, and the way back from the coordinates that lifters read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.motion.camera import Intrinsics

Floats = NDArray[np.floating[Any]]

# Camera 54138969 of Human3.6M, for which ModelScope's video lifters are configured.
H36M_CAMERA = Intrinsics((1145.0494384765625, 1143.7811279296875), (512.54150390625, 515.4514770507812))


def from_screen_coordinates(points: Floats, width: float, height: float) -> Floats:
    """The inverse of `streamkp.motion.camera.screen_coordinates`."""
    out: Floats = (points + np.array([1, height / width], points.dtype)) * (width / 2)
    return out
