"""The source of the usual graphs: whatever a URI names, as upright BGR frames."""

from __future__ import annotations

import os
import re
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import Field

from streamkp.errors import ModelError, SourceError
from streamkp.graph.stage import LIVE, Source, StageContext, StageOptions, StreamContext
from streamkp.graph.stream_options import HwAccel
from streamkp.packet import AnyImage, Packet, pixels_of
from streamkp.sources import browser, replay
from streamkp.sources.camera import camera_session
from streamkp.sources.container import MULTIPART, VideoReader
from streamkp.sources.device_frames import DeviceFrames, HostDecoding, decoding
from streamkp.sources.network import (
    FRAME_TIMEOUT,
    PLAYLIST_TIMEOUT,
    SCHEMES,
    Ended,
    Transport,
    is_web,
    looks_like_file,
    open_network,
    session,
)
from streamkp.sources.orientation import Rotate
from streamkp.sources.picture_watch import PictureWatch
from streamkp.sources.pump import Pump
from streamkp.sources.reconnect import NotLive, keep_connected
from streamkp.sources.shape import Thinning, shaped
from streamkp.sources.timeline import Picture, Timeline
from streamkp.sources.video_file import open_file, play

CAMERA_START = 20.0  # seconds that some cameras take to start
CAMERA_TIMEOUT = 3.0
SPARE = 2.0
_PICTURE = {
    "frozen": "its pictures stand still: the camera may hang",
    "dark": "its pictures are black: the lens may be covered",
    None: "its pictures are as they should be again",
}
_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://")  # two letters at least: C:\clip.mp4 is a path


