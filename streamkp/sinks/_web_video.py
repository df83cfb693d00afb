"""Live video for the page: JPEG over a WebSocket, at the rate that the network and one half of a core carry.

A page says which streams it shows and how wide (`{"show": {"cam": 640}}`) and acknowledges each picture
(`{"seen": "cam"}`). At most `IN_FLIGHT` pictures of a stream are on their way to a page, so a slow network gets fewer
pictures, and never old ones. A picture is a msgpack map of `stream`, `seq` and `jpeg`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import cv2
import msgpack
from aiohttp import WSMsgType, web

from streamkp.packet import AnyImage, pixels_of
from streamkp.sinks._web_rtc import Sender

IN_FLIGHT: Final = 2
MAX_MESSAGE: Final = 64 * 1024  # bytes from a page: an offer of WebRTC has some 6,000 for each stream
MAX_SHOWN: Final = 64  # streams of one page
WIDTHS: Final = (160, 320, 480, 640, 960, 1280)
SEND_BUFFER: Final = 128 * 1024  # bytes in the kernel: what is queued there grows old
QUALITY: Final = 72

Newest = Callable[[str], "tuple[int, AnyImage] | None"]


class VideoFeed:
    """The pages that show video. All methods but `wake` run on one loop.

    Args:
        newest: the newest picture of a stream with its `seq`; None where it has none.
        fps: pictures per second and stream at most.
        width: pixels of the widest picture.
        limit: pages at a time.
        webrtc: pages may have their video over WebRTC instead.
    """

    def __init__(self, newest: Newest, fps: float, width: int, limit: int, *, webrtc: bool = False) -> None:
        self._newest = newest
        self._webrtc = webrtc
        self.limit(fps, width, limit)
        self._viewers: tuple[_Viewer, ...] = ()
        self._made: dict[tuple[str, int], tuple[int, bytes]] = {}
        self._encoder = asyncio.Lock()  # viewers share one encoder: it must not take the graph's cores

    def limit(self, fps: float, width: int, limit: int) -> None:
        """Other limits from the next picture and the next page on; from any thread."""
        self._interval = 1 / fps
        self._limit = limit
        self._width = width

    @property
    def watched(self) -> bool:
        """Whether any page shows video; from any thread."""
        return bool(self._viewers)

    def wake(self) -> None:
        """There are new pictures."""
        for viewer in self._viewers:
            viewer.awake.set()
            if viewer.sender is not None:
                viewer.sender.wake()

    def forget(self, stream: str) -> None:
        """The stream has ended."""
        for key in [key for key in self._made if key[0] == stream]:
            del self._made[key]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The WebSocket of one page."""
        if len(self._viewers) >= self._limit:
            raise web.HTTPServiceUnavailable(text=f"All {self._limit} places are taken (max_clients).\n")
        response = web.WebSocketResponse(timeout=1.0, heartbeat=20.0, max_msg_size=MAX_MESSAGE, compress=False)
        viewer = _Viewer()
        self._viewers = (*self._viewers, viewer)
        try:
            await response.prepare(request)
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sender = asyncio.create_task(self._send(viewer, response))
            try:
                async for message in response:
                    if message.type is not WSMsgType.TEXT or not (
                        await self._negotiate(viewer, message.data, response)
                        if self._webrtc and message.data.startswith('{"offer"')
                        else viewer.hear(message.data, self._fit)
                    ):
                        await response.close(code=1003, message=b"not understood")
                        break
            finally:
                sender.cancel()
                await asyncio.wait({sender})
                if viewer.sender is not None:
                    await viewer.sender.close()
        finally:
            self._viewers = tuple(v for v in self._viewers if v is not viewer)
            if request.transport is not None and request.transport.get_write_buffer_size():
                request.transport.abort()
        return response

    async def _negotiate(self, viewer: _Viewer, text: str, response: web.WebSocketResponse) -> bool:
        """A page wants its video over WebRTC, or other streams than before. False where it is not understood."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if viewer.sender is not None:
            await viewer.sender.close()
        viewer.sender = Sender(self._newest, self._width, 1 / self._interval, response.send_json)
        return await viewer.sender.answer(said)

    def _fit(self, width: float) -> int:
        """The width that pictures have for a page that has so many pixels for them."""
        return min(self._width, next((w for w in WIDTHS if w >= width), WIDTHS[-1]))

    async def _send(self, viewer: _Viewer, response: web.WebSocketResponse) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                viewer.awake.clear()
                stream, wait = viewer.next(self._newest, loop.time())
                if stream is None:
                    if wait is None:
                        await viewer.awake.wait()
                    else:  # the next picture is there, but not due yet
                        await asyncio.sleep(wait)
                    continue
                viewer.due[stream] = loop.time() + self._interval * 0.9
                await viewer.send(stream, response, self._jpeg)
        except ConnectionError:
            return

    async def _jpeg(self, stream: str, width: int) -> tuple[int, bytes] | None:
        async with self._encoder:
            newest = self._newest(stream)
            if newest is None:
                return None
            seq, image = newest
            made = self._made.get((stream, width))
            if made is None or made[0] != seq:
                loop = asyncio.get_running_loop()
                began = loop.time()
                made = self._made[stream, width] = seq, await asyncio.to_thread(encode, image, width)
                await asyncio.sleep(loop.time() - began)  # the other half of the time is the graph's
            return made


class _Viewer:
    """What one page shows, and what is on its way to it."""

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.sender: Sender | None = None
        self.due: dict[str, float] = {}
        self._shown: dict[str, int] = {}  # width by stream, the longest unserved first
        self._under_way: dict[str, int] = {}
        self._sent: dict[str, int] = {}  # seq

    def hear(self, text: str, fit: Callable[[float], int]) -> bool:
        """Take what the page says; False where it is not understood."""
        try:
            said = json.loads(text)
            if "seen" in said:
                stream = str(said["seen"])
                if self._under_way.get(stream, 0):  # a page may name anything
                    self._under_way[stream] -= 1
            else:
                shown = {str(stream): fit(float(width)) for stream, width in said["show"].items()}
                if len(shown) > MAX_SHOWN:
                    return False
                self._shown = shown
                for known in (self._under_way, self._sent, self.due):
                    for stream in known.keys() - shown.keys():
                        del known[stream]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
        self.awake.set()
        return True

    def next(self, newest: Newest, now: float) -> tuple[str | None, float | None]:
        """The stream whose picture is to be sent now; or None, and after how many seconds one is."""
        wait: float | None = None
        for stream in self._shown:
            found = newest(stream)
            if found is None or found[0] == self._sent.get(stream) or self._under_way.get(stream, 0) >= IN_FLIGHT:
                continue
            left = self.due.get(stream, 0.0) - now
            if left <= 0:
                return stream, None
            wait = left if wait is None else min(wait, left)
        return None, wait

    async def send(
        self,
        stream: str,
        response: web.WebSocketResponse,
        jpeg: Callable[[str, int], Awaitable[tuple[int, bytes] | None]],
    ) -> None:
        """Send the newest picture of a stream, which then is the last in line."""
        width = self._shown.pop(stream)
        self._shown[stream] = width
        made = await jpeg(stream, width)
        if made is None or stream not in self._shown:
            return
        self._sent[stream], data = made
        self._under_way[stream] = self._under_way.get(stream, 0) + 1
        message: dict[str, Any] = {"stream": stream, "seq": made[0], "jpeg": data}
        await response.send_bytes(msgpack.packb(message))


def encode(picture: AnyImage, width: int) -> bytes:
    """A picture as JPEG, at most that many pixels wide."""
    image = pixels_of(picture)
    high, wide = image.shape[:2]
    if wide > width:
        image = cv2.resize(image, (width, max(1, round(high * width / wide))), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()
