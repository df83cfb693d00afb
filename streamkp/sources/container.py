"""Reads one opened video, file or network, through FFmpeg's libraries."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

import av
import cv2
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import Flags
from av.stream import Disposition, Stream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from streamkp.errors import SourceError
from streamkp.packet import AnyImage, Image
from streamkp.sources import heif
from streamkp.sources.device_frames import NOT_THERE, DeviceFrames, HostDecoding
from streamkp.sources.orientation import TURNS, UPRIGHT, Orientation, Rotate, orientation, upright
from streamkp.sources.shape import Thinning, fitted, resized
from streamkp.sources.timeline import NANO, BestEffort, Picture

USUAL_RATE = Fraction(25)  # frames per second where a source does not say, or says nonsense
# Formats whose header says how long they are (FFmpeg guesses from the size of others), and in which an incomplete
# packet can only be the last one.
MEASURED = {"mov", "matroska", "avi", "flv", "asf"}
TEXT_ART = "tty"  # FFmpeg decodes .txt files as videos of scrolling text
MULTIPART = "mpjpeg"  # pictures over HTTP without an end
ANIMATIONS = {"gif", "apng", "webp_anim"}  # of any number of frames, one included
NOT_VIDEOS = Disposition.attached_pic | Disposition.timed_thumbnails  # the cover of a song, previews of chapters
SQUEEZED = Fraction(1, 10), Fraction(10)  # pixel aspects out of these bounds are nonsense


class Facts(NamedTuple):
    """What a container and its codec say of a video."""

    container: str
    codec: str
    profile: str | None
    pixel_format: str | None
    size: tuple[int, int]  # as stored: width, height
    pixel_aspect: Fraction | None  # None: square
    rate: Fraction | float | None  # frames per second, where it says something that can be
    audio: tuple[str, ...]  # codecs


Look = Callable[[bool], bool]
"""Called with every packet, and whether it is of the video; True ends the reading."""


class VideoReader:
    """The pictures of the video stream that a player would show, as they are meant to be seen.

    They are turned and mirrored as the file says (or `rotate`, degrees clockwise), and stretched to square pixels.

    Raises `av.FFmpegError` as it comes, for the caller knows what its source's failures mean, and `SourceError` where
    there is no usable video in what was opened. Nothing of it may be touched after `close`.
    """

    def __init__(
        self,
        target: str | BinaryIO,
        label: str,
        *,
        threads: int,
        max_pixels: int,
        options: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
        rotate: Rotate = "auto",
        raw: Callable[[], BinaryIO] | None = None,
        device: DeviceFrames | HostDecoding | None = None,
        max_side: int | None = None,
        thinning: Thinning | None = None,
    ) -> None:
        """`raw` opens the bytes of the source, which a picture made of tiles needs. `device` takes upright pictures
        of square pixels, which are then in its memory, or decodes for the host. Pictures whose longer side has more
        than `max_side` pixels are made smaller; what `thinning` does not keep is decoded and left out."""
        self.label = label
        self.path: Path | None = None  # of a local file
        self.packets = 0  # of the video stream
        self.damaged = 0  # packets that could not be decoded, and frames that came out broken
        self.unsupported = 0  # packets that use what the decoder does not know
        self.cut_off = False  # the latest packet was incomplete, for the file ended in it
        self.turn = UPRIGHT  # how the latest picture was turned
        self.on_packet: Callable[[av.Packet[Stream]], None] | None = None  # sees every packet of the video
        self.end = 0  # where the latest packet of any stream ended, ns
        self._max_pixels = max_pixels
        self._rotate = rotate
        self._grid: heif.Grid | None = None
        self._device = device if isinstance(device, DeviceFrames) else None
        self._max_side = max_side
        self._thinning = thinning or Thinning(None)
        self._container = _open(target, dict(options or {}), timeout, device)
        self.format = self._container.format.name.split(",")[0]
        self.measured = self.format in MEASURED
        # The demuxers of single pictures; `MediaInput.still` says what that means for results.
        picture = self.format == "mov" and self._container.metadata.get("major_brand", "").strip() in heif.BRANDS
        self.still = picture or self.format.endswith(("image2", "image2pipe", "_pipe"))
        self.animation = self.format in ANIMATIONS
        try:
            self._video = self._find_video(picture, raw)
            codec = self._video.codec_context
            codec.thread_type = "AUTO" if threads > 1 else "SLICE"  # frame threads hold back one frame each
            codec.thread_count = threads
            self._check_size(codec.width, codec.height)
        except BaseException:
            self._container.close()
            raise
        rate = self._video.average_rate or self._video.guessed_rate
        # A bare stream, whose stamps are assumptions of the demuxer; its own header may know the rate.
        self._bare = bool(Flags(self._container.format.flags) & Flags.no_timestamps)
        if self._bare and codec.framerate:
            rate = codec.framerate
        self._rate = rate if rate and 0 < rate <= 1000 else USUAL_RATE
        self.step = round(NANO / self._rate)
        # What the container says of the pixels outranks the codec, which may change its mind with each new header.
        said = self._video.sample_aspect_ratio
        self._aspect = said if said and said != codec.sample_aspect_ratio else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._container.close()

    def close(self) -> None:
        """Let go of the source."""
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
        frames: int | None = self._video.frames
        if not frames:
            frames = None if self.duration is None else round(self.duration / NANO * self._rate)
        return self._thinning.total(frames, self.duration)

    @property
    def finite(self) -> bool:
        """Whether what a server sends has an end: a picture, a known length in bytes, or an announced duration."""
        if self.format == MULTIPART:
            return False
        if self.still or self._length() > 0:
            return True
        return self.duration is not None and (self.measured or self.format in ("hls", "dash"))

    def _length(self) -> int:
        if self.format in ("hls", "dash", "rtsp", "sdp"):  # the length of the playlist, or none at all
            return 0
        return self._container.size

    def facts(self) -> Facts:
        """What is known by now; the pixel format may be known only when a picture has come."""
        codec = self._video.codec_context
        size = (codec.width, codec.height) if self._grid is None else (self._grid.width, self._grid.height)
        # The container's own guess comes last: of H.264 it may be twice as much.
        rates = self._video.average_rate, codec.framerate, self._video.guessed_rate
        rate = None if self.still else next((each for each in rates if each and 0 < each <= 1000), None)
        audio = [stream.codec_context for stream in self._container.streams.audio]
        return Facts(
            self._container.format.name,
            codec.codec.canonical_name,
            codec.profile,
            codec.pix_fmt,
            size,
            self._pixel_aspect(),
            rate,
            tuple("unknown" if each is None else each.codec.canonical_name for each in audio),
        )

    def pictures(self, look: Look = lambda _: False) -> Iterator[Picture]:
        """Every frame that can be decoded, in order; what is damaged is counted and left out."""
        if self._grid is not None:
            yield Picture(self._whole(self._grid), 0, self.step)
            return
        convert, times = VideoReformatter(), BestEffort()
        rotation, turn = None, TURNS.get(self._rotate, UPRIGHT)
        for packet in self._demuxed():
            mine = packet.stream.index == self._video.index
            if look(mine):
                return
            if packet.dts is not None or packet.pts is not None:
                self._follow(packet)
            if not mine:
                continue
            if packet.size and self.cut_off:
                continue  # its error would take along frames that other decoder threads have ready
            self.packets += packet.size > 0
            if packet.size and self.on_packet is not None:
                self.on_packet(packet)
            if packet.size:
                times.packet(packet.pts, packet.dts)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                return
            except av.error.PatchWelcomeError:
                self.unsupported += 1
                continue
            except (av.error.InvalidDataError, av.error.BugError):
                self.damaged += 1
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                time = times.time(frame.pts, frame.dts, self._video.codec_context.has_b_frames)
                if frame.is_corrupt:
                    self.damaged += 1
                    continue
                pts = None
                if time is not None and frame.time_base is not None and not self._bare:
                    pts = int(time * NANO * frame.time_base)
                if not self._thinning.keep(pts):
                    continue
                if self._rotate == "auto" and frame.rotation != rotation:
                    rotation, turn = frame.rotation, orientation(frame)
                self.turn = turn
                yield Picture(self._picture(frame, convert, turn), pts, max(self.step, self._thinning.period))

    def _demuxed(self) -> Iterator[av.Packet[Stream]]:
        """All packets, and those that empty the decoders."""
        unknown = self._length() < 0
        try:
            yield from self._container.demux()
        except OSError as error:
            # To FFmpeg the end of what a server sends without saying how long it is looks like a failure (HTTP/1.0).
            if not unknown or error.errno != errno.EIO:
                raise
            last: av.Packet[Stream] = av.Packet()
            last.stream = self._video
            yield last

    def _picture(self, frame: av.VideoFrame, convert: VideoReformatter, turn: Orientation) -> AnyImage:
        if self._device is None:
            return self._image(frame, convert, turn)
        size = self._size(frame.width, frame.height)
        if turn == UPRIGHT and size == (frame.width, frame.height):
            self._check_size(*size)
            return self._device.image(frame)
        if frame.format.name != "cuda":
            return self._image(frame, convert, turn)
        return self._shown(self._device.image(frame).pixels(), size, turn)

    def _image(self, frame: av.VideoFrame, convert: VideoReformatter, turn: Orientation) -> Image:
        size = self._size(frame.width, frame.height)
        try:
            # One thread and one converter for all frames: the pixels of `to_ndarray(format="bgr24")`, without setting
            # a converter and its threads up for each frame. Its rows may be padded.
            bgr = convert.reformat(frame, format="bgr24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise SourceError(
                f"{self.label}: pictures of the pixel format {frame.format.name} are not supported ({error})"
            ) from None
        return self._shown(np.asarray(bgr, np.uint8), size, turn)

    @staticmethod
    def _shown(bgr: Image, size: tuple[int, int], turn: Orientation) -> Image:
        return upright(np.ascontiguousarray(resized(bgr, size), dtype=np.uint8), turn)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """The size in which a stored picture is shown, before it is turned."""
        size = self._square(width, height)
        self._check_size(*size)
        # The tiles of a picture are made smaller when they have been put together.
        return size if self._grid is not None else fitted(*size, self._max_side)

    def _square(self, width: int, height: int) -> tuple[int, int]:
        """The size of a stored picture once its pixels are square; nothing is thrown away."""
        aspect = self._pixel_aspect()
        if aspect is None:
            return width, height
        return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))

    def _pixel_aspect(self) -> Fraction | None:
        aspect = self._aspect or self._video.codec_context.sample_aspect_ratio
        # In photos the field is a density for printing, which nobody shows them by.
        if self.still or not aspect or aspect == 1 or not SQUEEZED[0] <= aspect <= SQUEEZED[1]:
            return None
        return aspect

    def _whole(self, grid: heif.Grid) -> Image:
        convert = VideoReformatter()
        tiles: dict[int, Image] = {}
        wanted = [stream for stream in self._container.streams.video if stream.id in grid.tiles]
        for packet in self._container.demux(wanted):
            self.packets += packet.size > 0
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)
                tiles[packet.stream.id] = self._image(frame, convert, UPRIGHT)
        try:
            image = grid.assemble(tiles)
        except (KeyError, cv2.error):
            raise SourceError(f"{self.label}: not all of its tiles can be decoded; the file is damaged") from None
        except heif.NotAGrid as error:
            raise SourceError(f"{self.label}: {error}") from None
        size = fitted(image.shape[1], image.shape[0], self._max_side)
        return self._shown(image, size, TURNS.get(self._rotate, UPRIGHT))

    def _follow(self, packet: av.Packet[Stream]) -> None:
        self.cut_off = packet.is_corrupt and self.measured
        start = packet.pts if packet.pts is not None else packet.dts
        if start is not None and packet.time_base:
            self.end = max(self.end, int((start + (packet.duration or 0)) * NANO * packet.time_base))

    def _find_video(self, picture: bool, raw: Callable[[], BinaryIO] | None) -> VideoStream:
        if self._container.format.name == TEXT_ART:
            raise SourceError(f"{self.label} is a text file, not a video; name a video or image file")
        streams = self._container.streams.video
        videos = [stream for stream in streams if not stream.disposition & NOT_VIDEOS]
        known = [stream for stream in videos if stream.codec_context is not None]
        if videos and not known:
            raise SourceError(f"{self.label}: its video codec is not supported by the installed PyAV; convert it first")
        if picture and (len(known) > 1 or known[0].disposition & Disposition.dependent):
            return self._primary(known, raw)
        if known:
            return max(known, key=_prominence)
        kinds = sorted({stream.type for stream in self._container.streams} - {"video"})
        raise SourceError(
            f"{self.label} has no video in it{', only ' if kinds else ''}{' and '.join(kinds)}; "
            "name a video or image file"
        )

    def _primary(self, known: Sequence[VideoStream], raw: Callable[[], BinaryIO] | None) -> VideoStream:
        """The stream of the main picture, or of the first tile where it is a grid of them."""
        try:
            if raw is None:
                raise heif.NotAGrid("over this kind of address that is not supported")
            with raw() as file:
                main = heif.read_primary(file)
            wanted = (main,) if isinstance(main, int) else main.tiles
            found = {stream.id: stream for stream in known}
            if not wanted or not set(wanted) <= set(found):
                raise heif.NotAGrid("some of them are missing")
        except (heif.NotAGrid, OSError) as error:
            raise SourceError(
                f"{self.label} is a picture made of tiles that cannot be put together: {error}; save it as JPEG or PNG"
            ) from None
        if isinstance(main, heif.Grid):
            self._check_size(main.width, main.height)
            self._grid = main
        return found[wanted[0]]

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self.label} is {width}x{height} pixels, more than the limit of {self._max_pixels} "
                "(option max_pixels of the decode stage)"
            )


def _open(
    target: str | BinaryIO,
    options: dict[str, str],
    timeout: tuple[float, float] | None,
    device: DeviceFrames | HostDecoding | None,
) -> InputContainer:
    def opened(accelerator: HWAccel | None) -> InputContainer:
        container = av.open(
            target, "r", options=options, timeout=timeout, metadata_errors="replace", hwaccel=accelerator
        )
        assert isinstance(container, InputContainer)
        return container

    accelerator = None if device is None else device.accelerator()
    if accelerator is None or not isinstance(device, HostDecoding):
        return opened(accelerator)
    try:
        return opened(accelerator)
    except NOT_THERE as error:
        device.fall_back(error)
        return opened(None)


def _prominence(stream: VideoStream) -> tuple[bool, bool, int, int, int]:
    """Sort key of the stream that a player shows: videos first, then default flag, size, number of frames, order."""
    codec = stream.codec_context
    return (
        stream.frames != 1,
        bool(stream.disposition & Disposition.default),
        codec.width * codec.height,
        stream.frames,
        -stream.index,
    )
