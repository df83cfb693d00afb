"""Random numbers that vary over time, and random rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

Floats = NDArray[np.floating[Any]]


def wander(random: np.random.Generator, shape: tuple[int, ...], frames: int, spacing: float) -> Floats:
    """Smooth noise of unit variance [B, frames, ...] for `shape` [B, ...]: a spline through random values `spacing`
    frames apart, the first of them somewhat before the first frame.
    """
    at = random.uniform(0, 1) + np.arange(frames) / spacing
    values = random.standard_normal((int(at[-1]) + 2, *shape))
    spline = CubicSpline(np.arange(len(values)), values, axis=0, bc_type="natural")
    return np.moveaxis(spline(at), 0, 1)


def chance(random: np.random.Generator, share: float, batch: int) -> NDArray[np.bool_]:
    """[B]: True for about `share` of the batch."""
    return random.random(batch) < share


def episodes(
    random: np.random.Generator, shape: tuple[int, ...], frames: int, starts: float, lasts: float
) -> NDArray[np.bool_]:
    """[B, frames, ...]: when something that starts with a chance of `starts` a frame, for `lasts` frames, is on."""
    out = np.zeros((shape[0], frames, *shape[1:]), bool)
    begin = random.random(out.shape) < starts
    for where in np.argwhere(begin):
        b, t, *rest = where
        out[(b, slice(t, t + 1 + int(random.exponential(lasts))), *rest)] = True
    return out


def rotations(vectors: Floats) -> Floats:
    """Rotation matrices [..., 3, 3] of rotation vectors [..., 3] in radians."""
    out: Floats = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)
    return out


def about(axis: int, angles: Floats) -> Floats:
    """Rotation matrices [..., 3, 3] about a coordinate axis by angles [...] in radians."""
    vectors = np.zeros((*angles.shape, 3))
    vectors[..., axis] = angles
    return rotations(vectors)
