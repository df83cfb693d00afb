"""The base of sinks that write one person's motion to a file of one frame rate.

The number of frames in the header is right after every frame, so that a file survives a killed process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from streamkp.plugin import FreshFile, OutputError, Packet, Person, Sink, StageOptions, refuse_existing
from streamkp_plugins.mocap.performer import Performer

_DIGITS = 10


@dataclass
class Counted:
    """A place in the header for the number of frames."""

    at: int = 0


class MotionFile(Sink):
    """Puts the frames of one person on the file's time grid; a frame that never came repeats the one before it."""

    needs = ("kinematics",)

    class Options(StageOptions):
        path: Path = Field(description="File to write.")
        overwrite: bool = Field(False, description="Replace the file if it exists.")
        rate: float = Field(30.0, gt=0, le=240, description="Frames a second; the file has one rate.")
        stream: str | None = Field(None, description="Only this stream; the first that shows a person otherwise.")

    options: Options

    def header(self, packet: Packet, person: Person) -> list[str | Counted]:
        """What comes before the frames, from the first one."""
        raise NotImplementedError

    def values(self, packet: Packet, person: Person) -> Sequence[float]:
        """The numbers of a frame."""
        raise NotImplementedError

    def row(self, number: int, values: Sequence[float]) -> str:
        """The line of a frame; `number` counts from 0."""
        raise NotImplementedError

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"]

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path]

    def open(self) -> None:
        path = self.options.path
        refuse_existing(self.context.name, path, self.options.overwrite)
        try:
            self._opened = FreshFile(path)
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot write {path}: {error.strerror}") from None
        self._performer = Performer(self.options.stream)
        self._frames = 0
        self._counts: list[Counted] = []
        self._begin: int | None = None

    def process(self, packet: Packet) -> None:
        person = self._performer.choose(packet)
        if person is None:
            return
        try:
            if self._begin is None:
                self._begin = packet.pts
                self._file = self._opened.begin()
                self._start(self.header(packet, person))
            due = int((packet.pts - self._begin) * self.options.rate / 1e9 + 1e-6) + 1
            if due - self._frames > 60 * self.options.rate:  # the clock has jumped: no minutes of standing still
                self._begin += packet.pts - self._begin - round(self._frames * 1e9 / self.options.rate)
                due = self._frames + 1
            if due > self._frames:
                values = self.values(packet, person)
                lines = [self.row(number, values) for number in range(self._frames, due)]
                self._file.write("".join(lines).encode())
                self._frames = due
                self._write_counts()
        except OSError as error:
            path = self.options.path
            raise OutputError(f"{self.context.name}: cannot write to {path}: {error.strerror}") from None

    def stream_ended(self, stream: str) -> None:
        self._performer.stream_ended(stream)

    def close(self) -> None:
        try:
            self._opened.close()
        except OSError as error:
            raise OutputError(f"{self.context.name}: cannot finish {self.options.path}: {error.strerror}") from None
        if not self._frames:
            self.context.log.warning("nobody with `kinematics` was seen; %s was not written", self.options.path)

    def _start(self, parts: list[str | Counted]) -> None:
        for part in parts:
            if isinstance(part, Counted):
                part.at = self._file.tell()
                self._counts.append(part)
                part = f"{0:<{_DIGITS}}"
            self._file.write(part.encode())

    def _write_counts(self) -> None:
        end = self._file.tell()
        for count in self._counts:
            self._file.seek(count.at)
            self._file.write(f"{self._frames:<{_DIGITS}}".encode())
        self._file.seek(end)
        self._file.flush()
