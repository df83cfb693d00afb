"""Standard output as the commands need it: its failures are said once, in words, whatever prints."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from rich.console import Console

from streamkp.errors import OutputError

NO_EDGE: Final = 10_000  # columns


class ReaderGone(BaseException):
    """Who read our output has had enough (`streamkp ... | head`). No `Exception`: nothing on the way may catch it."""


class _Output(io.FileIO):
    """A file descriptor whose errors have names of their own."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise OutputError(f"cannot write to the standard output: {error.strerror}") from None


@contextmanager
def checked_output() -> Iterator[None]:
    """Give `sys.stdout` such a descriptor; at the end what is still in its buffer is written, and may fail too."""
    before = sys.stdout
    try:
        number = before.fileno()
        before.flush()
    except (AttributeError, ValueError, OSError):  # closed, or a test's
        yield
        return
    raw = _Output(number, "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=before.encoding, errors="replace", line_buffering=before.isatty()
    )
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (ReaderGone, OutputError):
        with suppress(OSError):  # nothing more is to be written, neither here nor when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        raise
    finally:
        sys.stdout = before


def printable(text: str) -> str:
    """The text without what a terminal would obey rather than show: escapes, line breaks, changes of direction."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def console() -> Console:
    """The standard output, for tables and text: as wide as the terminal; a pipe or file has no edge at which to cut."""
    return Console() if sys.stdout.isatty() else Console(width=NO_EDGE)


def errors_console() -> Console:
    """Where errors are told, each on a line as long as it is."""
    return Console(stderr=True, soft_wrap=True)
