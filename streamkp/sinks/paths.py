"""Files that sinks may write: one rule for graph files and for the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from streamkp.errors import UsageError


def refuse_existing(stage: str, path: Path, overwrite: bool) -> None:
    """Raise UsageError where `path` is a file that may not be replaced, or lies in no folder.

    Pipes and devices are written to, never replaced.
    """
    if path.is_file() and not overwrite:
        raise UsageError(
            f"{stage}: {path} exists; choose another path, or replace it with --overwrite (`overwrite: true` in a "
            "graph file)"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{stage}: {path} cannot be written: there is no folder {path.parent}")


class FreshFile:
    """A file to write that is emptied by the first write, not before; without one it is as if it had not been opened.

    So a run that fails before its first result leaves what it was to replace, and no empty file that the next run would
    have to replace.
    """

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        """Raises OSError where it cannot be written; with `exclusive`, also where it exists."""
        self.path = path
        self._new = not path.exists()
        self.written = False
        # Without O_NONBLOCK the opening of a named pipe would wait for a reader, and nothing could end it.
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        number = os.open(path, flags | (os.O_EXCL if exclusive else 0), 0o666)
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(number, True)
        self.file: BinaryIO = os.fdopen(number, "wb")

    def begin(self) -> BinaryIO:
        """The file, empty the first time."""
        if not self.written and self.path.is_file():
            self.file.truncate(0)
        self.written = True
        return self.file

    def close(self) -> None:
        """Raises OSError where it cannot be finished."""
        self.file.close()
        if self._new and not self.written and self.path.is_file():
            self.path.unlink()
