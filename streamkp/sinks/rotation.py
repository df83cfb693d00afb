"""Recordings that run for weeks: a further file after so much time or so many bytes, and the oldest ones deleted.

The files of `rec.jsonl.gz` are `rec-20261126T221500Z.jsonl.gz` and so on, by the time (UTC) at which each begins. A
file that exists is never written to, so that a program that is started again goes on beside what is there. What `keep`
deletes are files of just these names in the same folder, those of earlier runs included.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from streamkp.graph.clock import Clock
from streamkp.graph.context_log import ContextLog
from streamkp.graph.stage import StageOptions

MB: Final = 1_000_000
_NO_ROOM: Final = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
RETRY: Final = 2_000_000_000  # ns between two attempts to write to a disk that was full


class RotatingOptions(StageOptions):
    """Options of a recording that may be spread over several files."""

    rotate_minutes: float | None = Field(
        None, gt=0, description="Go on in a further file after so many minutes; names then end in the time (UTC)."
    )
    rotate_mb: float | None = Field(None, gt=0, description="Go on in a further file after so many MB.")
    keep_files: int | None = Field(
        None, ge=1, description="With rotation: delete the oldest so that no more files than this are left."
    )
    keep_mb: float | None = Field(
        None, gt=0, description="With rotation: delete the oldest so that the files have no more MB than this."
    )

    @model_validator(mode="after")
    def _keep_needs_rotation(self) -> Self:
        if (self.keep_files or self.keep_mb) and not self.rotates:
            raise ValueError("keep_files and keep_mb need rotate_minutes or rotate_mb")
        return self

    @property
    def rotates(self) -> bool:
        """Whether the recording is spread over files."""
        return self.rotate_minutes is not None or self.rotate_mb is not None


class Series:
    """The files of one recording. Used by one thread."""

    def __init__(self, path: Path, options: RotatingOptions, clock: Clock, log: logging.Logger | ContextLog) -> None:
        self._path = path
        self._options = options
        self._clock = clock
        self._log = log
        self._began = 0
        name = path.name.removesuffix(".gz")
        stem, dot, suffix = name.rpartition(".")
        self._stem = stem if dot else name
        self._suffix = f"{dot}{suffix}" * bool(dot) + path.name[len(name) :]
        self._mine = re.compile(rf"{re.escape(self._stem)}-(\d{{8}}T\d{{6}}Z)(?:-(\d+))?{re.escape(self._suffix)}")

    def next(self) -> Path:
        """Where to go on: a file that does not exist. Makes room for it as `keep` says."""
        self._began = self._clock.monotonic()
        self._thin_out()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock.now() / 1e9))
        first = path = self._path.with_name(f"{self._stem}-{stamp}{self._suffix}")
        number = 1
        while path.exists():
            number += 1
            path = first.with_name(f"{self._stem}-{stamp}-{number}{self._suffix}")
        return path

    def due(self, size: int) -> bool:
        """Whether a file of so many bytes is to be followed by a further one."""
        options = self._options
        if options.rotate_mb is not None and size >= options.rotate_mb * MB:
            return True
        return options.rotate_minutes is not None and (
            self._clock.monotonic() - self._began >= options.rotate_minutes * 60e9
        )

    def _thin_out(self) -> None:
        options = self._options
        if options.keep_files is None and options.keep_mb is None:
            return
        found: list[tuple[tuple[str, int], Path, int]] = []
        for path in self._path.parent.iterdir():
            if (match := self._mine.fullmatch(path.name)) and path.is_file() and not path.is_symlink():
                found.append(((match[1], int(match[2] or 1)), path, path.stat().st_size))
        found.sort()
        files, size = len(found) + 1, sum(each[2] for each in found) + (options.rotate_mb or 0) * MB
        for _, path, its_size in found:
            within = options.keep_files is None or files <= options.keep_files
            if within and (options.keep_mb is None or size <= options.keep_mb * MB):
                return
            try:
                path.unlink()
            except OSError as error:
                self._log.warning("cannot delete the old recording %s: %s", path, error.strerror)
                continue
            files, size = files - 1, size - its_size


def is_full(error: OSError) -> bool:
    """Whether a write failed because the disk, or the share of this user, is full."""
    return error.errno in _NO_ROOM


class FullDisk:
    """A recording of live streams that pauses while the disk is full; asked before each frame."""

    def __init__(self, clock: Clock, log: logging.Logger | ContextLog) -> None:
        self._clock = clock
        self._log = log
        self._since: int | None = None
        self._tried = 0
        self._lost = 0

    @property
    def paused(self) -> bool:
        """Whether the last attempt failed."""
        return self._since is not None

    def may_try(self) -> bool:
        """Whether to try to write."""
        return self._since is None or self._clock.monotonic() - self._tried >= RETRY

    def failed(self, what: str) -> None:
        """An attempt failed."""
        self._tried = self._clock.monotonic()
        if self._since is None:
            self._since = self._tried
            self._log.error("%s: the disk is full; recording pauses, and goes on when there is room", what)

    def lost(self) -> None:
        """A frame was not written."""
        self._lost += 1

    def worked(self, what: str) -> None:
        """An attempt worked."""
        if self._since is not None:
            away = (self._clock.monotonic() - self._since) / 1e9
            self._log.warning("%s: there is room again after %.0f s; %d frames are missing", what, away, self._lost)
            self._since, self._lost = None, 0


def free_bytes(path: Path) -> int:
    """Room on the disk of a file to be."""
    try:
        stat = os.statvfs(path.parent)
    except (AttributeError, OSError):  # Windows
        return 1 << 62
    return stat.f_bavail * stat.f_frsize
