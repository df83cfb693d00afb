"""The one way in which time enters the engine."""

from __future__ import annotations

import threading
import time


class Clock:
    """Real time. `streamkp.testing.ManualClock` is the one that tests drive by hand."""

    def now(self) -> int:
        """Unix time in nanoseconds."""
        return time.time_ns()

    def monotonic(self) -> int:
        """A clock that never goes back, in nanoseconds."""
        return time.monotonic_ns()

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait on a held condition for at most `timeout` seconds; False if the time ran out."""
        return condition.wait(timeout)
