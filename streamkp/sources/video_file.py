"""Video and image files: played from beginning to end, as fast as the graph takes them or at their own speed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.container import NANO, Reader
from streamkp.sources.timeline import Timeline

SLACK = NANO // 4  # headers are this inexact, or 1 %, without anything missing


def check_path(path: Path, label: str) -> None:
    """Raise a `SourceError` that says why `path` cannot be played, where the file system already knows."""
    try:
        if path.is_dir():
            raise SourceError(f"{label} is a directory; name a video or image file in it")
        if not path.exists():
            raise SourceError(f"there is no file {label}; check the path, relative ones start from {Path.cwd()}")
        if not path.is_file():
            raise SourceError(f"{label} is not a regular file; name a video or image file")
        with path.open("rb") as file:
            if not file.read(1):
                raise SourceError(f"{label} is empty (0 bytes); copy or record it again")
    except PermissionError:
        raise SourceError(f"no permission to read {label}; allow it, or run as a user who may") from None
    except OSError as error:
        raise SourceError(f"cannot read {label}: {error.strerror}") from None


def play(stream: StreamContext, timeline: Timeline, reader: Reader, *, realtime: bool = False) -> Iterator[Packet]:
    """All packets of one file, once.

    Raises:
        SourceError: it has no frames that can be decoded, or ends before its announced end (after the last packet).
    """
    with reader:
        stream.duration, stream.frames_total = reader.duration, reader.frames_total
        before, failure = timeline.frames, None
        due = previous = None
        try:
            for picture in reader.pictures():
                packet = timeline.packet(picture)
                if realtime:
                    if due is None or previous is None:
                        due = stream.clock.monotonic()
                    elif packet.epoch == previous.epoch:
                        due += packet.pts - previous.pts
                    if stream.wait((due - stream.clock.monotonic()) / NANO):
                        return
                    packet.captured_at = stream.clock.now()  # a camera would have seen it now
                    previous = packet
                yield packet
                if stream.stopping:
                    return
        except av.FFmpegError as error:
            failure = error.strerror
        frames = timeline.frames - before
        _judge(stream, reader, frames, failure)
        if realtime:
            stream.wait(reader.step / NANO)  # the last picture, too, lasts for its time


def _judge(stream: StreamContext, reader: Reader, frames: int, failure: str | None) -> None:
    """At the end of the file: was that all of it?"""
    label = stream.label
    if not frames:
        if reader.packets:
            raise SourceError(f"{label}: none of its {reader.packets} frames can be decoded; the file is damaged")
        raise SourceError(f"{label} has a video track without a single frame in it; record it again")
    if failure is not None:
        raise SourceError(f"{label}: reading failed after {frames} frames: {failure}")
    end = reader.announced_end if reader.measured else None
    missing = 0 if end is None else end - reader.end
    if end is not None and (reader.cut_off or missing > max(SLACK, end // 100)):
        raise SourceError(
            f"{label} was cut off: it should last {end / NANO:.1f} s and ends at {reader.end / NANO:.1f} s "
            f"({frames} frames were read); copy or record it again"
        )
    if reader.damaged:
        stream.log.warning("%s: %d damaged frames were left out, %d were read", label, reader.damaged, frames)


def open_file(path: Path, stream: StreamContext, *, threads: int, max_pixels: int) -> Reader:
    """Open a local file.

    Raises:
        SourceError: it is missing, not readable, not a video, or larger than `max_pixels`.
    """
    check_path(path, stream.label)
    # "file:" keeps a colon in the name from being taken for a protocol.
    target = f"file:{os.path.abspath(path)}"
    try:
        return Reader(target, stream.label, threads=threads, max_pixels=max_pixels)
    except av.FFmpegError as error:
        if _is_mp4(path):
            raise SourceError(
                f"{stream.label} is an MP4 without its index (moov): the recording or copy was cut off before its "
                "end; copy or record it again"
            ) from None
        raise SourceError(f"{stream.label} is not a video or image that can be read ({error.strerror})") from None


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] == b"ftyp"
