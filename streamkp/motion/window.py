"""The last N poses of one track, on a regular time grid, for networks that read windows.

Rows are only ever appended; when the buffer is full a new one is allocated and the last N rows move there. A view
that was handed out is therefore never written to again, and a frame costs O(joints).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A grid time this share of a step after the newest frame counts as reached, and is extrapolated: otherwise a camera
# at the grid's own rate, whose timestamps are rounded or jitter, would be one frame late half of the time.
_REACH = 0.125
_FURTHEST = 1.5  # extrapolate by at most half of the time between the newest two frames


@dataclass(frozen=True, slots=True)
class Rows:
    """Read-only views of the newest N rows, oldest first: `points` (N, K, C) float32; `pts`, `seq` (N,) int64.

    The first N - `valid` rows repeat the oldest pose. `row` is the number of the newest one: rows are numbered
    consecutively, and a number is left out where the window started afresh.
    """

    points: NDArray[np.float32]
    pts: NDArray[np.int64]
    seq: NDArray[np.int64]
    valid: int
    row: int


class Window:
    """Append-only history of poses (K, C), the last channel being the score.

    With a `rate` (Hz), rows lie on a grid of that rate anchored at the first pose, linearly interpolated between
    the frames on either side; without, every frame is a row. A row's `seq` is that of the frame nearest in time.
    """

    def __init__(self, frames: int, rate: float | None = None, max_gap: float = 1.0) -> None:
        """`max_gap` in seconds: a longer silence starts the window afresh."""
        self._frames = frames
        self._step = 1e9 / rate if rate else None
        self._max_gap = max_gap * 1e9
        self._points: NDArray[np.float32] | None = None
        self._row = -2
        self._last: NDArray[np.float32]
        self._last_pts: int

    def push(self, points: NDArray[Any], pts: int, seq: int) -> None:
        """Add the pose (K, C) of a frame at `pts` ns; one that is not later than the newest frame is ignored."""
        pose = np.array(points, np.float32)
        if self._points is None or pose.shape != self._last.shape or pts - self._last_pts > self._max_gap:
            self._start(pose, pts, seq)
        elif pts <= self._last_pts:
            return
        elif self._step is None:
            self._append(pose, pts, seq)
        else:
            self._resample(pose, pts, seq, self._step)
        self._last, self._last_pts, self._last_seq = pose, pts, seq

    def clear(self) -> None:
        """Start afresh with the next pose."""
        self._points = None

    def rows(self) -> Rows:
        """The newest N rows, read-only; IndexError before the first pose."""
        if self._points is None:
            raise IndexError("the window is empty")
        last = slice(self._end - self._frames, self._end)
        points, pts, seq = self._points[last], self._pts[last], self._seq[last]
        for view in (points, pts, seq):
            view.flags.writeable = False
        return Rows(points, pts, seq, self._valid, self._row)

    def _start(self, pose: NDArray[np.float32], pts: int, seq: int) -> None:
        n = self._frames
        capacity = n + n // 2 + 1
        self._points = np.empty((capacity, *pose.shape), np.float32)
        self._pts = np.empty(capacity, np.int64)
        self._seq = np.empty(capacity, np.int64)
        self._points[:n], self._pts[:n], self._seq[:n] = pose, pts, seq
        self._end, self._valid = n, 1
        self._row += 2
        self._origin, self._ticks = pts, 0

    def _append(self, pose: NDArray[np.float32], pts: int, seq: int) -> None:
        assert self._points is not None
        if self._end == len(self._points):
            keep = slice(self._end - self._frames + 1, self._end)
            for name in ("_points", "_pts", "_seq"):
                full = getattr(self, name)
                fresh = np.empty_like(full)
                fresh[: self._frames - 1] = full[keep]
                setattr(self, name, fresh)
            self._end = self._frames - 1
        self._points[self._end], self._pts[self._end], self._seq[self._end] = pose, pts, seq
        self._end += 1
        self._row += 1
        self._valid = min(self._valid + 1, self._frames)

    def _resample(self, pose: NDArray[np.float32], pts: int, seq: int, step: float) -> None:
        reached = int((pts - self._origin) / step + _REACH)
        for tick in range(self._ticks + 1, reached + 1):
            time = self._origin + tick * step
            share = min((time - self._last_pts) / (pts - self._last_pts), _FURTHEST)
            weights = np.full(pose.shape[-1], share, np.float32)
            weights[-1] = min(share, 1.0)  # a score is not extrapolated
            row = self._last + weights * (pose - self._last)
            self._append(row, round(time), seq if share > 0.5 else self._last_seq)
        self._ticks = max(self._ticks, reached)
