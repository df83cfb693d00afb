"""What the user decides about a lifter; see the options of `lift-3d`."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from streamkp.runtimes.torch import Run, open_run

Memory = MutableMapping[tuple[str, int], Any]  # by stream and track id; what is in it is the method's own affair


@dataclass(frozen=True)
class Choices:
    """None: as the network's authors do it, or what costs less."""

    lookahead: int | None = 0
    hop: int | None = None
    flip: bool | None = None
    causal: bool | None = None
    trajectory: bool = False
    incremental: bool | None = None
    memory: Memory | None = None  # what is kept of each track; None: every window is read by itself
    threads: int = 2
    cuda: bool = False
    open_run: Callable[..., Run] = open_run  # with device, runtime and threads
