"""Video over the network: RTSP cameras, MJPEG and HLS over HTTP, RTMP, MPEG-TS over UDP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

import av

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.sources.container import NANO, Reader
from streamkp.sources.timeline import Picture

SCHEMES = {"rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "udp"}
FILE_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".jpg", ".jpeg", ".png"}
PLAYLIST_TIMEOUT = 15.0  # an HLS server rightly says nothing until its next segment is complete

Transport = Literal["tcp", "udp"]


def is_remote_file(uri: str) -> bool:
    """Whether an address names a file to be played to its end rather than something live."""
    scheme = uri.partition("://")[0].lower()
    return scheme in ("http", "https") and PurePosixPath(_path(uri)).suffix.lower() in FILE_SUFFIXES


def open_network(
    stream: StreamContext, *, transport: Transport, timeout: float, threads: int, max_pixels: int
) -> Reader:
    """Connect to `stream.uri`.

    Raises:
        SourceError: nobody answers within `timeout` seconds, the server refuses, or what it sends is not video.
    """
    scheme, _, rest = stream.uri.partition("://")
    scheme = scheme.lower()  # FFmpeg knows RTSP:// only in small letters
    playlist = _path(stream.uri).lower().endswith(".m3u8")
    read_timeout = max(timeout, PLAYLIST_TIMEOUT) if playlist else timeout
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
    try:
        return Reader(
            f"{scheme}://{rest}",
            stream.label,
            threads=threads,
            max_pixels=max_pixels,
            options=options,
            timeout=(2 * read_timeout, read_timeout),
        )
    except av.FFmpegError as error:
        raise SourceError(f"{stream.label}: {_reason(error, timeout)}") from None


def session(stream: StreamContext, reader: Reader, timeout: float) -> Iterator[Picture]:
    """The pictures of one connection.

    Raises:
        SourceError: the connection was lost. A source that announced its length and reached it just ends.
    """
    with reader:
        try:
            yield from reader.pictures()
        except av.error.InvalidDataError:
            raise SourceError(f"{stream.label}: the connection broke off") from None
        except av.FFmpegError as error:
            raise SourceError(f"{stream.label}: {_reason(error, timeout)}") from None
        end = reader.announced_end
        if end is None or reader.end < end - NANO:
            raise SourceError(f"{stream.label}: the server ended the connection")


def _path(uri: str) -> str:
    # Not urlsplit: it refuses some hosts, in words that hold the password. FFmpeg is to judge the host.
    return re.split(r"[?#]", uri.partition("://")[2], maxsplit=1)[0].partition("/")[2]


def _reason(error: av.FFmpegError, timeout: float) -> str:
    # The text of an FFmpegError holds the address with its password: only its kind may be shown.
    match error:
        case av.error.HTTPUnauthorizedError() | av.error.HTTPForbiddenError():
            return "the server wants another user name or password (rtsp://user:password@host/path)"
        case av.error.HTTPNotFoundError():
            return "the server has no such stream; check the path behind the host name"
        case ConnectionRefusedError():
            return "connection refused: nothing listens there; check host and port, and that the camera is on"
        case TimeoutError() | av.error.ExitError():
            return f"no data for {timeout:g} s; the server or the network is down or frozen (option timeout)"
        case av.error.InvalidDataError():
            return "the server sends something else than video, or nothing; check address and port"
        case av.error.ProtocolNotFoundError():
            return "this kind of address is not supported by the installed PyAV"
        case OSError() if error.errno == 5:
            return "cannot reach the server; check the host name and the network"
        case _:
            return error.strerror or "the connection failed"
