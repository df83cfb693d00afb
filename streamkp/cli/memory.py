"""Memory over long runs: the C library's, and Python's collector."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os

# From glibc's malloc.h.
_M_MMAP_THRESHOLD = -3
LARGE = 1 << 20  # bytes: less than a decoded frame or a network's input, more than what comes in thousands


def return_large_blocks() -> None:
    """Give blocks as large as video frames back to the system when they are freed.

    glibc does so at first. Once such a block was freed it keeps blocks of that size in heaps, one for every few
    threads; they fragment, and a run of hours grows by hundreds of megabytes that nobody uses. This concerns the whole
    process, so it is for the command line. Who has tuned malloc by its environment variables is left alone, and with
    other C libraries nothing happens.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "GLIBC_TUNABLES" in os.environ:
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, LARGE)


def keep_what_is_loaded() -> None:
    """Leave what is there now out of every later garbage collection.

    A collection of all modules and networks stops every thread for some tens of milliseconds, which is a frame of each
    stream. Nothing of it is let go before the process ends, so this is for commands with one run.
    """
    gc.collect()
    gc.freeze()
