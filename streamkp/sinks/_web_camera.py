"""Takes the camera of a browser over a WebSocket and feeds it to the source `browser://NAME`.

Plainly, each binary message is the time in the browser's clock (float64 milliseconds, little-endian) and a JPEG; each
is answered by `{"taken": 1}` so that the browser sends no faster than the network carries. With the extra
`streamkp[webrtc]` the first message may be an offer instead, `{"type": "offer", "sdp": ...}`; it is answered by
`{"type": "answer", "sdp": ...}`, the video then comes over WebRTC, and the WebSocket ends it.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from importlib.util import find_spec
from typing import Any, Final

import av
from aiohttp import WSMsgType, web

from streamkp.sources.browser import Inlet, inlets

MAX_MESSAGE: Final = 4 * 1024 * 1024


def webrtc_available() -> bool:
    """Whether the extra `streamkp[webrtc]` is installed."""
    return find_spec("aiortc") is not None


async def waiting(_: web.Request) -> web.StreamResponse:
    """Which sources wait for a browser's camera, and whether it may come over WebRTC."""
    names = [{"name": inlet.name, "stream": inlet.stream} for inlet in inlets.waiting()]
    return web.json_response({"waiting": names, "webrtc": webrtc_available()})


async def camera(request: web.Request) -> web.StreamResponse:
    """The WebSocket of a browser that sends its camera to the source `to`."""
    sender = object()
    inlet = inlets.claim(request.query.get("to", ""), sender)
    if inlet is None:
        raise web.HTTPConflict(text="No source of that name waits for a camera.\n")
    response = web.WebSocketResponse(timeout=1.0, heartbeat=20.0, max_msg_size=MAX_MESSAGE, compress=False)
    peer: _Peer | None = None
    try:
        await response.prepare(request)
        async for message in response:
            if message.type is WSMsgType.BINARY and len(message.data) > 8:
                (milliseconds,) = struct.unpack_from("<d", message.data)
                if not math.isfinite(milliseconds) or not 0 <= milliseconds < 1e13:
                    await response.close(code=1003, message=b"not understood")
                    break
                inlet.put(round(milliseconds * 1e6), message.data[8:])
                await response.send_str('{"taken":1}')
            elif message.type is WSMsgType.TEXT and peer is None and webrtc_available():
                peer = _Peer(inlet)
                answer = await peer.answer(message.data)
                if answer is None:
                    await response.close(code=1003, message=b"not understood")
                    break
                await response.send_str(json.dumps(answer))
            else:
                await response.close(code=1003, message=b"not understood")
                break
    except ConnectionError:
        pass
    finally:
        if peer is not None:
            await peer.close()
        inlets.release(inlet)
    return response


class _Peer:
    """One browser over WebRTC."""

    def __init__(self, inlet: Inlet) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        # No STUN server: streamkp asks nobody outside, and a browser on the same network needs none.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._inlet = inlet
        self._reader: asyncio.Task[None] | None = None
        self._connection.on("track", self._track)

    async def answer(self, text: str) -> dict[str, str] | None:
        """The answer to an offer; None where it is none."""
        from aiortc import RTCSessionDescription

        try:
            offer = json.loads(text)
            await self._connection.setRemoteDescription(RTCSessionDescription(str(offer["sdp"]), offer["type"]))
            answer = await self._connection.createAnswer()
            await self._connection.setLocalDescription(answer)
        except Exception:  # whatever it is, aiortc did not understand what the browser said
            return None
        local = self._connection.localDescription
        return {"type": local.type, "sdp": local.sdp}

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        await self._connection.close()

    def _track(self, track: Any) -> None:
        if track.kind == "video" and self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read(track))

    async def _read(self, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        try:
            while True:
                frame = await track.recv()
                if isinstance(frame, av.VideoFrame) and frame.time is not None:
                    self._inlet.put(round(frame.time * 1e9), frame)
        except MediaStreamError:
            self._inlet.leave()
