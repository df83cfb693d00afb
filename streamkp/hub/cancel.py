"""Stopping a pull so that nothing half-done stays."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from streamkp.errors import ModelError


class PullInterruptedError(ModelError):
    """A pull was told to stop; nothing half-done stays."""


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM end the block as an exception, so that children are ended and folders cleared on the way out.

    Only where the program has not decided otherwise: in the main thread, with the system's default in place.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
