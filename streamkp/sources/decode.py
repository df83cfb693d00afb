"""The source of the usual graphs: whatever a URI names, as upright BGR frames."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pydantic import Field

from streamkp.errors import SourceError
from streamkp.graph.stage import Source, StageOptions, StreamContext
from streamkp.packet import Packet
from streamkp.sources import replay
from streamkp.sources.camera import camera_session
from streamkp.sources.container import Reader
from streamkp.sources.network import SCHEMES, Transport, is_remote_file, open_network, session
from streamkp.sources.reconnect import keep_connected
from streamkp.sources.timeline import Picture, Timeline
from streamkp.sources.video_file import open_file, play

_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,3})")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://")  # two letters at least: C:\clip.mp4 is a path


class Decode(Source):
    """Frames of a video or image file, a camera, or a network stream.

    Takes `clip.mp4`, `file:///videos/clip.mp4`, `photo.jpg`, `0` (the first webcam), `rtsp://...`, `http(s)://...`
    (MJPEG, HLS, or a video file), `rtmp://...`, `udp://...` (MPEG-TS), `sample:walk` (a sample clip) and
    `replay://rec.jsonl.gz` (a recording of `record`, without images).
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
        )
        stale_after: float = Field(
            0.5,
            gt=0,
            description="Live sources: seconds after which a frame that is still waiting is dropped.",
        )
        reconnect_max_wait: float = Field(
            10.0,
            ge=0.5,
            description="Live sources: longest pause in seconds between two attempts to reconnect.",
        )
        give_up_after: float | None = Field(
            None,
            gt=0,
            description="Live sources: seconds without a frame after which the stream fails; null: never.",
        )
        wait_for_source: bool = Field(
            False, description="Live sources: keep trying even if the very first connection fails."
        )
        threads: int = Field(
            0,
            ge=0,
            le=64,
            description="Decoder threads per stream; 0: one for live sources, up to four for files.",
        )
        max_pixels: int = Field(
            8192 * 8192, ge=1, description="Largest picture to accept, width x height; guards memory."
        )

    options: Options

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """True for cameras and network streams, False for anything with a beginning and an end."""
        return bool(_CAMERA.fullmatch(uri)) or (_scheme(uri) in SCHEMES and not is_remote_file(uri))

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        if stream.uri.startswith(replay.PREFIX):
            return replay.play(stream, replay.parse(stream.uri, stream.label))
        timeline = Timeline(stream, self.options.stale_after)
        if self.is_live(stream.uri):
            return keep_connected(
                stream,
                timeline,
                lambda: self._connect(stream),
                max_wait=self.options.reconnect_max_wait,
                give_up_after=self.options.give_up_after,
                wait_for_source=self.options.wait_for_source,
            )
        return self._play(stream, timeline)

    def _connect(self, stream: StreamContext) -> Iterator[Picture]:
        if camera := _CAMERA.fullmatch(stream.uri):
            return camera_session(stream, int(camera[1]), self.options.timeout)
        return session(stream, self._open_network(stream, self.options.threads or 1), self.options.timeout)

    def _play(self, stream: StreamContext, timeline: Timeline) -> Iterator[Packet]:
        while not stream.stopping:
            yield from play(stream, timeline, self._open_file(stream), realtime=stream.realtime)
            if not stream.loop:
                return
            timeline.restart()

    def _open_file(self, stream: StreamContext) -> Reader:
        # Measured on 2 cores, CPU per frame against one thread: H.264 at 720p +18 %, VP9 at 1768x994 -15 %, with a
        # third less time per frame in both. Two threads on two cores are slower than three.
        threads = self.options.threads or min(4, 1 + (os.cpu_count() or 1))
        if is_remote_file(stream.uri):
            return self._open_network(stream, threads)
        return open_file(
            local_file(stream.uri, stream.label), stream, threads=threads, max_pixels=self.options.max_pixels
        )

    def _open_network(self, stream: StreamContext, threads: int) -> Reader:
        return open_network(
            stream,
            transport=self.options.rtsp_transport,
            timeout=self.options.timeout,
            threads=threads,
            max_pixels=self.options.max_pixels,
        )


def _scheme(uri: str) -> str:
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
    scheme = _scheme(uri)
    if scheme == "file":
        return Path(url2pathname(urlsplit(uri).path))
    if scheme:
        raise SourceError(
            f"{label}: sources of the kind {scheme}:// are unknown; name a file, a webcam number, "
            f"sample:walk, or an address that starts with {', '.join(sorted(SCHEMES))}"
        )
    return Path(uri).expanduser()
