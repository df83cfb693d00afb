"""How busy a node is, from its engine's own figures."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from streamkp.fleet.messages import Load
from streamkp.graph.engine import ThreadEngine

EVERY, WINDOW = 1.0, 5.0  # seconds between two looks at the figures; over which drops are counted
LOOKS: Final = 10  # looks over which latency is taken


@dataclass(frozen=True, slots=True)
class _Look:
    """The counts at one time: frames read and dropped, CPU seconds."""

    at: float
    frames: int
    dropped: int
    cpu: float


class LoadMeter:
    """Measures an engine again and again. For one thread.

    Latency is the median, over the last looks, of the 95th percentile of what was published between two looks: messages
    that waited for a broker, all sent when it is back, say nothing about how busy the node is.
    """

    def __init__(self) -> None:
        self.latest = Load()
        self._engine: ThreadEngine | None = None
        self._history: list[_Look] = []
        self._published: dict[tuple[str, str], int] = {}  # by stage and stream
        self._slow: deque[float] = deque(maxlen=LOOKS)  # 95th percentiles, seconds

    def measure(self, engine: ThreadEngine, now: float) -> Load:
        """The load now, `now` in seconds; at most one look at the figures a second."""
        if engine is not self._engine:
            self._engine, self._history = engine, []
            self._published.clear()
            self._slow.clear()
        if self._history and now - self._history[-1].at < EVERY:
            return self.latest
        source = engine.spec.source.name
        frames = dropped = 0
        fps = 0.0
        latency: list[float] = []
        published: dict[tuple[str, str], int] = {}
        for row in engine.figures():
            if row.stage == source:
                frames += row.done
                fps += row.fps
            dropped += row.dropped_overflow + row.dropped_stale
            key = row.stage, row.stream
            published[key] = sum(row.latency_counts)
            fresh = published[key] - self._published.get(key, 0)
            latency += row.latency[-fresh:] if fresh > 0 else ()
        self._published = published
        self._slow.append(float(np.percentile(latency, 95)) if latency else 0.0)
        self._history.append(_Look(now, frames, dropped, time.process_time()))
        while len(self._history) > 2 and now - self._history[1].at >= WINDOW:
            del self._history[0]
        first, last = self._history[0], self._history[-1]
        # A stream that was removed takes its counts with it: nothing can be said until the window is past that.
        came = max(frames - first.frames, 0)
        lost = min(max(dropped - first.dropped, 0), came)
        heard = [seconds for seconds in self._slow if seconds]
        self.latest = Load(
            p95_ms=round(median(heard) * 1e3, 1) if heard else 0.0,
            dropped=round(lost / came, 4) if came else 0.0,
            fps=round(fps, 1),
            cores=round((last.cpu - first.cpu) / (now - first.at), 2) if now > first.at else 0.0,
        )
        return self.latest
