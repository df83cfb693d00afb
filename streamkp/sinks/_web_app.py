"""The HTTP routes of `publish-websocket`."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from streamkp import wire
from streamkp.control import api
from streamkp.control.access import Access
from streamkp.control.routes import all_routes
from streamkp.graph.stage import EngineView
from streamkp.sinks import _web_camera, _web_video
from streamkp.sinks._web_hub import Client, Hub
from streamkp.skeletons import SKELETONS

VIEWER = Path(__file__).resolve().parent.parent / "viewer"
PREVIEW_WIDTH = 640
SEND_BUFFER = 128 * 1024  # bytes in the kernel: what is queued there grows old and can no longer be dropped
_FORMATS: dict[str, wire.Format] = {"msgpack": "msgpack", "json": "json"}
_PROTOCOLS: dict[str, wire.Format] = {"streamkp.msgpack": "msgpack", "streamkp.json": "json"}
PUBLIC = ("/", "/healthz", "/skeletons.json", "/viewer/")  # nothing of any stream


class WebApp:
    """Routes and handlers; all of it runs on one loop."""

    def __init__(
        self,
        hub: Hub,
        engine: EngineView | None,
        access: Access,
        max_clients: int,
        queue: int,
        video: _web_video.VideoFeed,
        avatar: Path | None = None,
        webrtc: bool = False,
    ) -> None:
        self._hub = hub
        self._max_clients = max_clients
        self._queue = queue
        self._video = video
        self._avatar = avatar
        self._webrtc = webrtc
        self._senders: set[asyncio.Task[None]] = set()
        self._previews: dict[str, tuple[int, bytes]] = {}
        self._one_preview = asyncio.Lock()
        self.app = web.Application(middlewares=[api.json_errors(), access.middleware()], client_max_size=api.MAX_BODY)
        self.app.add_routes(
            [
                *all_routes(engine, token=access.token is not None),
                web.get("/", self._page),
                web.get("/ws", self._socket),
                web.get("/streams", self._streams),
                web.get("/skeletons.json", self._skeletons),
                web.get("/preview/{stream}.jpg", self._preview),
                web.get("/video", video.serve),
                web.get("/camera", _web_camera.camera),
                web.get("/cameras", _web_camera.waiting),
                web.get("/avatar.vrm", self._avatar_file),
                web.get("/viewer.json", self._settings),
                web.static("/viewer", VIEWER),
            ]
        )

    def limit(self, max_clients: int, queue: int) -> None:
        """Other limits, for clients that come from now on."""
        self._max_clients, self._queue = max_clients, queue

    async def flush(self, seconds: float) -> None:
        """Give the clients that long to take what is queued for them, and to be closed properly."""
        self._hub.end()
        if self._senders:
            await asyncio.wait(self._senders, timeout=seconds)

    async def _page(self, _: web.Request) -> web.StreamResponse:
        """The page."""
        return web.FileResponse(VIEWER / "index.html")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """The WebSocket of the messages: `stream`, `format` and `token` in the query."""
        chosen, protocol = _chosen_format(request)
        if len(self._hub.clients) >= self._max_clients:
            raise web.HTTPServiceUnavailable(text=f"All {self._max_clients} places are taken (max_clients).\n")
        client = Client(request.query.get("stream"), chosen or "msgpack", self._queue)
        if chosen is None:
            client.hint()
        # Uncompressed: compression doubles the cost of a message and gains little on float32.
        response = web.WebSocketResponse(
            timeout=1.0, heartbeat=20.0, max_msg_size=4096, compress=False, protocols=protocol
        )
        self._hub.add(client)
        try:
            await response.prepare(request)
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sender = asyncio.create_task(self._send(client, response))
            self._senders.add(sender)
            try:
                async for message in response:  # reading also notices that the client is gone
                    if message.type is WSMsgType.ERROR:
                        break
                    if (wanted := _format_in(message)) is not None:
                        self._hub.change_format(client, wanted)
            finally:
                sender.cancel()
                await asyncio.wait({sender})
                self._senders.discard(sender)
        finally:
            self._hub.remove(client)
            # A client that does not read keeps its socket open for ever if what is queued must go out first.
            if request.transport is not None and request.transport.get_write_buffer_size():
                request.transport.abort()
        if not sender.cancelled() and (error := sender.exception()) is not None:
            raise error
        return response

    @staticmethod
    async def _send(client: Client, response: web.WebSocketResponse) -> None:
        try:
            await client.send_to(response)
            await response.close(code=WSCloseCode.GOING_AWAY, message=b"the graph has ended")
        except ConnectionError:
            await response.close()

    async def _streams(self, _: web.Request) -> web.StreamResponse:
        """The streams that have not ended, as `{"streams": ["cam", ...]}`."""
        return web.json_response({"streams": self._hub.online()})

    async def _skeletons(self, _: web.Request) -> web.StreamResponse:
        """Joints and bones of every layout, as JSON."""
        return web.json_response({s.name: {"joints": s.joints, "bones": s.bones} for s in SKELETONS.values()})

    async def _settings(self, _: web.Request) -> web.StreamResponse:
        """What the page needs to know beforehand, as JSON: whether there is an avatar."""
        return web.json_response({"avatar": self._avatar is not None, "webrtc": self._webrtc})

    async def _avatar_file(self, _: web.Request) -> web.StreamResponse:
        """The avatar of the option `avatar`, a VRM file; 404 without one."""
        if self._avatar is None or not self._avatar.is_file():
            raise web.HTTPNotFound(text="No avatar; name one with the option `avatar`.\n")
        return web.FileResponse(self._avatar, headers={"Content-Type": "model/gltf-binary"})

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        """The newest image of a stream, at most 640 pixels wide; the header `X-Streamkp-Seq` has its `seq`."""
        stream = request.match_info["stream"]
        status = self._hub.status(stream)
        if status is not None and status.state != "live":  # an old picture must not pass for what is there now
            self._previews.pop(stream, None)
            raise web.HTTPNotFound(text=f"No image of now: the stream is {status.state}.\n")
        async with self._one_preview:  # viewers share one encoder: it must not take the graph's cores
            newest = self._hub.images.get(stream)
            if newest is None:
                self._previews.pop(stream, None)
                raise web.HTTPNotFound(text="No image of that stream.\n")
            seq, image = newest
            if stream not in self._previews or self._previews[stream][0] != seq:
                self._previews[stream] = seq, await asyncio.to_thread(_web_video.encode, image, PREVIEW_WIDTH)
            data = self._previews[stream][1]
        return web.Response(body=data, content_type="image/jpeg", headers={"X-Streamkp-Seq": str(seq)})


def _chosen_format(request: web.Request) -> tuple[wire.Format | None, tuple[str, ...]]:
    """The format that a client asks for in its address or by its subprotocols, and the subprotocol to agree to."""
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    protocol = next((name for name in offered if name in _PROTOCOLS), None)
    agreed = (protocol,) if protocol else ()
    if "format" not in request.query:
        return (_PROTOCOLS[protocol] if protocol else None), agreed
    format = _FORMATS.get(request.query["format"])
    if format is None:
        raise web.HTTPBadRequest(text="format is msgpack or json.\n")
    return format, agreed if protocol is None or _PROTOCOLS[protocol] == format else ()


def _format_in(message: WSMessage) -> wire.Format | None:
    """The format that a client asks for in a message `{"format": "json"}`; anything else is not read."""
    if message.type is not WSMsgType.TEXT:
        return None
    try:
        said = json.loads(message.data)
    except (ValueError, RecursionError):
        return None
    wanted = said.get("format") if isinstance(said, dict) else None
    return _FORMATS.get(wanted) if isinstance(wanted, str) else None
