"""The camera of somebody's browser as a source: `browser://NAME`, fed by the page of `publish-websocket`.

The page knows who waits for a camera (`waiting`) and hands over what it sends (`claim`, `Inlet.put`). Of several
pictures that arrive while one is worked on the newest is kept.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Final

import av
import cv2
import numpy as np

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Image
from streamkp.sources.timeline import NANO, Picture

PREFIX: Final = "browser://"
USUAL_STEP: Final = NANO // 30
_NAME = re.compile(r"[\w.-]{1,64}")
_LOOK = 0.2  # seconds after which a waiting source looks whether it must stop

Sent = bytes | av.VideoFrame  # a JPEG, or a frame that WebRTC has brought


class Inlet:
    """Where one browser's pictures go in. `put`, `lose` and `leave` may be called from any thread."""

    def __init__(self, name: str, stream: str) -> None:
        self.name, self.stream = name, stream
        self.sender: object | None = None  # who has claimed it
        self._newest: tuple[int, Sent] | None = None
        self._left = False
        self._changed = threading.Condition()

    def put(self, pts: int, picture: Sent) -> None:
        """A picture, and its time in the sender's own clock in ns."""
        with self._changed:
            self._newest = pts, picture
            self._changed.notify_all()

    def leave(self) -> None:
        """The sender has gone."""
        with self._changed:
            self._left = True
            self._changed.notify_all()

    def take(self, seconds: float) -> tuple[int, Sent] | None:
        """The newest picture since the last call, waiting at most that long; None if there is none.

        Raises:
            SourceError: the sender has gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._left, seconds)
            newest, self._newest = self._newest, None
            if newest is None and self._left:
                self._left = False
                raise SourceError("the browser has stopped sending its camera")
            return newest


class _Inlets:
    """The sources of this process that a browser may feed, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Inlet] = {}

    def open(self, name: str, stream: str) -> Inlet:
        with self._lock:
            if name in self._open:
                raise SourceError(
                    f"{PREFIX}{name} is the source of {self._open[name].stream!r} already; choose another name"
                )
            self._open[name] = inlet = Inlet(name, stream)
            return inlet

    def close(self, inlet: Inlet) -> None:
        with self._lock:
            del self._open[inlet.name]

    def waiting(self) -> list[Inlet]:
        """Those that nobody feeds, in the order in which they came."""
        with self._lock:
            return [inlet for inlet in self._open.values() if inlet.sender is None]

    def claim(self, name: str, sender: object) -> Inlet | None:
        """The source of that name, for this sender alone; None where there is none, or another sender has it."""
        with self._lock:
            inlet = self._open.get(name)
            if inlet is None or inlet.sender is not None:
                return None
            inlet.sender = sender
            return inlet

    def release(self, inlet: Inlet) -> None:
        """The sender is done; another may claim the source."""
        inlet.leave()
        with self._lock:
            inlet.sender = None


inlets = _Inlets()


def pictures(stream: StreamContext, inlet: Inlet, timeout: float, max_pixels: int) -> Iterator[Picture]:
    """The pictures of one sender, who is waited for without end.

    Raises:
        SourceError: the sender has gone, sends no picture for `timeout` seconds, or something that is no picture.
    """
    clock = stream.clock
    last: int | None = None
    while not stream.stopping:
        found = inlet.take(_LOOK)
        now = clock.monotonic()
        if found is None:
            if last is not None and now - last > timeout * NANO:
                raise SourceError(f"{stream.label}: no picture from the browser for {timeout:g} s")
            continue
        last = now
        pts, sent = found
        yield Picture(_decoded(sent, stream.label, max_pixels), pts, USUAL_STEP)


def open_inlet(stream: StreamContext) -> Inlet:
    """Make the place that a browser can feed; `inlets.close` takes it away.

    Raises:
        SourceError: the name is malformed or in use.
    """
    name = stream.uri.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise SourceError(f"{stream.label}: after {PREFIX} comes a name of letters, digits, `-`, `_` and `.`")
    return inlets.open(name, stream.stream)


def _decoded(sent: Sent, label: str, max_pixels: int) -> Image:
    if isinstance(sent, av.VideoFrame):
        if sent.width * sent.height > max_pixels:
            raise SourceError(f"{label}: a picture of {sent.width} x {sent.height} is too large")
        frame: Image = sent.to_ndarray(format="bgr24").astype(np.uint8, order="C", copy=False)
        return frame
    size = jpeg_size(sent)
    if size is None or size[0] * size[1] > max_pixels:
        raise SourceError(f"{label}: the browser sent something that is no JPEG of a permitted size")
    image = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SourceError(f"{label}: the browser sent a damaged picture")
    picture: Image = image.astype(np.uint8, copy=False)
    return picture


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG announces, before anything is allocated for it; None where it is no JPEG."""
    at = 2
    if data[:2] != b"\xff\xd8":
        return None
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
