"""Video and image files: played from beginning to end, as fast as the graph takes them or at their own speed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import av

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.complete import is_cut_off
from streamkp.sources.container import VideoReader
from streamkp.sources.device_frames import DeviceFrames, HostDecoding
from streamkp.sources.orientation import Rotate
from streamkp.sources.shape import Thinning
from streamkp.sources.timeline import NANO, Timeline

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


def play(stream: StreamContext, timeline: Timeline, reader: VideoReader, *, realtime: bool = False) -> Iterator[Packet]:
    """All packets of one file, once.

    Raises:
        SourceError: it has no frames that can be decoded, or is shorter than it says (after the last packet).
    """
    with reader:
        stream.duration, stream.frames_total = reader.duration, reader.frames_total
        before, failure = timeline.frames, None
        due = previous = None
        held = stream.held
        damaged = stream.damaged

        def look(_: bool) -> bool:
            stream.damaged = damaged + reader.damaged + reader.unsupported
            return stream.stopping

        try:
            for packet in timeline.packets(reader.pictures(look)):
                if realtime:
                    if due is None or previous is None:
                        due = stream.clock.monotonic()
                    elif packet.epoch == previous.epoch:
                        due += packet.pts - previous.pts + stream.held - held
                    held, ready = stream.held, stream.clock.monotonic()
                    if stream.wait((due - ready) / NANO):
                        return
                    packet.captured_at = stream.clock.now()  # a camera would have seen it now
                    if packet.expires_at is not None:
                        packet.expires_at += stream.clock.monotonic() - ready
                    previous = packet
                yield packet
                if stream.stopping:
                    return
        except av.FFmpegError as error:
            failure = error.strerror
        look(False)
        frames = timeline.frames - before
        judge(stream, reader, frames, failure)
        if realtime:
            stream.wait(reader.step / NANO)  # the last picture, too, lasts for its time


def judge(stream: StreamContext, reader: VideoReader, frames: int, failure: str | None) -> None:
    """At the end of a file of which `frames` were read: raise a `SourceError` if frames are missing."""
    label = stream.label
    if stream.stopping:
        return
    if not frames:
        if failure is not None:
            hint = ""
            if "://" in label:
                hint = "; if it is an MP4 with its index at the end and the server gives no parts of files, download it"
            raise SourceError(f"{label}: reading failed before the first frame: {failure}{hint}")
        if reader.unsupported:
            raise SourceError(f"{label} uses a feature of its codec that is not supported; convert it first")
        if reader.packets:
            raise SourceError(f"{label}: none of its {reader.packets} frames can be decoded; the file is damaged")
        raise SourceError(f"{label} has a video track without a single frame in it; record it again")
    if failure is not None:
        raise SourceError(f"{label}: reading failed after {frames} frames: {failure}")
    if reader.damaged or reader.unsupported:
        stream.log.warning(
            "%s: %d damaged frames were left out, %d were read", label, reader.damaged + reader.unsupported, frames
        )
    end = reader.announced_end if reader.measured else None
    if reader.cut_off or (reader.path is not None and is_cut_off(reader.path)):
        lasts = "" if end is None else f"it should last {end / NANO:.1f} s and "
        raise SourceError(
            f"{label} was cut off: {lasts}ends at {reader.end / NANO:.1f} s "
            f"({frames} frames were read); copy or record it again"
        )
    # Not an error: in some formats a last picture that stands is not told apart from one that is missing.
    if end is not None and end - reader.end > max(SLACK, end // 100):
        stream.log.warning(
            "%s: its header says %.1f s, its last frame is at %.1f s", label, end / NANO, reader.end / NANO
        )


def open_file(
    path: Path,
    stream: StreamContext,
    *,
    threads: int,
    max_pixels: int,
    rotate: Rotate = "auto",
    device: DeviceFrames | HostDecoding | None = None,
) -> VideoReader:
    """Open a local file.

    Raises:
        SourceError: it is missing, not readable, not a video, or larger than `max_pixels`.
    """
    check_path(path, stream.label)
    # "file:" keeps a colon in the name from being taken for a protocol.
    target = f"file:{os.path.abspath(path)}"
    try:
        reader = VideoReader(
            target,
            stream.label,
            threads=threads,
            max_pixels=max_pixels,
            options={"pattern_type": "none"},  # a % in the name of a picture does not stand for a number
            rotate=rotate,
            device=device,
            max_side=stream.options.max_side,
            thinning=Thinning(stream.options.max_fps),
            raw=lambda: path.open("rb"),
        )
    except av.FFmpegError as error:
        if _is_mp4(path):
            raise SourceError(
                f"{stream.label} is an MP4 without its index (moov): the recording or copy was cut off before its "
                "end; copy or record it again"
            ) from None
        if _is_recording(path):
            raise SourceError(
                f"{stream.label} is a recording, not a video: play it with --source replay://{stream.label}"
            ) from None
        raise SourceError(f"{stream.label} is not a video or image that can be read ({error.strerror})") from None
    reader.path = path
    return reader


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] == b"ftyp"


def _is_recording(path: Path) -> bool:
    """Whether it looks like a file of `record`; see `streamkp.sources.replay`."""
    with path.open("rb") as file:
        begin = file.read(8)
    return begin.startswith((b"\x89MCAP0", b'{"v":')) or path.name.endswith(".jsonl.gz")
