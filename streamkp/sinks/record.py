"""`record`: JSON Lines, one line per frame, the same message that is published; or MCAP, by the name of the file.

Every line goes to the system in one write, so that all finished lines survive a killed process. Where the disk is
full the file is cut back to its last whole line. An MCAP file is written in pieces of 64 kB; what was written is
readable without its end. A file that exists is replaced only with `overwrite: true`, or
`--overwrite` on the command line. A named pipe needs a reader before the graph starts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from streamkp import wire
from streamkp.errors import OutputError
from streamkp.graph.stage import StageOptions
from streamkp.sinks._mcap_file import McapFile
from streamkp.sinks.message_sink import MessageSink
from streamkp.sinks.paths import refuse_existing


class Record(MessageSink):
    """Writes one line of JSON per frame to a file, or to an MCAP file where its name ends in .mcap."""

    class Options(StageOptions):
        path: Path = Field(description="File to write: JSON Lines, or MCAP (Foxglove) where it ends in .mcap.")
        overwrite: bool = Field(False, description="Replace the file if it exists.")

    options: Options

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"]

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path]

    def open(self) -> None:
        path = self.options.path
        refuse_existing(self.context.name, path, self.options.overwrite)
        self._mcap: McapFile | None = None
        if path.suffix.lower() == ".mcap":
            try:
                self._mcap = McapFile(path)
            except OSError as error:
                raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
        try:
            # Without O_NONBLOCK the opening of a named pipe would wait for a reader, and nothing could end it.
            self._file = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise OutputError(
                    f"{self.context.name}: nobody reads the pipe {path}: start its reader first"
                ) from None
            raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None
        if hasattr(os, "O_NONBLOCK"):
            os.set_blocking(self._file, True)
        self._whole = 0  # bytes of whole lines

    def send(self, message: wire.Message) -> None:
        if self._mcap is not None:
            try:
                self._mcap.write(message)
            except OSError as error:
                path = self.options.path
                raise OutputError(f"{self.context.name}: cannot write to {path}: {error.strerror}") from None
            return
        line = wire.encode(message, "json") + b"\n"
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._cut_back()
            raise OutputError(
                f"{self.context.name}: cannot write to {self.options.path}: {error.strerror}; "
                "the lines before this one are whole"
            ) from None
        self._whole += len(line)

    def close(self) -> None:
        try:
            if self._mcap is not None:
                self._mcap.close()
            else:
                os.close(self._file)
        except OSError as error:  # network file systems tell only now
            raise OutputError(f"{self.context.name}: cannot finish {self.options.path}: {error.strerror}") from None

    def _cut_back(self) -> None:
        if os.path.isfile(self.options.path):
            os.ftruncate(self._file, self._whole)
            os.lseek(self._file, self._whole, os.SEEK_SET)
