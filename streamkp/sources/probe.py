"""Looks at a video source: what it is, or why it cannot be read and what to try. Behind `streamkp probe`."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from urllib.request import getproxies

import av
import cv2
from av.stream import Stream

from streamkp.errors import SourceError, StreamkpError, UsageError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StreamContext
from streamkp.graph.stream_options import StreamOptions, Transport
from streamkp.sources.camera import camera_session
from streamkp.sources.container import Facts, VideoReader
from streamkp.sources.decode import CAMERA_START, Decode, camera_number, local_file, scheme_of
from streamkp.sources.network import (
    FRAME_TIMEOUT,
    REFUSED,
    SCHEMES,
    NetworkError,
    is_web,
    open_network,
    read_patience,
    session,
)
from streamkp.sources.orientation import TURNS, UPRIGHT, Orientation
from streamkp.sources.probe_hints import PORTS, hints
from streamkp.sources.pump import Pump
from streamkp.sources.timeline import NANO, Picture
from streamkp.sources.video_file import judge, open_file
from streamkp.uris import encoded, mask_address, split

SPARE: Final = 2.0
MAX_PIXELS: Final = 8192 * 8192
STEADY: Final = (
    4  # frames of a live stream from which the first is left out: it came before the camera's clock was known
)


@dataclass(frozen=True)
class Probe:
    """What was found. Figures that the source does not give, or that need more frames than came, are None.

    `width` and `height` are pixels as shown: turned by `rotation` degrees clockwise, then `mirrored`, with square
    pixels; `pixel_aspect` is the stored pixels' width by their height. Keyframe intervals are the longest ones between
    two keyframes that were both seen. Times count from the start of the probe; `connect_seconds` is until the host took
    the connection, `open_seconds` until it had said what it sends. `problem` is what went wrong, and `hints` what to
    try; there may be one although frames came.
    """

    address: str  # without credentials
    live: bool
    container: str | None = None
    transport: Transport | None = None
    codec: str | None = None
    profile: str | None = None
    pixel_format: str | None = None
    width: int | None = None
    height: int | None = None
    stored_width: int | None = None
    stored_height: int | None = None
    rotation: int | None = None
    mirrored: bool | None = None
    pixel_aspect: float | None = None
    announced_fps: float | None = None
    measured_fps: float | None = None
    keyframe_interval_frames: int | None = None
    keyframe_interval_seconds: float | None = None
    connect_seconds: float | None = None
    open_seconds: float | None = None
    first_frame_seconds: float | None = None
    audio: tuple[str, ...] | None = None  # codecs
    duration_seconds: float | None = None
    frames: int = 0
    frames_seconds: float = 0.0  # from the first frame to the last, by their own times where they have some
    complete: bool = False  # read to the end
    damaged: int = 0  # left out: after the first frame of a live stream, which may be joined in the middle
    problem: str | None = None
    trouble: str | None = None  # its kind: refused, access, path, silent, ...
    hints: tuple[str, ...] = field(default=())


def probe(uri: str, *, seconds: float = 3.0, transport: Transport = "tcp", timeout: float = 5.0) -> Probe:
    """Open `uri`, read it for `seconds` after its first frame (files: as fast as it goes), and tell what it is.

    Args:
        uri: a file, the number of a webcam, or a network address; its credentials do not get into the result.
        seconds: for how long to read.
        transport: of RTSP.
        timeout: seconds of silence after which the source counts as lost. The first frame may take three times as
            long, and 15 s more where something comes that cannot be decoded.

    Raises:
        UsageError: `uri` is not an address of a source.
        ModelError: a sample clip is unknown or cannot be fetched.
    """
    uri = encoded(uri)
    label = mask_address(uri)
    _check(uri, label)
    options = StreamOptions(transport=transport, timeout=timeout)
    stream = StreamContext("probe", uri, label, Clock(), Decode.is_live(uri), options=options)
    look = _Look(stream, transport, timeout)
    silence = CAMERA_START if camera_number(uri) is not None else read_patience(uri, timeout)
    pictures = Pump(stream).pictures(look.pictures, timeout + 2 * silence + FRAME_TIMEOUT + SPARE, silence + SPARE)
    arrived: list[int] = []
    times: list[int | None] = []
    size: tuple[int, int] | None = None
    failure: SourceError | None = None
    try:
        for picture in pictures:
            arrived.append(stream.clock.monotonic())
            times.append(picture.pts)
            size = size or (picture.image.shape[1], picture.image.shape[0])
            if arrived[-1] - arrived[0] >= seconds * NANO:
                break
    except SourceError as error:
        failure = error
    except StreamkpError:
        raise
    except Exception as error:  # whatever a camera sends, it is the camera that failed
        stream.log.debug("%s: the connection failed", label, exc_info=True)
        failure = NetworkError(f"{label}: the connection failed ({type(error).__name__})")
    finally:
        stream.stop()
        if (close := getattr(pictures, "close", None)) is not None:
            close()
    return look.result(arrived, times, size, failure)


def _check(uri: str, label: str) -> None:
    """Raise a `UsageError` where `uri` cannot be the address of a source."""
    scheme = scheme_of(uri)
    if not uri:
        raise UsageError("the address is empty; name a video file, a webcam number, or an address such as rtsp://...")
    if scheme in ("", "file") or camera_number(uri) is not None:
        return
    if scheme not in SCHEMES:
        raise UsageError(
            f"{label}: sources of the kind {scheme}:// cannot be probed; name a file, a webcam number, or an address "
            f"that starts with {', '.join(sorted(SCHEMES))}"
        )
    host, port = _host(uri)
    if not host and scheme != "udp":
        raise UsageError(f"{label}: the address names no host")
    if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"{label}: the port is not a number from 1 to 65535")


def _host(uri: str) -> tuple[str, str | None]:
    """Host and port of an address, as they are written."""
    authority = re.split(r"[/?#]", split(uri).rest, maxsplit=1)[0]
    if (found := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", authority)) is not None:
        return found[1], found[2]
    host, colon, port = authority.partition(":")
    return host, port if colon else None


class _Look:
    """One look at a source. `pictures` runs in the reading thread; `result` is asked when that is done."""

    def __init__(self, stream: StreamContext, transport: Transport, timeout: float) -> None:
        self._stream = stream
        self._transport: Transport = transport
        self._timeout = timeout
        self._began = stream.clock.monotonic()
        self._connected: int | None = None
        self._opened: int | None = None
        self._facts: Facts | None = None
        self._reader: VideoReader | None = None
        self._keyframes = _Keyframes()
        self._frames = self._damaged_before = 0
        self._duration: float | None = None
        self._complete = False

    def pictures(self) -> Iterator[Picture]:
        """Open the source; its pictures."""
        stream = self._stream
        if (camera := camera_number(stream.uri)) is not None:
            yield from camera_session(stream, camera, self._timeout, opened=self._webcam)
            return
        if scheme_of(stream.uri) in SCHEMES:
            self._reach()
            reader = self._open()
            stream.live = not (is_web(stream.uri) and reader.finite)
        else:
            threads = min(4, 1 + (os.cpu_count() or 1))
            path = local_file(stream.uri, stream.label)
            reader = open_file(path, stream, threads=threads, max_pixels=MAX_PIXELS)
        self._opened = stream.clock.monotonic()
        self._reader, self._facts = reader, reader.facts()
        if not stream.live and not reader.still and reader.duration is not None:
            self._duration = round(reader.duration / NANO, 4)
        reader.on_packet = self._keyframes.packet
        with reader:
            for picture in session(stream, reader, self._timeout) if stream.live else self._file(reader):
                if not self._frames:
                    self._facts = reader.facts()
                    self._damaged_before = _damaged(reader) if stream.live else 0
                self._frames += 1
                yield picture

    def _open(self) -> VideoReader:
        stream = self._stream
        try:
            return open_network(
                stream, transport=self._transport, timeout=self._timeout, threads=1, max_pixels=MAX_PIXELS
            )
        except NetworkError as error:
            if error.trouble != "unreachable" or self._connected is None:
                raise
        scheme = scheme_of(stream.uri)
        raise NetworkError(
            f"{stream.label}: the host takes the connection and breaks it off; it may not speak {scheme} at this port",
            "no-video",
        )

    def _file(self, reader: VideoReader) -> Iterator[Picture]:
        stream, failure = self._stream, None
        try:
            yield from reader.pictures(lambda _: stream.stopping)
        except av.FFmpegError as error:
            failure = error.strerror
        judge(stream, reader, self._frames, failure)
        self._complete = not stream.stopping

    def _reach(self) -> None:
        """Connect to the host and let go: FFmpeg cannot tell an unknown host from one that is down."""
        stream, scheme = self._stream, scheme_of(self._stream.uri)
        if scheme not in PORTS or (is_web(stream.uri) and scheme in getproxies()):
            return
        host, port = _host(stream.uri)
        number = int(port or PORTS[scheme])
        try:
            socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise NetworkError(
                f"{stream.label}: there is no host {host}; check its name, and that this machine can look up names",
                "host",
            ) from None
        try:
            socket.create_connection((host, number), self._timeout).close()
        except ConnectionRefusedError:
            raise NetworkError(f"{stream.label}: {REFUSED}", "refused") from None
        except TimeoutError:
            raise NetworkError(
                f"{stream.label}: {host} does not answer at port {number} within {self._timeout:g} s", "unreachable"
            ) from None
        except OSError as error:
            raise NetworkError(
                f"{stream.label}: {host} cannot be reached ({error.strerror or type(error).__name__})", "unreachable"
            ) from None
        self._connected = stream.clock.monotonic()

    def _webcam(self, capture: cv2.VideoCapture) -> None:
        self._opened = self._stream.clock.monotonic()
        code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        name = code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ")
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        said = capture.get(cv2.CAP_PROP_FPS)
        rate = said if 1 <= said <= 1000 else None
        self._facts = Facts(
            "webcam", name if name.isprintable() and name else "unknown", None, None, size, None, rate, ()
        )

    def result(
        self,
        arrived: Sequence[int],
        times: Sequence[int | None],
        size: tuple[int, int] | None,
        failure: SourceError | None,
    ) -> Probe:
        """What was found, from when frames came, their own times (both ns) and their size."""
        stream, facts, reader = self._stream, self._facts, self._reader
        seen: dict[str, object] = {}
        if size is not None:
            seen |= {"width": size[0], "height": size[1], "first_frame_seconds": self._after(arrived[0])}
        if facts is not None:
            seen |= {
                "container": facts.container,
                "codec": facts.codec,
                "profile": facts.profile,
                "pixel_format": facts.pixel_format,
                "stored_width": facts.size[0],
                "stored_height": facts.size[1],
                "pixel_aspect": None if facts.pixel_aspect is None else round(float(facts.pixel_aspect), 4),
                "announced_fps": None if facts.rate is None else round(float(facts.rate), 3),
                "audio": facts.audio,
            }
        if reader is not None:
            rotation, mirrored = turned(reader.turn) if size is not None else (None, None)
            seen |= {
                "rotation": rotation,
                "mirrored": mirrored,
                "damaged": _damaged(reader) - self._damaged_before,
                "duration_seconds": self._duration,
                "keyframe_interval_frames": self._keyframes.frames,
                "keyframe_interval_seconds": self._keyframes.seconds,
            }
        rate, lasted = _rate(arrived, times, stream.live)
        trouble = failure.trouble if isinstance(failure, NetworkError) else None
        return Probe(
            address=stream.label,
            live=stream.live,
            transport=self._transport if scheme_of(stream.uri) in ("rtsp", "rtsps") else None,
            measured_fps=rate,
            connect_seconds=self._after(self._connected),
            open_seconds=self._after(self._opened),
            frames=len(arrived),
            frames_seconds=lasted,
            complete=self._complete,
            problem=None if failure is None else str(failure),
            trouble=trouble,
            hints=() if failure is None else hints(trouble, stream.uri, self._transport),
            **seen,  # type: ignore[arg-type]
        )

    def _after(self, at: int | None) -> float | None:
        return None if at is None else round((at - self._began) / NANO, 4)


class _Keyframes:
    """The longest way from one keyframe to the next."""

    def __init__(self) -> None:
        self.frames: int | None = None
        self.seconds: float | None = None
        self._since: int | None = None  # packets
        self._at: int | None = None

    def packet(self, packet: av.Packet[Stream]) -> None:
        if self._since is not None:
            self._since += 1
        if not packet.is_keyframe:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        at = None if stamp is None or not packet.time_base else int(stamp * NANO * packet.time_base)
        if self._since is not None and self._since > (self.frames or 0):
            self.frames = self._since
        if at is not None and self._at is not None and at > self._at:
            self.seconds = max(self.seconds or 0.0, round((at - self._at) / NANO, 4))
        self._since, self._at = 0, at


def _damaged(reader: VideoReader) -> int:
    return reader.damaged + reader.unsupported


def _rate(arrived: Sequence[int], times: Sequence[int | None], live: bool) -> tuple[float | None, float]:
    """Frames a second, and from the first frame to the last, by their own times if there are any that make sense."""
    skip = 1 if live and len(arrived) >= STEADY else 0
    stamps = [each for each in times[skip:] if each is not None]
    if len(stamps) < len(times) - skip or any(b < a for a, b in pairwise(stamps)):
        stamps = list(arrived[skip:]) if live else []
    if len(stamps) < 2 or stamps[-1] <= stamps[0]:
        return None, 0.0
    lasted = (stamps[-1] - stamps[0]) / NANO
    return round((len(stamps) - 1) / lasted, 3), round(lasted, 4)


def turned(turn: Orientation) -> tuple[int, bool]:
    """By how many degrees clockwise a picture is turned, and whether it is mirrored left to right after that."""
    degrees = {TURNS[each]: int(each) for each in TURNS if each != "auto"} | {UPRIGHT: 0}
    if turn in degrees:
        return degrees[turn], False
    return degrees[turn._replace(mirror_x=not turn.mirror_x)], True
