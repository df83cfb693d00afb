"""Video over the network: RTSP cameras, MJPEG and HLS over HTTP, RTMP, MPEG-TS over UDP."""

from __future__ import annotations

import errno
import re
from base64 import b64encode
from collections.abc import Iterator
from http.client import HTTPException
from io import BytesIO
from pathlib import PurePosixPath
from typing import Final, Literal
from urllib.parse import unquote
from urllib.request import Request, urlopen

import av

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.graph.stream_options import Transport as Transport
from streamkp.sources.container import VideoReader
from streamkp.sources.device_frames import DeviceFrames, HostDecoding
from streamkp.sources.orientation import Rotate
from streamkp.sources.shape import Thinning
from streamkp.sources.timeline import NANO, Picture

SCHEMES = {"rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp"}
FILE_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".asf", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic"),
}
PLAYLIST_TIMEOUT = 15.0  # an HLS server rightly says nothing until its next segment is complete
FRAME_TIMEOUT = 15.0  # a decoder gives nothing until the next keyframe, for which some cameras take ten seconds
ALMOST = 0.9  # of a time-out counts as all of it
MAX_PICTURE = 256 << 20  # bytes of a picture made of tiles that are read into memory


Trouble = Literal[
    "host",  # its name is unknown
    "unreachable",
    "refused",
    "access",  # another user name or password
    "path",
    "silent",
    "undecodable",
    "no-video",
    "transport",  # not over the wanted one
    "lost",
    "other",
]
REFUSED: Final = "connection refused: nothing listens there; check host and port, and that the camera is on"


class NetworkError(SourceError):
    """A connection cannot be made or was lost; `trouble` is why."""

    def __init__(self, text: str, trouble: Trouble = "other") -> None:
        super().__init__(text)
        self.trouble = trouble


class AccessRefused(NetworkError):
    """The server wants another user name or password."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "access")


class Ended(NetworkError):
    """The server ended a connection that had worked."""


def is_web(uri: str) -> bool:
    """Whether an address may be of a file or of something live; the server's answer decides (`VideoReader.finite`)."""
    return uri.partition("://")[0].lower() in ("http", "https")


def looks_like_file(uri: str) -> bool:
    """A first guess, by the name, for as long as the server has not been asked."""
    return is_web(uri) and PurePosixPath(_path(uri)).suffix.lower() in FILE_SUFFIXES


def open_network(
    stream: StreamContext,
    *,
    transport: Transport,
    timeout: float,
    threads: int,
    max_pixels: int,
    rotate: Rotate = "auto",
    device: DeviceFrames | HostDecoding | None = None,
) -> VideoReader:
    """Connect to `stream.uri`.

    Raises:
        SourceError: nobody answers within `timeout` seconds, the server refuses, or what it sends is not video.
    """
    scheme, _, rest = stream.uri.partition("://")
    scheme = scheme.lower()  # FFmpeg knows RTSP:// only in small letters
    read_timeout = read_patience(stream.uri, timeout)
    micros = str(int(read_timeout * 1e6))
    options = {"fpsprobesize": "0"}  # do not watch 20 frames just to learn the frame rate
    if scheme in ("rtsp", "rtsps"):
        # Opening takes 0.1 s with these, 0.9 s without. Not "nobuffer": it throws away what probing has read, so
        # that the first picture comes a whole keyframe interval later.
        options |= {
            "rtsp_transport": transport,
            "timeout": micros,
            "probesize": "32768",
            "analyzeduration": "100000",
        }
    else:
        options |= {"rw_timeout": micros}
    began = stream.clock.monotonic()
    try:
        return VideoReader(
            f"{scheme}://{rest}",
            stream.label,
            threads=threads,
            max_pixels=max_pixels,
            options=options,
            timeout=(2 * read_timeout, read_timeout),
            rotate=rotate,
            device=device,
            max_side=stream.options.max_side,
            thinning=Thinning(stream.options.max_fps, stream.clock),
            raw=(lambda: _downloaded(stream.uri, timeout)) if is_web(stream.uri) else None,
        )
    except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError) as error:
        raise AccessRefused(f"{stream.label}: {_reason(error, timeout)[0]}") from None
    except av.error.PatchWelcomeError:
        if not is_web(stream.uri):
            raise SourceError(f"{stream.label}: what the server sends is not supported") from None
    except av.FFmpegError as error:
        silent = stream.clock.monotonic() - began >= NANO * read_timeout * ALMOST
        # That an RTSP server said nothing until the time was over comes as invalid data, too.
        if silent and isinstance(error, av.error.InvalidDataError):
            error = av.error.TimeoutError(errno.ETIMEDOUT, "")
        raise _failure(stream, error, timeout) from None
    # FFmpeg wants to jump about in some files, and the server does not let it.
    try:
        data = _downloaded(stream.uri, timeout)
        return VideoReader(
            data,
            stream.label,
            threads=threads,
            max_pixels=max_pixels,
            rotate=rotate,
            device=device,
            max_side=stream.options.max_side,
            thinning=Thinning(stream.options.max_fps, stream.clock),
            raw=lambda: BytesIO(data.getvalue()),
        )
    except (OSError, av.FFmpegError):
        raise SourceError(f"{stream.label}: what the server sends is not supported; download it first") from None


