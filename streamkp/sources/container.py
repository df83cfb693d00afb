"""Reads one opened video, file or network, through FFmpeg's libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from streamkp.errors import SourceError
from streamkp.sources.orientation import UPRIGHT, orientation, upright
from streamkp.sources.timeline import Picture

NANO = 1_000_000_000
USUAL_RATE = Fraction(25)  # frames per second where a source does not say, or says nonsense
# Formats whose header says how long they are (FFmpeg guesses from the size of others), and in which an incomplete
# packet can only be the last one.
MEASURED = {"mov", "matroska", "avi", "flv", "asf"}
TEXT_ART = "tty"  # FFmpeg would gladly film a .txt file scrolling by


class Reader:
    """The pictures of a container's main video stream.

    Raises `av.FFmpegError` as it comes, for the caller knows what its source's failures mean, and `SourceError` where
    there is no usable video in what was opened. Nothing of it may be touched after `close`.
    """

    def __init__(
        self,
        target: str,
        label: str,
        *,
        threads: int,
        max_pixels: int,
        options: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> None:
        self.label = label
        self.packets = 0  # of the video stream
        self.damaged = 0  # packets that could not be decoded, and frames that came out broken
        self.cut_off = False  # the latest packet was incomplete, for the file ended in it
        self.end = 0  # where the latest packet of any stream ended, ns
        self._max_pixels = max_pixels
        self._container: InputContainer = av.open(
            target, options=dict(options or {}), timeout=timeout, metadata_errors="replace"
        )
        self.measured = self._container.format.name.split(",")[0] in MEASURED
        try:
            self._video = self._find_video()
            codec = self._video.codec_context
            codec.thread_type = "AUTO" if threads > 1 else "SLICE"  # frame threads hold back one frame each
            codec.thread_count = threads
            self._check_size(codec.width, codec.height)
        except BaseException:
            self._container.close()
            raise
        rate = self._video.average_rate or self._video.guessed_rate
        self._rate = rate if rate and 0 < rate <= 1000 else USUAL_RATE
        self.step = round(NANO / self._rate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._container.close()

    @property
    def duration(self) -> int | None:
        """Announced length in ns, over all streams; a guess unless `measured`; None where it is unknown."""
        duration = self._container.duration
        return duration * 1000 if duration and duration > 0 else None

    @property
    def announced_end(self) -> int | None:
        """Where the last packet should end, ns; None where that is unknown."""
        return None if self.duration is None else self.duration + (self._container.start_time or 0) * 1000

    @property
    def frames_total(self) -> int | None:
        """Announced number of frames, else an estimate from length and rate."""
        if self._video.frames:
            return self._video.frames
        return None if self.duration is None else round(self.duration / NANO * self._rate)

    def pictures(self) -> Iterator[Picture]:
        """Every frame that can be decoded, in order; what is damaged is counted and left out."""
        convert = VideoReformatter()
        rotation, turn = None, UPRIGHT
        for packet in self._container.demux():
            if packet.dts is not None or packet.pts is not None:
                self._follow(packet)
            if packet.stream.index != self._video.index:
                continue
            if packet.size and self.cut_off:
                continue  # its error would take along frames that other decoder threads have ready
            self.packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.BugError):
                self.damaged += 1
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                self._check_size(frame.width, frame.height)
                # One thread and one converter for all frames: the pixels of `to_ndarray(format="bgr24")`, without
                # setting a converter and its threads up for each frame. Its rows may be padded.
                bgr = convert.reformat(frame, format="bgr24", threads=1).to_ndarray()
                if frame.rotation != rotation:
                    # Of a tiny copy and not for every frame: PyAV ties a frame whose side data is asked for into a
                    # cycle, and its pixels would wait for the garbage collector, to which it is a small thing.
                    rotation, turn = frame.rotation, orientation(frame.reformat(width=16, height=16))
                image = upright(np.ascontiguousarray(bgr, dtype=np.uint8), turn)
                pts = None
                if frame.pts is not None and frame.time_base is not None:
                    pts = int(frame.pts * NANO * frame.time_base)
                yield Picture(image, pts, self.step)

    def _follow(self, packet: av.Packet[Stream]) -> None:
        self.cut_off = packet.is_corrupt and self.measured
        start = packet.pts if packet.pts is not None else packet.dts
        if start is not None and packet.time_base:
            self.end = max(self.end, int((start + (packet.duration or 0)) * NANO * packet.time_base))

    def _find_video(self) -> VideoStream:
        if self._container.format.name == TEXT_ART:
            raise SourceError(f"{self.label} is a text file, not a video; name a video or image file")
        for stream in self._container.streams.video:
            if not stream.disposition & Disposition.attached_pic:  # the cover picture of a song
                return stream
        kinds = sorted({stream.type for stream in self._container.streams} - {"video"})
        raise SourceError(
            f"{self.label} has no video in it{', only ' if kinds else ''}{' and '.join(kinds)}; "
            "name a video or image file"
        )

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self.label} is {width}x{height} pixels, more than the limit of {self._max_pixels} "
                "(option max_pixels of the decode stage)"
            )
