"""The HTTP side of `publish-websocket`: who may ask, and what is answered."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import cv2
from aiohttp import WSCloseCode, WSMsgType, web

from streamkp import wire
from streamkp.graph.stage import EngineView
from streamkp.packet import Image
from streamkp.sinks._web_hub import Client, Hub
from streamkp.skeletons import SKELETONS

VIEWER = Path(__file__).resolve().parent.parent / "viewer"
PREVIEW_WIDTH = 640
SEND_BUFFER = 128 * 1024  # bytes in the kernel: what is queued there grows old and can no longer be dropped
_FORMATS: dict[str, wire.Format] = {"msgpack": "msgpack", "json": "json"}
_PUBLIC = ("/", "/healthz", "/readyz", "/skeletons.json")  # and the viewer's own files: nothing of any stream
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # the token may be in the address
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Whether that name or address is this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclasses.dataclass(frozen=True)
class Access:
    """Who may ask.

    `token`: everything about streams needs it. `local_names`: the Host header must name this machine, so that a page of
    another site cannot reach a server without a token by pointing its own name here (DNS rebinding). `origins`: other
    sites whose pages may connect.
    """

    token: str | None
    local_names: bool
    origins: frozenset[str]

    def check(self, request: web.Request) -> None:
        """Raise the HTTP error that this request deserves, if any."""
        if self.local_names and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            raise web.HTTPForbidden(text="This server answers to localhost only.\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.host and origin not in self.origins:
            raise web.HTTPForbidden(text="Pages of other sites may not connect; allow them with `origins`.\n")
        public = request.path in _PUBLIC or request.path.startswith("/viewer/")
        if self.token is not None and not public and not self._has_token(request, self.token):
            raise web.HTTPUnauthorized(
                text="A token is needed: `Authorization: Bearer TOKEN`, or ?token=TOKEN.\n",
                headers={"WWW-Authenticate": "Bearer"},
            )

    @staticmethod
    def _has_token(request: web.Request, token: str) -> bool:
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = request.query.get("token", "")
        return hmac.compare_digest(given.encode(), token.encode())


class WebApp:
    """Routes and handlers; all of it runs on one loop."""

    def __init__(self, hub: Hub, engine: EngineView | None, access: Access, max_clients: int, queue: int) -> None:
        self._hub = hub
        self._engine = engine
        self._access = access
        self._max_clients = max_clients
        self._queue = queue
        self._senders: set[asyncio.Task[None]] = set()
        self._previews: dict[str, tuple[int, bytes]] = {}
        self._one_preview = asyncio.Lock()
        self.app = web.Application(middlewares=[self._guard], client_max_size=1024)
        self.app.add_routes(
            [
                web.get("/", self._page),
                web.get("/ws", self._socket),
                web.get("/streams", self._streams),
                web.get("/stats", self._stats),
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/skeletons.json", self._skeletons),
                web.get("/preview/{stream}.jpg", self._preview),
                web.static("/viewer", VIEWER),
            ]
        )

    async def flush(self, seconds: float) -> None:
        """Give the clients that long to take what is queued for them, and to be closed properly."""
        self._hub.end()
        if self._senders:
            await asyncio.wait(self._senders, timeout=seconds)

    @staticmethod
    def _headers(response: web.StreamResponse) -> None:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            self._access.check(request)
            response = await handler(request)
        except web.HTTPException as error:
            self._headers(error)
            raise
        if not response.prepared:
            self._headers(response)
        return response

    async def _page(self, _: web.Request) -> web.StreamResponse:
        return web.FileResponse(VIEWER / "index.html")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        try:
            format = _FORMATS[request.query.get("format", "msgpack")]
        except KeyError:
            raise web.HTTPBadRequest(text="format is msgpack or json.\n") from None
        if len(self._hub.clients) >= self._max_clients:
            raise web.HTTPServiceUnavailable(text=f"All {self._max_clients} places are taken (max_clients).\n")
        client = Client(request.query.get("stream"), format, self._queue)
        # Uncompressed: compression doubles the cost of a message and gains little on float32.
        response = web.WebSocketResponse(timeout=1.0, heartbeat=20.0, max_msg_size=4096, compress=False)
        self._hub.add(client)
        try:
            await response.prepare(request)
            if request.transport is not None:
                connection = request.transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            sender = asyncio.create_task(self._send(client, response))
            self._senders.add(sender)
            try:
                async for message in response:  # clients have nothing to say; reading notices that they are gone
                    if message.type is WSMsgType.ERROR:
                        break
            finally:
                sender.cancel()
                await asyncio.wait({sender})
                self._senders.discard(sender)
        finally:
            self._hub.remove(client)
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
        return web.json_response({"streams": self._hub.online()})

    async def _stats(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({} if self._engine is None else self._engine.stats())

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        text = b"" if self._engine is None else self._engine.prometheus()
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        healthy = self._engine is None or self._engine.healthy()
        return web.Response(text="ok\n" if healthy else "a stage has failed\n", status=200 if healthy else 503)

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        ready = self._engine is not None and self._engine.ready()
        text = "ok" if ready else "no stream delivers"
        if self._engine is not None and (failed := len(self._engine.failed_streams())):
            text += f"; {failed} failed, /stats says why"
        return web.Response(text=f"{text}\n", status=200 if ready else 503)

    async def _skeletons(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({s.name: {"joints": s.joints, "bones": s.bones} for s in SKELETONS.values()})

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        stream = request.match_info["stream"]
        async with self._one_preview:  # viewers share one encoder: it must not take the graph's cores
            newest = self._hub.images.get(stream)
            if newest is None:
                self._previews.pop(stream, None)
                raise web.HTTPNotFound(text="No image of that stream.\n")
            seq, image = newest
            if stream not in self._previews or self._previews[stream][0] != seq:
                self._previews[stream] = seq, await asyncio.to_thread(_jpeg, image)
            data = self._previews[stream][1]
        return web.Response(body=data, content_type="image/jpeg", headers={"X-Streamkp-Seq": str(seq)})


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    if width > PREVIEW_WIDTH:
        size = PREVIEW_WIDTH, max(1, round(height * PREVIEW_WIDTH / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 75])
    return data.tobytes()
