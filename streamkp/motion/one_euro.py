"""One-Euro filter on the joints of one person.

A low-pass filter whose cut-off rises with speed: little jitter at rest, little lag in motion. Source: Casiez,
Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. As in MediaPipe's landmark smoothing, the speed is divided by the size of the person.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Speeds are counted as if every person were this large, so that `beta` has the magnitude usual for pixels.
REFERENCE_SIZE = 1000.0
_NEVER = np.int64(-(2**62))


class OneEuro:
    """One-Euro filter over an array of coordinates, one time base and history per joint.

    A joint that was not finite for a while is filtered over the true time since it was last seen, and starts
    afresh from its raw position after `max_gap` seconds.
    """

    def __init__(
        self,
        min_cutoff: float = 0.05,
        beta: float = 0.064,
        derivative_cutoff: float = 1.0,
        max_gap: float = 1.0,
    ) -> None:
        """`min_cutoff` and `derivative_cutoff` in Hz, `beta` in Hz per unit of speed, `max_gap` in seconds."""
        self.tune(min_cutoff, beta, derivative_cutoff, max_gap)
        self._value: NDArray[np.float64] | None = None
        self._raw: NDArray[np.float64]
        self._speed: NDArray[np.float64]
        self._time: NDArray[np.int64]
        self._last: int | None = None  # the time of every joint, while it is the same

    def tune(self, min_cutoff: float, beta: float, derivative_cutoff: float, max_gap: float = 1.0) -> None:
        """Other parameters from the next frame on; what the filter remembers stays."""
        self._min_cutoff = min_cutoff
        self._beta = beta
        self._derivative_rate = 2 * math.pi * derivative_cutoff
        self._max_gap = max_gap

    def __call__(self, points: NDArray[Any], pts: int, size: float) -> NDArray[np.float64]:
        """The filtered coordinates of one frame.

        `points` is (K, D) in any unit, `pts` the frame's time in nanoseconds, `size` the person's size in the
        unit of `points` (> 0). Returns float64 (K, D). A joint with a NaN or infinite coordinate comes back as
        it is; a frame no later than the one before gives the positions already known, or the raw position of a
        joint that was not.
        """
        raw = np.asarray(points, np.float64)
        if self._last is not None and self._value is not None and len(self._value) == len(raw):
            gap = (pts - self._last) * 1e-9
            if 0 < gap <= self._max_gap and np.isfinite(raw).all():
                return self._next(raw, gap, pts, size)
            self._time, self._last = np.full((len(raw), 1), self._last), None
        seen = np.isfinite(raw).all(axis=1, keepdims=True)
        if self._value is None or len(self._value) != len(raw):
            self._value = raw.copy()
            self._raw = raw.copy()
            self._speed = np.zeros_like(raw)
            self._time = np.where(seen, np.int64(pts), _NEVER)
            self._last = pts if seen.all() else None
            return raw.copy()
        dt = (pts - self._time) * 1e-9
        stale = dt > self._max_gap
        dt = np.where(stale, 0.0, np.maximum(dt, 0.0))
        value = np.where(stale, raw, self._value)

        with np.errstate(divide="ignore", invalid="ignore"):  # dt = 0 and unseen joints are sorted out below
            speed = (raw - self._raw) * (REFERENCE_SIZE / size) / dt
            speed = self._speed + _weight(self._derivative_rate, dt) * (speed - self._speed)
            rate = 2 * math.pi * (self._min_cutoff + self._beta * np.abs(speed))
            value = np.where(dt > 0, value + _weight(rate, dt) * (raw - value), value)

        moved = seen & (dt > 0)
        fresh = seen & stale
        known = moved | fresh
        self._value = np.where(known, value, self._value)
        self._raw = np.where(known, raw, self._raw)
        self._speed = np.where(moved, speed, np.where(fresh, 0.0, self._speed))
        self._time = np.where(known, np.int64(pts), self._time)
        if known.all():
            self._last = pts
        return np.where(seen, value, raw)

    def _next(self, raw: NDArray[np.float64], gap: float, pts: int, size: float) -> NDArray[np.float64]:
        """The usual case, in a third of the time: every joint is seen, as it was `gap` seconds before."""
        assert self._value is not None
        speed = (raw - self._raw) * (REFERENCE_SIZE / size) / gap
        speed = self._speed + _weight(self._derivative_rate, gap) * (speed - self._speed)
        rate = 2 * math.pi * (self._min_cutoff + self._beta * np.abs(speed))
        value: NDArray[np.float64] = self._value + _weight(rate, gap) * (raw - self._value)
        self._value, self._raw, self._speed, self._last = value, raw.copy(), speed, pts
        return value.copy()


def _weight(rate: float | NDArray[Any], dt: float | NDArray[Any]) -> Any:
    """Weight of the newest sample in exponential smoothing with a cut-off of `rate` rad/s."""
    periods = rate * dt
    return periods / (1 + periods)
