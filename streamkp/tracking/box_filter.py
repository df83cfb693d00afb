"""Kalman filter on the box of one person: constant velocity of the centre, slowly varying size.

All noise is relative to the size of the person (the longer side), so that near and far people are treated alike;
time is in seconds of the source's clock, so that dropped frames and odd rates cost nothing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

from streamkp.packet import FloatArray

_CENTRE_NOISE = 0.03  # standard deviation of a measured centre, in sizes
_SHAPE_NOISE = 0.06  # of a measured width or height
_ACCELERATION = 1.5  # of a person's centre, in sizes / s^2
_SHAPE_DRIFT = 0.5  # of width and height, in sizes / sqrt(s)
_FIRST_SPEED = 0.5  # what a new person may move at, in sizes / s
_MEASUREMENT = np.diag(np.square((_CENTRE_NOISE, _CENTRE_NOISE, _SHAPE_NOISE, _SHAPE_NOISE)))  # of size 1


class BoxFilter:
    """State: cx, cy, w, h in pixels and the velocity of cx, cy in pixels per second."""

    def __init__(self, box: FloatArray) -> None:
        """Start at a box (4,): x, y, w, h in pixels."""
        self._kalman = kalman = KalmanFilter(dim_x=6, dim_z=4)
        kalman.H = np.eye(4, 6)
        kalman.x = np.append(_measured(box), (0.0, 0.0))
        centre, shape, speed = (s * self.size for s in (_CENTRE_NOISE, _SHAPE_NOISE, _FIRST_SPEED))
        kalman.P = np.diag(np.square((centre, centre, shape, shape, speed, speed)))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Estimated centre (2,) in pixels."""
        return self._kalman.x[:2].copy()  # type: ignore[no-any-return]

    @property
    def size(self) -> float:
        """Longer side of the estimated box in pixels."""
        return float(max(self._kalman.x[2], self._kalman.x[3]))

    @property
    def box(self) -> FloatArray:
        """The estimate as float32 (4,): x, y, w, h in pixels."""
        cx, cy, w, h = self._kalman.x[:4]
        return np.array((cx - w / 2, cy - h / 2, w, h), np.float32)

    def predict(self, dt: float) -> None:
        """Move on by `dt` seconds (>= 0)."""
        transition, noise = _motion(dt)
        self._kalman.predict(F=transition, Q=noise * self.size**2)

    def update(self, box: FloatArray) -> None:
        """Take in a measured box (4,): x, y, w, h in pixels, of positive size."""
        self._kalman.update(_measured(box), R=_MEASUREMENT * self.size**2)


def _measured(box: FloatArray) -> NDArray[np.float64]:
    x, y, w, h = box.tolist()
    return np.array((x + w / 2, y + h / 2, max(w, 1.0), max(h, 1.0)))


@lru_cache(maxsize=64)
def _motion(dt: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[6, 6] each, read-only: the transition of the state over `dt` seconds, and the process noise at a size of 1."""
    transition = np.eye(6)
    transition[0, 4] = transition[1, 5] = dt
    acceleration = _ACCELERATION**2
    noise = np.zeros((6, 6))
    noise[(0, 1), (0, 1)] = acceleration * dt**4 / 4
    noise[(0, 1, 4, 5), (4, 5, 0, 1)] = acceleration * dt**3 / 2
    noise[(4, 5), (4, 5)] = acceleration * dt**2
    noise[(2, 3), (2, 3)] = _SHAPE_DRIFT**2 * dt
    for shared in (transition, noise):
        shared.setflags(write=False)
    return transition, noise
