"""The clock by which leases run."""

from __future__ import annotations

import time


def lease_time() -> float:
    """Seconds of a clock that never goes back, and that runs on while a machine sleeps where the system has one: a
    lease must not outlast the sleep of its node.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
