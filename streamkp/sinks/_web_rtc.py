"""Video for the page over WebRTC (`publish-webrtc`); needs `streamkp[webrtc]`.

The offer comes over the page's video WebSocket (`{"offer": {"type", "sdp"}, "streams": [...]}`, one video per stream in
that order). RTP times are `seq` x 3000 from a random start; the server tells which `seq` the first picture has
(`{"first": {stream: seq}}`), so that the page knows which message belongs to each picture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import av
import cv2
import numpy as np

from streamkp.packet import AnyImage, pixels_of

MAX_STREAMS: Final = 4  # of one page: each is encoded for it alone
RTP_STEP: Final = 3000  # of 90,000 a second

Newest = Callable[[str], "tuple[int, AnyImage] | None"]
Tell = Callable[[dict[str, Any]], Any]


class Sender:
    """The WebRTC connection to one page.

    Args:
        newest: the newest picture of a stream with its `seq`.
        width: pixels of the widest picture.
        fps: pictures per second at most.
        tell: sends a JSON object to the page.
    """

    def __init__(self, newest: Newest, width: int, fps: float, tell: Tell) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        self._newest, self._width, self._interval, self._tell = newest, width, 1 / fps, tell
        # No STUN server: streamkp asks nobody outside, and a browser on the same network needs none.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """There are new pictures."""
        self._changed.set()

    async def answer(self, said: dict[str, Any]) -> bool:
        """Answer an offer; False where it is none."""
        from aiortc import RTCSessionDescription

        try:
            streams = [str(stream) for stream in said["streams"]][:MAX_STREAMS]
            offer = RTCSessionDescription(str(said["offer"]["sdp"]), said["offer"]["type"])
            await self._connection.setRemoteDescription(offer)
            for stream in streams:
                self._connection.addTrack(self._track(stream))
            await self._connection.setLocalDescription(await self._connection.createAnswer())
        except Exception:  # whatever it is, aiortc did not understand what the browser said
            return False
        local = self._connection.localDescription
        await self._tell({"answer": {"type": local.type, "sdp": local.sdp}})
        return True

    async def close(self) -> None:
        """End the connection."""
        await self._connection.close()

    def _track(self, stream: str) -> Any:
        from aiortc import MediaStreamTrack

        sender = self

        class Pictures(MediaStreamTrack):  # type: ignore[misc,unused-ignore]
            kind = "video"
            last: int | None = None
            due = 0.0

            async def recv(self) -> av.VideoFrame:
                seq, image = await sender._next(stream, self.last, self.due)
                if self.last is None:
                    await sender._tell({"first": {stream: seq}})
                self.last, self.due = seq, asyncio.get_running_loop().time() + sender._interval * 0.9
                frame = await asyncio.to_thread(_frame, image, sender._width)
                frame.pts, frame.time_base = seq * RTP_STEP, Fraction(1, 90_000)
                return frame

        return Pictures()

    async def _next(self, stream: str, last: int | None, due: float) -> tuple[int, AnyImage]:
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            found = self._newest(stream)
            if found is not None and found[0] != last:
                if (wait := due - loop.time()) <= 0:
                    return found
                await asyncio.sleep(wait)
            else:
                await self._changed.wait()


def _frame(picture: AnyImage, width: int) -> av.VideoFrame:
    image = pixels_of(picture)
    high, wide = image.shape[:2]
    scale = min(1.0, width / wide)
    size = max(2, round(wide * scale) // 2 * 2), max(2, round(high * scale) // 2 * 2)  # halved colour needs even sizes
    if size != (wide, high):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format="yuv420p")
