"""Opens lifters in tests: options and how to run it as keywords."""

from __future__ import annotations

from typing import Any

from streamkp.models.lift import lifters
from streamkp.models.lift.base import LifterOptions, Memory
from streamkp.models.lift.lifters import Lifter
from streamkp.runtimes.base import RunOptions


def open_lifter(
    model: str,
    *,
    memory: Memory | None = None,
    device: Any = "auto",
    runtime: Any = "auto",
    threads: int = 1,
    **options: Any,
) -> Lifter:
    """A lifter by name or file."""
    return lifters.open_lifter(model, LifterOptions(run=RunOptions(device, runtime, threads), **options), memory)