class Decode(Source):
    """Frames of a video or image file, a camera, or a network stream.

    Takes `clip.mp4`, `file:///videos/clip.mp4`, `photo.jpg`, `0` (the first webcam), `rtsp://...`, `http(s)://...`
    (MJPEG, HLS, or a video file), `rtmp://...`, `udp://...` (MPEG-TS), `sample:walk` (a sample clip),
    `replay://rec.jsonl.gz` (a recording of `record`, without images) and `browser://name` (the camera of a browser,
    which the page of `publish-websocket` sends).
    """

    class Options(StageOptions):
        """How sources are read."""

        rtsp_transport: Transport = Field(
            "tcp", description="RTSP: tcp loses nothing; udp has less delay on a good network."
        )
        timeout: float = Field(
            2.5,
            gt=0,
            le=30,
            description="Cameras and network: seconds of silence after which the source counts as lost. Noticing a "
            "frozen server, and stopping while it is frozen, may take twice as long.",
            json_schema_extra=LIVE,
        )
        stale_after: float = Field(
            0.5,
            gt=0,
            description="Live sources: seconds after which a frame that is still waiting is dropped.",
            json_schema_extra=LIVE,
        )
        reconnect_max_wait: float = Field(
            10.0,
            ge=0.5,
            description="Live sources: longest pause in seconds between two attempts to reconnect.",
            json_schema_extra=LIVE,
        )
        give_up_after: float | None = Field(
            None,
            gt=0,
            description="Live sources: seconds without a frame after which the stream fails; null: never.",
            json_schema_extra=LIVE,
        )
        wait_for_source: bool | None = Field(
            None,
            description="Live sources: keep trying even if the very first connection fails; null: in a graph of "
            "several streams.",
        )
        rotate: Rotate = Field(
            "auto",
            description="Degrees clockwise by which frames are turned, for cameras that are mounted upside down or "
            "sideways; auto: as the file says.",
        )
        threads: int = Field(
            0,
            ge=0,
            le=64,
            description="Decoder threads per stream; 0: one for live sources, up to four for files.",
        )
        hwaccel: HwAccel = Field(
            "auto",
            description="Frames in the memory of the GPU: cuda decodes them there (NVDEC) or uploads them, none keeps "
            "them on the host; auto is cuda where there are a GPU and torch. vaapi and videotoolbox decode on a GPU "
            "and bring the frames to the host.",
        )
        frozen_after: float | None = Field(
            10.0,
            gt=0,
            description="Live sources: seconds of pictures without any change after which the status says "
            "`picture: frozen`; null: never.",
            json_schema_extra=LIVE,
        )
        dark_after: float | None = Field(
            5.0,
            gt=0,
            description="Live sources: seconds of black pictures after which the status says `picture: dark`; null: "
            "never.",
            json_schema_extra=LIVE,
        )
        max_pixels: int = Field(
            8192 * 8192, ge=1, description="Largest frame to accept, width x height in pixels; guards memory."
        )

    options: Options
    gives = ("image",)

    def __init__(self, options: StageOptions, context: StageContext) -> None:
        super().__init__(options, context)
        self._lock = threading.Lock()
        self._decoding: dict[HwAccel, DeviceFrames | HostDecoding | None] = {}

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """True for cameras and network streams, False for anything with a beginning and an end.

        Of a web address this is a guess by its name, until the server has answered: `StreamContext.live` is then put
        right before the first packet.
        """
        if uri.startswith(browser.PREFIX):
            return True
        return camera_number(uri) is not None or (scheme_of(uri) in SCHEMES and not looks_like_file(uri))

    @classmethod
    def file_of(cls, uri: str) -> Path | None:
        """As `Source.file_of`; a sample clip is a file once it has been fetched."""
        if uri.startswith(replay.PREFIX):
            return replay.split(uri)[0]
        if not uri.startswith("sample:"):
            return super().file_of(uri)
        from streamkp.hub import store

        hub = store.default()
        try:
            return hub.location(hub.table.get_sample(uri.removeprefix("sample:")))
        except ModelError:  # opening it says so
            return None

    def open(self) -> None:
        self._device(self.options.hwaccel)  # what is missing is said at the start

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        if stream.uri.startswith(replay.PREFIX):
            return replay.play(stream, replay.parse(stream.uri, stream.label))
        timeline = Timeline(stream, self.options.stale_after)
        if stream.uri.startswith(browser.PREFIX):
            return self._browser(stream, timeline)
        if camera_number(stream.uri) is None and scheme_of(stream.uri) not in SCHEMES:
            return self._play(stream, timeline)
        return self._connected(stream, timeline)

    def _connected(self, stream: StreamContext, timeline: Timeline) -> Iterator[Packet]:
        guess = self.is_live(stream.uri)
        endings: list[Ending] = []
        pump = Pump(stream)
        asked = stream.live != guess  # the graph file says `live:`, which holds whatever the server says
        try:
            yield from self._watched(
                stream,
                keep_connected(
                    stream,
                    timeline,
                    lambda: pump.pictures(
                        lambda: self._connect(stream, timeline, asked, endings), *self._patience(stream)
                    ),
                    max_wait=self.options.reconnect_max_wait,
                    give_up_after=self.options.give_up_after,
                    wait_for_source=guess and self._waits(),
                ),
            )
        except NotLive as found:
            stream.live = stream.live if asked else False
            yield from self._play(stream, timeline, found.reader)

    def _patience(self, stream: StreamContext) -> tuple[float, float]:
        """Seconds until the first picture, and between two, after which a read that does not come back is left.

        The sources notice by themselves, and earlier, what they can notice.
        """
        timeout = self._timeout(stream)
        if camera_number(stream.uri) is not None:
            return max(2 * timeout, CAMERA_START), max(2 * timeout, CAMERA_TIMEOUT)
        longest = max(timeout, PLAYLIST_TIMEOUT)  # it is not known yet what the address is
        return 2 * longest + FRAME_TIMEOUT + SPARE, max(longest, FRAME_TIMEOUT) + SPARE

    def _browser(self, stream: StreamContext, timeline: Timeline) -> Iterator[Packet]:
        inlet = browser.open_inlet(stream)
        try:
            yield from self._watched(
                stream,
                keep_connected(
                    stream,
                    timeline,
                    lambda: shaped(
                        browser.pictures(stream, inlet, self._timeout(stream), self.options.max_pixels),
                        Thinning(stream.options.max_fps, stream.clock),
                        stream.options.max_side,
                        self._rotate(stream),
                    ),
                    max_wait=self.options.reconnect_max_wait,
                    give_up_after=self.options.give_up_after,
                    wait_for_source=True,
                ),
            )
        finally:
            browser.inlets.close(inlet)

    def _watched(self, stream: StreamContext, packets: Iterator[Packet]) -> Iterator[Packet]:
        """The packets of a live stream; says so where their pictures stand still or are black."""
        watch, epoch, told = PictureWatch(self.options.frozen_after, self.options.dark_after), -1, None
        for packet in packets:
            if packet.epoch != epoch:  # it may be another connection
                watch, epoch = PictureWatch(self.options.frozen_after, self.options.dark_after), packet.epoch
                if told is not None:
                    stream.set_picture(None)
                    told = None
            watch.frozen_after, watch.dark_after = self.options.frozen_after, self.options.dark_after  # they may change
            flag = watch.see(packet.picture, stream.clock.monotonic() * 1e-9) if packet.picture is not None else told
            if flag != told:
                stream.set_picture(flag)
                stream.log.warning("%s: %s", stream.label, _PICTURE[flag])
                told = flag
            yield packet

    def _waits(self) -> bool:
        """Whether a source that is off at the start is waited for. A lone one would only seem to hang."""
        if self.options.wait_for_source is not None:
            return bool(self.options.wait_for_source)
        engine = self.context.engine
        return engine is not None and len(engine.stats()["streams"]) > 1

    def _connect(
        self, stream: StreamContext, timeline: Timeline, asked: bool, endings: list[Ending]
    ) -> Iterator[Picture]:
        if (camera := camera_number(stream.uri)) is not None:
            pictures = camera_session(stream, camera, self._timeout(stream), self._rotate(stream))
            return shaped(pictures, Thinning(stream.options.max_fps, stream.clock), stream.options.max_side)
        reader = self._open_network(stream)
        if is_web(stream.uri) and not timeline.frames:
            if reader.finite:
                raise NotLive(reader)
            self._found_live(stream, reader)
            stream.live = stream.live if asked else True
        in_pieces = reader.format in ("hls", "dash")
        timeline.paced = not in_pieces
        stream.stall_after = PLAYLIST_TIMEOUT if in_pieces else None  # they come with each segment
        pictures = session(stream, reader, self._timeout(stream))
        if is_web(stream.uri) and reader.format not in (MULTIPART, "hls", "dash"):
            return _until_repeated(stream, pictures, endings)
        return pictures

    def _found_live(self, stream: StreamContext, reader: VideoReader) -> None:
        """A web address has turned out to have no end."""

    def _found_file(self, stream: StreamContext, reader: VideoReader) -> None:
        """Something with an end has been opened."""

    def _play(self, stream: StreamContext, timeline: Timeline, reader: VideoReader | None = None) -> Iterator[Packet]:
        while not stream.stopping:
            reader = reader or self._open_file(stream)
            self._found_file(stream, reader)
            yield from play(stream, timeline, reader, realtime=stream.realtime)
            reader = None
            if not stream.loop:
                return
            timeline.restart()

    def _open_file(self, stream: StreamContext) -> VideoReader:
        if is_web(stream.uri):
            return self._open_network(stream)
        return open_file(
            local_file(stream.uri, stream.label),
            stream,
            threads=self._threads(),
            max_pixels=self.options.max_pixels,
            rotate=self._rotate(stream),
            device=self._device(stream.options.hwaccel),
        )

    def _device(self, wanted: HwAccel | None) -> DeviceFrames | HostDecoding | None:
        """Once for all streams that want the same, so that what is missing is said once."""
        wanted = wanted or self.options.hwaccel
        with self._lock:
            if wanted not in self._decoding:
                self._decoding[wanted] = decoding(wanted, self.context.log)
            return self._decoding[wanted]

    def _timeout(self, stream: StreamContext) -> float:
        return float(self.options.timeout if stream.options.timeout is None else stream.options.timeout)

    def _rotate(self, stream: StreamContext) -> Rotate:
        rotate: Rotate = self.options.rotate if stream.options.rotate is None else stream.options.rotate
        return rotate

    def _threads(self) -> int:
        # Measured on 2 cores, CPU per frame against one thread: H.264 at 720p +18 %, VP9 at 1768x994 -15 %, with a
        # third less time per frame in both. Two threads on two cores are slower than three.
        return self.options.threads or min(4, 1 + (os.cpu_count() or 1))

    def _open_network(self, stream: StreamContext) -> VideoReader:
        return open_network(
            stream,
            transport=stream.options.transport or self.options.rtsp_transport,
            timeout=self._timeout(stream),
            threads=(self.options.threads or 1) if stream.live else self._threads(),
            max_pixels=self.options.max_pixels,
            rotate=self._rotate(stream),
            device=self._device(stream.options.hwaccel),
        )


