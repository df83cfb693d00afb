"""One process at a time in a piece of the cache, by a lock that the system drops when its holder dies."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamkp.hub.cancel import PullInterruptedError

_RETRY_S = 0.1


@contextmanager
def locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock file `path` (created if absent, never removed) against other threads and processes.

    Raises `PullInterruptedError` when `stop` is set while waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(handle):
            if stop.wait(_RETRY_S):
                raise PullInterruptedError("interrupted while another process was fetching the same file")
        yield
    finally:
        os.close(handle)  # drops the lock


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
