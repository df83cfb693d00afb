"""`record`: JSON Lines, one line per frame, the same message that is published; or MCAP, by the name of the file.

Every line goes to the system in one write, so that all finished lines survive a killed process. In a file whose name
ends in `.gz` lines are compressed about a second at a time, each time into a gzip member of its own: such a file, too,
is whole up to there. An MCAP file is written in pieces of 64 kB; what was written is readable without its end. A file
that exists is replaced only with `overwrite: true`, or `--overwrite` on the command line. A named pipe needs
a reader before the graph starts. `rotate_minutes` and `rotate_mb` spread a recording over files.

Where the disk is full the file is cut back to its last whole line. Frames of files then end the recording with an
error; for cameras it pauses, counts the frames as `undelivered`, and goes on when there is room. An MCAP file
ends there.
"""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.packet import Packet
from streamkp.sinks._mcap_file import McapFile
from streamkp.sinks.message_sink import MessageSink
from streamkp.sinks.paths import FreshFile, refuse_existing
from streamkp.sinks.rotation import FullDisk, RotatingOptions, Series, is_full

MEMBER_BYTES: Final = 1 << 16  # of lines that are compressed together, at most
# What people want who give a recording such a name.
_OTHERS: Final = {f".{kind}": f"for this, --add-sink 'record-{kind}{{path: FILE}}'" for kind in ("bvh", "csv", "trc")}
_VIDEOS: Final = dict.fromkeys((".mp4", ".mkv", ".mov", ".avi", ".webm"), "for a video, --render")
MEMBER_TIME: Final = 1_000_000_000  # ns of lines that are compressed together, at most


class Record(MessageSink):
    """Writes one line of JSON per frame to a file, or to an MCAP file where its name ends in .mcap."""

    class Options(RotatingOptions):
        path: Path = Field(
            description="File to write: JSON Lines, compressed where it ends in .gz; MCAP (Foxglove) where in .mcap."
        )
        overwrite: bool = Field(False, description="Replace the file if it exists.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        kind = Path(options.path.name.lower().removesuffix(".gz")).suffix
        better = _OTHERS.get(kind) or (None if options.path.exists() else _VIDEOS.get(kind))
        if better is not None:
            raise UsageError(f"{options.path}: a recording is JSON Lines (.jsonl, .jsonl.gz) or MCAP (.mcap); {better}")

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"]

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path]

    def open(self) -> None:
        path, clock = self.options.path, self.context.clock
        self._series = Series(path, self.options, clock, self.context.log) if self.options.rotates else None
        refuse_existing(self.context.name, path, self.options.overwrite or self.options.rotates)
        if self._series is not None and path.exists() and not path.is_file():
            raise UsageError(f"{self.context.name}: {path} is no file, and cannot be spread over several")
        self._full = FullDisk(clock, self.context.log)
        self._missing: dict[str, int] = {}  # frames of each stream that the next line tells of
        self._lines: list[tuple[str, int, bytes]] = []  # to be compressed: stream, what was dropped before, line
        self._since = 0
        self._any = False  # a frame has come
        self._live = False
        self._mcap = self._next_mcap() if path.suffix.lower() == ".mcap" else None
        if self._mcap is None:
            self._file = self._next_file()

    def process(self, packet: Packet) -> None:
        self._live = packet.expires_at is not None
        super().process(packet)

    def send(self, message: wire.Message) -> None:
        self._any = True
        if self._mcap is not None:
            self._send_mcap(self._mcap, message)
            return
        stream = message["stream"]
        if not self._full.may_try():
            self._lose(stream, message["dropped"])
            return
        message["dropped"] += self._missing.pop(stream, 0)
        line = wire.encode(message, "json") + b"\n"
        if self._file.compressed:
            self._since = self._since if self._lines else self.context.clock.monotonic()
            self._lines.append((stream, message["dropped"], line))
            if (
                sum(len(each) for *_, each in self._lines) < MEMBER_BYTES
                and self.context.clock.monotonic() - self._since < MEMBER_TIME
            ):
                return
            self._write_member()
        elif not self._write(line):
            self._lose(stream, message["dropped"])
        if self._series is not None and self._series.due(self._file.size) and not self._full.paused:
            self._rotate()

    def close(self) -> None:
        if not self._any and not self._full.paused:
            self.context.log.warning("no frame came; %s was not written", self.options.path)
        if self._mcap is not None:
            self._close_mcap(self._mcap)
            return
        try:
            if self._lines:
                self._write_member()
        finally:
            self._file.close()
        if self._full.paused:
            raise OutputError(f"{self.context.name}: the disk is full; {self._file.path} ends early")

    def _send_mcap(self, file: McapFile, message: wire.Message) -> None:
        try:
            file.write(message)
            due = self._series is not None and self._series.due(self._mcap_path.stat().st_size)
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot write to {self._mcap_path}: {error.strerror}") from None
        if due:
            self._close_mcap(file)
            self._mcap = self._next_mcap()

    def _next_mcap(self) -> McapFile:
        self._mcap_path = path = self.options.path if self._series is None else self._series.next()
        try:
            return McapFile(path)
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None

    def _close_mcap(self, file: McapFile) -> None:
        try:
            file.close()
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot finish {self._mcap_path}: {error.strerror}") from None

    def _write_member(self) -> None:
        lines, self._lines = self._lines, []
        if not self._write(gzip.compress(b"".join(line for *_, line in lines), compresslevel=5)):
            for stream, dropped, _ in lines:
                self._lose(stream, dropped)

    def _write(self, data: bytes) -> bool:
        """Write bytes that belong together; False where the disk is full and that is no error."""
        what = f"{self.context.name}: {self._file.path}"
        try:
            self._file.write(data)
        except OSError as error:
            if self._live and is_full(error):
                self._full.failed(what)
                return False
            raise OutputError(
                f"{self.context.name}: cannot write to {self._file.path}: {error.strerror}; "
                "the lines before this one are whole"
            ) from None
        self._full.worked(what)
        return True

    def _lose(self, stream: str, before: int) -> None:
        self._missing[stream] = self._missing.get(stream, 0) + 1 + before
        self._full.lost()
        self.context.undelivered(stream, 1)

    def _rotate(self) -> None:
        before = self._file
        try:
            self._file = self._next_file()
        except _NoRoom:
            self._full.failed(f"{self.context.name}: {before.path}")
            return
        before.close()

    def _next_file(self) -> _File:
        path = self.options.path if self._series is None else self._series.next()
        try:
            return _File(path, new=self._series is not None)
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise OutputError(
                    f"{self.context.name}: nobody reads the pipe {path}: start its reader first"
                ) from None
            kind = _NoRoom if is_full(error) and self._live else OutputError
            raise kind(f"{self.context.name}: cannot write {path}: {error.strerror}") from None


class _NoRoom(OutputError):
    """A further file of a recording of cameras cannot be begun, for the disk is full."""


class _File:
    """A file that ends in whole pieces, whatever happens."""

    def __init__(self, path: Path, *, new: bool) -> None:
        self.path = path
        self.compressed = path.suffix == ".gz"
        self.size = 0  # bytes of whole pieces
        self._file = FreshFile(path, exclusive=new)

    def write(self, data: bytes) -> None:
        """Write one piece, or nothing of it. Raises OSError."""
        rest = memoryview(data)
        file = self._file.begin().fileno()
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError:
            if os.path.isfile(self.path):
                os.ftruncate(file, self.size)
                os.lseek(file, self.size, os.SEEK_SET)
            raise
        self.size += len(data)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:  # network file systems tell only now
            raise OutputError(f"cannot finish {self.path}: {error.strerror}") from None