def session(stream: StreamContext, reader: VideoReader, timeout: float) -> Iterator[Picture]:
    """The pictures of one connection.

    Raises:
        SourceError: the connection was lost, or brings no pictures: no packet of the video for `timeout` seconds, or
            nothing that can be decoded for longer. A source that announced its length and reached it just ends.
    """
    clock = stream.clock
    patience = int(timeout * 1e9) if reader.format not in ("hls", "dash") else int(PLAYLIST_TIMEOUT * 1e9)
    packet_at = frame_at = clock.monotonic()
    before = stream.damaged

    def look(mine: bool) -> bool:
        nonlocal packet_at
        now = clock.monotonic()
        stream.damaged = before + reader.damaged + reader.unsupported
        packet_at = now if mine else packet_at
        if now - packet_at > patience:
            raise NetworkError(
                f"{stream.label}: no video for {patience / NANO:g} s, although other data come", "silent"
            )
        if now - frame_at > max(patience, FRAME_TIMEOUT * NANO):
            raise NetworkError(
                f"{stream.label}: no picture that can be decoded for {(now - frame_at) / NANO:.0f} s "
                f"({reader.damaged + reader.unsupported} damaged ones)",
                "undecodable",
            )
        return stream.stopping

    with reader:
        try:
            for picture in reader.pictures(look):
                yield picture
                # The time that the graph took is not the source's.
                packet_at = frame_at = clock.monotonic()
        except av.error.InvalidDataError:
            raise NetworkError(f"{stream.label}: the connection broke off", "lost") from None
        except av.FFmpegError as error:
            raise _failure(stream, error, timeout) from None
        finally:
            if reader.damaged + reader.unsupported:
                stream.log.warning(
                    "%s: %d damaged frames were left out", stream.label, reader.damaged + reader.unsupported
                )
        if stream.stopping:
            return
        end = reader.announced_end
        if end is None or reader.end < end - NANO:
            raise Ended(f"{stream.label}: the server ended the connection", "lost")


def _downloaded(uri: str, timeout: float) -> BytesIO:
    """The bytes behind a web address. Raises `OSError`, without the address in its text."""
    scheme, _, rest = uri.partition("://")
    host, slash, path = rest.partition("/")
    login, _, host = host.rpartition("@")
    request = Request(f"{scheme.lower()}://{host}{slash}{path.partition('#')[0]}")
    if login:
        request.add_header("Authorization", "Basic " + b64encode(unquote(login).encode()).decode())
    try:
        with urlopen(request, timeout=timeout) as answer:
            data = answer.read(MAX_PICTURE + 1)
    except (OSError, ValueError, HTTPException) as error:
        raise OSError(f"it cannot be read again ({type(error).__name__})") from None
    if len(data) > MAX_PICTURE:
        raise OSError("it is too large")
    return BytesIO(data)


def _path(uri: str) -> str:
    # Not urlsplit: it refuses some hosts, in words that hold the password. FFmpeg is to judge the host.
    return re.split(r"[?#]", uri.partition("://")[2], maxsplit=1)[0].partition("/")[2]


def read_patience(uri: str, timeout: float) -> float:
    """Seconds for which a read of this address may say nothing."""
    return max(timeout, PLAYLIST_TIMEOUT) if _path(uri).lower().endswith(".m3u8") else timeout


def _failure(stream: StreamContext, error: av.FFmpegError, timeout: float) -> NetworkError:
    text, trouble = _reason(error, timeout)
    return NetworkError(f"{stream.label}: {text}", trouble)


def _reason(error: av.FFmpegError, timeout: float) -> tuple[str, Trouble]:
    # The text of an FFmpegError holds the address with its password: only its kind may be shown.
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return "the server wants another user name or password (rtsp://user:password@host/path)", "access"
        case av.error.HTTPNotFoundError():
            return "the server has no such stream; check the path behind the host name", "path"
        case ConnectionRefusedError():
            return REFUSED, "refused"
        case TimeoutError() | av.error.ExitError():
            return f"no data for {timeout:g} s; the server or the network is down or frozen (option timeout)", "silent"
        case av.error.InvalidDataError():
            return "the server sends something else than video, or nothing; check address and port", "no-video"
        case av.error.ProtocolNotFoundError():
            return "this kind of address is not supported by the installed PyAV", "other"
        case OSError() if error.errno == errno.EPROTONOSUPPORT:
            return "the server does not send over this transport; take the other one, tcp or udp", "transport"
        case OSError() if error.errno == errno.EIO:
            return "cannot reach the server; check the host name and the network", "unreachable"
        case _:
            return error.strerror or "the connection failed", "other"
