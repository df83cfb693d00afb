"""`render`: the video with boxes, ids, 2D skeletons and the 3D poses in a corner, as mp4, one file per stream.

`{stream}` in the path stands for the stream's id. Without it the first stream gets the path as it is, and further
ones get their id added before the suffix. Times are the source's own; across a break in its clock they run on. The
file can be played while it is written, and after a kill up to about the last second. `rotate_minutes` and `rotate_mb`
spread the video of a stream over files. Where the disk is full the video of a file ends with an error; that of a camera
goes on in a further file when there is room, and the frames in between are counted as `undelivered`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from pydantic import Field

from streamkp.errors import OutputError, UsageError
from streamkp.graph.stage import LIVE, Sink
from streamkp.packet import Image, Packet
from streamkp.sinks.paths import refuse_existing
from streamkp.sinks.rotation import FullDisk, RotatingOptions, Series, free_bytes, is_full
from streamkp.vision import draw

TICKS = 90_000  # per second
FRAME = 3_000  # ticks between two frames where the clock does not say
OPAQUE = 0.94  # of the 3D corner
FOLLOW = 0.02  # share by which the memory of where people were moves with each frame
WORTH_A_MOVE = 0.3  # share of the 3D corner that must be gained by another place
ROOM = 32_000_000  # bytes on a disk that was full with which it is tried again
FRAGMENTED = (".mp4", ".mov")
SUFFIXES = (*FRAGMENTED, ".mkv")


class Render(Sink):
    """Writes a video with the results drawn in."""

    class Options(RotatingOptions):
        path: Path = Field(description="File to write; `{stream}` in it is replaced by the stream's id.")
        overwrite: bool = Field(False, description="Replace files that exist.")
        azimuth: float = Field(
            0.0,
            description="Turn of the 3D poses about the vertical, degrees; 0: as the camera sees them.",
            json_schema_extra=LIVE,
        )
        elevation: float = Field(
            12.0, ge=-90, le=90, description="Height of the eye over the 3D poses, degrees.", json_schema_extra=LIVE
        )
        inset: float = Field(
            0.42,
            ge=0,
            le=1,
            description="Size of the 3D corner over the shorter side of the image; 0: none.",
            json_schema_extra=LIVE,
        )
        beside: bool = Field(False, description="Put the 3D poses beside the image instead of into its corner.")

    options: Options

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"file {options.path}"]

    @classmethod
    def outputs(cls, options: Options, streams: Sequence[str]) -> Sequence[Path]:
        return [options.path, *(_named(options.path, stream) for stream in streams)]

    def open(self) -> None:
        if self.options.path.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"{self.context.name}: the name of a video ends in {', '.join(SUFFIXES)}, not as in {self.options.path}"
            )
        if "{stream}" not in str(self.options.path):
            refuse_existing(self.context.name, self.options.path, self.options.overwrite or self.options.rotates)
        self._videos: dict[str, _Video] = {}
        self._paths: set[Path] = set()
        self._series: dict[str, Series] = {}
        self._full: dict[str, FullDisk] = {}
        self._insets: dict[str, _Inset] = {}

    def process(self, packet: Packet) -> None:
        stream, live = packet.stream, packet.expires_at is not None
        full = self._full.setdefault(stream, FullDisk(self.context.clock, self.context.log))
        if full.paused and not (full.may_try() and free_bytes(self.options.path) > ROOM):
            self._lose(stream, full)
            return
        try:
            video = self._videos.get(stream)
            if video is None:
                video = self._videos[stream] = _Video(self.context.name, self._path(stream))
            video.write(self.picture(packet), packet.epoch, packet.pts, live)
        except _NoRoom:
            if not live:
                raise
            full.failed(f"{self.context.name}: the video of stream {stream}")
            self._lose(stream, full)
            if (broken := self._videos.pop(stream, None)) is not None:
                broken.close()
            return
        full.worked(f"{self.context.name}: {video.path}")
        if (series := self._series.get(stream)) is not None and series.due(video.size):
            del self._videos[stream]
            video.close()

    def _lose(self, stream: str, full: FullDisk) -> None:
        full.lost()
        self.context.undelivered(stream, 1)

    def picture(self, packet: Packet) -> Image:
        """What is drawn of one packet, on a copy of its image (black where it has none any more)."""
        image = packet.image
        if image is None:
            image = np.zeros((packet.height, packet.width, 3), np.uint8)
        picture = draw.overlay(image, packet.persons, packet.annotations)
        if self.options.beside:
            return self._with_poses_beside(picture, packet)
        side = int(min(picture.shape[:2]) * self.options.inset)
        place = self._insets.setdefault(packet.stream, _Inset())
        if side >= 16 and (corner := place.corner(packet, side)) is not None:
            x, y = draw.corner_at(corner, packet.width, packet.height, side)
            under = picture[y : y + side, x : x + side]
            poses = draw.inset(packet.persons, side, self.options.azimuth, self.options.elevation)
            cv2.addWeighted(poses, OPAQUE, under, 1 - OPAQUE, 0, dst=under)
        return picture

    def _with_poses_beside(self, picture: Image, packet: Packet) -> Image:
        """The picture, and to its right a square of 3D poses as high as the picture is, but at most as wide."""
        height, width = picture.shape[:2]
        side = min(height, width)
        wide: Image = np.full((height, width + side, 3), draw.DARK, np.uint8)
        wide[:, :width] = picture
        top = (height - side) // 2
        poses = draw.inset(packet.persons, side, self.options.azimuth, self.options.elevation)
        wide[top : top + side, width:] = poses
        return wide

    def stream_ended(self, stream: str) -> None:
        self._insets.pop(stream, None)
        self._series.pop(stream, None)
        if (full := self._full.pop(stream, None)) is not None and full.paused:
            raise OutputError(f"{self.context.name}: the disk is full; the video of stream {stream} ends early")
        if (video := self._videos.pop(stream, None)) is not None:
            video.close()

    def close(self) -> None:
        failed: OutputError | None = None
        for video in self._videos.values():
            try:
                video.close()
            except OutputError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _path(self, stream: str) -> Path:
        path = self.options.path
        if "{stream}" in str(path) or self._paths:
            path = _named(path, stream)
        if self.options.rotates:
            if stream not in self._series:
                self._series[stream] = Series(path, self.options, self.context.clock, self.context.log)
                self._paths.add(path)
            return self._series[stream].next()
        # A stream that comes back, or has a name that looks the same as a file name, goes on in a further file.
        first, number = path, 1
        while path in self._paths or (number > 1 and path.exists()):  # a further file replaces none
            number += 1
            path = first.with_stem(f"{first.stem}-{number}")
        refuse_existing(self.context.name, path, self.options.overwrite)
        self._paths.add(path)
        return path


def _named(path: Path, stream: str) -> Path:
    """The file of one stream among several."""
    safe = re.sub(r"[^\w.-]", "_", stream)
    if "{stream}" in str(path):
        return Path(str(path).replace("{stream}", safe))
    return path.with_stem(f"{path.stem}-{safe}")


class _Inset:
    """The corner for the 3D poses of one stream: where people have been the least of late; it moves rarely."""

    def __init__(self) -> None:
        self._covered: NDArray[np.float64] | None = None  # of each corner, slowly following
        self._at = 0

    def corner(self, packet: Packet, side: int) -> draw.Corner | None:
        """The corner for this frame; None as long as the stream has had no 3D pose."""
        if any(person.keypoints_3d is not None for person in packet.persons):
            now = draw.covered(packet.persons, packet.width, packet.height, side)
            if self._covered is None:
                self._covered = now
                self._at = int(now.argmin())
            self._covered = self._covered + FOLLOW * (now - self._covered)
            best = int(self._covered.argmin())
            if self._covered[self._at] > self._covered[best] + WORTH_A_MOVE:
                self._at = best
        return None if self._covered is None else draw.CORNERS[self._at]


class _Video:
    """One file; frames of another size than the first are scaled to fit it."""

    def __init__(self, stage: str, path: Path) -> None:
        self._stage, self.path = stage, path
        self._broken = False
        self._stream: VideoStream | None = None
        self._epoch: int | None = None
        self._last: int | None = None  # ticks of the last frame, and its time
        self._last_pts = 0
        try:
            # Fragments while it is written, a usual mp4 once it is finished.
            options = (
                {"movflags": "+hybrid_fragmented", "fflags": "+flush_packets"}
                if path.suffix.lower() in FRAGMENTED
                else {}
            )
            self._file: OutputContainer = av.open(str(path), "w", options=options)
        except OSError as error:
            raise self._problem(error) from None

    @property
    def size(self) -> int:
        """Bytes written so far; what the encoder holds is not among them."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def write(self, picture: Image, epoch: int, pts: int, live: bool) -> None:
        try:
            if self._stream is None:
                self._stream = self._add_stream(picture)
            size = self._stream.width, self._stream.height
            frame = av.VideoFrame.from_ndarray(_fitted(picture, *size), format="bgr24")
            frame.pts, frame.time_base = self._ticks(epoch, pts, live), Fraction(1, TICKS)
            self._file.mux(self._stream.encode(frame))
        except OSError as error:
            self._broken = True
            raise self._problem(error) from None

    def close(self) -> None:
        try:
            if self._stream is not None and not self._broken:
                self._file.mux(self._stream.encode(None))
            self._file.close()
        except OSError as error:
            if self._broken:  # it has been told
                return
            raise self._problem(error) from None

    def _add_stream(self, picture: Image) -> VideoStream:
        codec, options = _encoder()
        stream = self._file.add_stream(codec, rate=30, options=options)
        assert isinstance(stream, VideoStream)
        height, width = picture.shape[:2]
        stream.width, stream.height = width + width % 2, height + height % 2  # halved colour needs even sizes
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        return stream

    def _ticks(self, epoch: int, pts: int, live: bool) -> int:
        # A camera that comes back has any clock. In a file only a clock that falls back is a break.
        if self._last is None or (self._epoch != epoch and (live or pts <= self._last_pts)):
            self._first_pts = pts
            self._first_ticks = 0 if self._last is None else self._last + FRAME
        ticks = self._first_ticks + (pts - self._first_pts) * TICKS // 1_000_000_000
        self._epoch, self._last_pts = epoch, pts
        self._last = ticks if self._last is None else max(ticks, self._last + 1)
        return self._last

    def _problem(self, error: OSError) -> OutputError:
        if is_full(error):
            return _NoRoom(f"{self._stage}: the disk is full; {self.path} ends early")
        return OutputError(f"{self._stage}: cannot write {self.path}: {error.strerror or error}")


class _NoRoom(OutputError):
    """The disk is full."""


def _encoder() -> tuple[str, dict[str, str]]:
    try:
        av.codec.Codec("libx264", "w")
    except av.error.FFmpegError:
        return "mpeg4", {"q": "3"}
    return "libx264", {"preset": "veryfast", "crf": "20", "g": "30", "threads": "2"}


def _fitted(picture: Image, width: int, height: int) -> Image:
    """The picture, scaled down or up to fit, in the top left corner of a black frame of that size."""
    if picture.shape[:2] == (height, width):
        return picture
    canvas: Image = np.zeros((height, width, 3), np.uint8)
    scale = min(width / picture.shape[1], height / picture.shape[0])
    if abs(picture.shape[1] - width) <= 1 and abs(picture.shape[0] - height) <= 1:
        scale = 1.0  # only made even
    if scale != 1.0:
        size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    part = picture[:height, :width]
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas
