"""Finds there-and-back movements in one signal while it happens.

The turning points are those of a zigzag: a direction has changed once the signal has come back from its extreme by
more than the hysteresis. This needs no fixed threshold and no knowledge of the future; it is the reversal rule of
hysteresis counting in fatigue analysis (rainflow, ASTM E1049), used online. Whether a movement is a whole repetition
is then judged by its range and start.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Turn:
    """One movement there and back. Times in ns, progress as defined by the exercise."""

    start: int  # left rest
    far: int  # first within reach of the far end
    leave: int  # last within reach of the far end
    end: int  # far enough on the way back
    low: float  # progress at rest before it
    high: float  # progress at the far end
    joined: bool  # first seen at its far end

    @property
    def travel(self) -> float:
        """Range of the way out."""
        return self.high - self.low


class Smoother:
    """A median over 0.11 s against single wild frames, then a first-order low-pass of 0.04 s."""

    WINDOW, TIME = 110_000_000, 40_000_000

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque(maxlen=64)
        self._value: float | None = None
        self._pts = 0

    def __call__(self, pts: int, value: float) -> float:
        """The smoothed value at `pts` (ns)."""
        recent = self._recent
        while recent and recent[0][0] < pts - self.WINDOW:
            recent.popleft()
        recent.append((pts, value))
        middle = median(v for _, v in recent)
        if self._value is None or not recent or pts - self._pts > 1_000_000_000:
            self._value = middle
        else:
            step = max(0, pts - self._pts)
            self._value += (middle - self._value) * step / (step + self.TIME)
        self._pts = pts
        return self._value


class Turns:
    """Feed it progress; it answers with a `Turn` on the sample that completes one."""

    NEAR = 0.15  # share of the range within which somebody is still at rest, or still at the far end
    REMEMBERED = 4000  # samples of one movement; the oldest go first

    def __init__(self, hysteresis: float, back: float, joins: float | None = None) -> None:
        """`joins`: whoever is first seen at this progress or above has come from rest (progress 0); None: has not."""
        self._hysteresis = hysteresis
        self._back = back
        self._joins = joins
        self.reset()

    def reset(self) -> None:
        """Forget the movement in progress, and that there was a signal before."""
        self._fresh = True
        self._start()

    def _start(self) -> None:
        self.out = False  # left rest, and not yet back
        self.low = self.high = 0.0  # progress at rest, and at the far end of the movement in progress
        self._path: deque[tuple[int, float]] = deque(maxlen=self.REMEMBERED)
        self._joined = False

    def add(self, pts: int, value: float) -> Turn | None:
        """One sample; the movement that it completes, if any."""
        if self._fresh:
            self._fresh = False
            self.low = value
            if self._joins is not None and value >= self._joins:
                self.low, self.high, self.out, self._joined = 0.0, value, True, True
        self._path.append((pts, value))
        if not self.out:
            if value <= self.low:
                self.low = value
                self._path.clear()
                self._path.append((pts, value))
            self.out = value > self.low + self._hysteresis
            self.high = value
            return None
        self.high = max(self.high, value)
        gone = self.high - value
        if gone < self._hysteresis or gone < self._back * (self.high - self.low):
            return None
        turn = self._turn(pts)
        self._start()
        self.low = value
        self._path.append((pts, value))
        return turn

    def since(self) -> int:
        """When the movement in progress left rest, ns."""
        return self._ends()[0]

    def _ends(self) -> tuple[int, int, int]:
        near = self.NEAR * (self.high - self.low)
        start = far = leave = self._path[0][0]
        top = False
        for pts, value in self._path:
            if value >= self.high - near:
                far, top, leave = (far if top else pts), True, pts
            elif not top and value <= self.low + near:
                start = pts
        return start, far, leave

    def _turn(self, pts: int) -> Turn:
        start, far, leave = self._ends()
        return Turn(start, far, leave, pts, self.low, self.high, self._joined)