Ending = tuple[int, int, int]  # number of pictures, checksums of the first and the last


def _until_repeated(stream: StreamContext, pictures: Iterator[Picture], endings: list[Ending]) -> Iterator[Picture]:
    """The pictures of one connection; it is the proper end if the connection before brought just the same.

    Some servers do not say how long a file is; no camera sends twice the same.
    """
    count, first, last = 0, None, None
    try:
        for picture in pictures:
            count, last = count + 1, picture.image
            first = _checksum(last) if first is None else first
            yield picture
    except Ended:
        if first is None or last is None:
            raise
        ending = count, first, _checksum(last)
        if ending not in endings:
            endings[:] = [ending]
            raise
        stream.log.warning("%s ends the same way each time: it is a file, not a camera", stream.label)


def _checksum(image: AnyImage) -> int:
    return zlib.crc32(pixels_of(image).tobytes())


def camera_number(uri: str) -> int | None:
    """The number of the camera that a URI names: `0`, `/dev/video0`, or a link to that."""
    if not _CAMERA.fullmatch(uri):
        scheme = scheme_of(uri)
        if scheme not in ("", "file"):
            return None
        path = Path(url2pathname(urlsplit(uri).path)) if scheme else Path(uri).expanduser()
        try:
            if not path.is_symlink() and not path.is_char_device():
                return None
            uri = os.path.realpath(path)
        except (OSError, ValueError, RuntimeError):
            return None
        if not uri.startswith("/dev/video"):
            return None
    found = _CAMERA.fullmatch(uri)
    return int(found[1]) if found else None


def scheme_of(uri: str) -> str:
    """The part of an address in front of `://`, in small letters; empty for paths."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def local_file(uri: str, label: str) -> Path:
    """The local file that a URI names; `label` is what people may see of it.

    Raises:
        ModelError: a sample clip is unknown or cannot be fetched.
        SourceError: the URI is of an unknown kind.
    """
    if uri.startswith("sample:"):
        from streamkp.hub import store

        return store.sample(uri.removeprefix("sample:"))
    scheme = scheme_of(uri)
    if uri[:5].lower() == "file:":  # also without slashes: file:clip.mp4
        return Path(url2pathname(urlsplit(uri).path))
    if scheme:
        raise SourceError(
            f"{label}: sources of the kind {scheme}:// are unknown; name a file, a webcam number, "
            f"sample:walk, or an address that starts with {', '.join(sorted(SCHEMES))}"
        )
    return Path(uri).expanduser()
