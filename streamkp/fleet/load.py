"""How busy a node is, from its engine's own figures."""

from __future__ import annotations

import time

import numpy as np

from streamkp.fleet.messages import Load
from streamkp.graph.engine import ThreadEngine

EVERY, WINDOW = 1.0, 5.0  # seconds between two looks at the figures; over which drops are counted


class LoadMeter:
    """Measures an engine again and again. For one thread."""

    def __init__(self) -> None:
        self.latest = Load()
        self._engine: ThreadEngine | None = None
        self._history: list[tuple[float, int, int, float]] = []  # time, frames, dropped, CPU seconds

    def measure(self, engine: ThreadEngine, now: float) -> Load:
        """The load now, `now` in seconds; at most one look at the figures a second."""
        if engine is not self._engine:
            self._engine, self._history = engine, []
        if self._history and now - self._history[-1][0] < EVERY:
            return self.latest
        source = engine.spec.source.name
        frames = dropped = 0
        fps = 0.0
        latency: list[float] = []
        for row in engine.figures():
            if row.stage == source:
                frames += row.done
                fps += row.fps
            dropped += row.dropped_overflow + row.dropped_stale
            latency += row.latency
        self._history.append((now, frames, dropped, time.process_time()))
        while len(self._history) > 2 and now - self._history[1][0] >= WINDOW:
            del self._history[0]
        then, frames_then, dropped_then, cpu_then = self._history[0]
        # A stream that was removed takes its counts with it: nothing can be said until the window is past that.
        new = max(frames - frames_then, 0)
        lost = min(max(dropped - dropped_then, 0), new)
        self.latest = Load(
            p95_ms=round(float(np.percentile(latency, 95)) * 1e3, 1) if latency else 0.0,
            dropped=round(lost / new, 4) if new else 0.0,
            fps=round(fps, 1),
            cores=round((self._history[-1][3] - cpu_then) / (now - then), 2) if now > then else 0.0,
        )
        return self.latest
