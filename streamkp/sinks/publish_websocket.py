"""`publish-websocket`: publishes every frame over WebSocket, and serves a page that shows them.

* `/` the page
* `/ws?stream=ID&format=F` the WebSocket: F is msgpack or json; without `stream`, all streams. A client may also choose
  by the subprotocol `streamkp.json` or `streamkp.msgpack`, or by a message `{"format": "json"}`; one that does not gets
  msgpack, and first a text message that says so. The messages are those of `streamkp.wire`. At the
  end of the graph a client gets what is queued for it and is closed with 1001.
* `/streams` the streams that have not ended
* `/video` pictures for the page, see `streamkp.sinks._web_video`
* `/camera?to=NAME` takes a browser's camera for the source `browser://NAME`; `/cameras` lists those that wait for one
* `/preview/{stream}.jpg` the newest image, at most 640 pixels wide; the header X-Streamkp-Seq has its `seq`; 404 while
  the stream is not live
* `/stats`, `/metrics` the engine's figures, as JSON and for Prometheus
* `/healthz`, `/readyz` 200 or 503
* `/api/v1/...` the control API, see docs/control.md
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, SecretStr

from streamkp import wire
from streamkp.control.access import Access, check_binding, is_loopback
from streamkp.control.server import HttpServer, tls_context
from streamkp.errors import UsageError
from streamkp.graph.loop_thread import LoopThread
from streamkp.graph.stage import LIVE, StageOptions
from streamkp.graph.status import Status
from streamkp.packet import Packet
from streamkp.sinks._web_app import PUBLIC, WebApp
from streamkp.sinks._web_hub import Hub
from streamkp.sinks._web_video import VideoFeed
from streamkp.sinks.message_sink import MessageSink

FLUSH_SECONDS = 2.0
_SEARCH = 100  # ports tried with `next_port`


class TlsOptions(StageOptions):
    """Files in PEM format."""

    cert: Path = Field(description="Certificate chain.")
    key: Path = Field(description="Private key.")


class PublishWebsocket(MessageSink):
    """Publishes every frame over WebSocket, and serves the page, the metrics and the health checks."""

    light = True

    class Options(StageOptions):
        host: str = Field("127.0.0.1", description="Address to listen on. A wider one needs a token.")
        port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
        next_port: bool = Field(False, description="Take the next free port where this one is in use.")
        token: SecretStr | None = Field(None, min_length=1, description="Clients must show this secret.")
        insecure: bool = Field(False, description="Listen beyond this machine without a token.")
        tls: TlsOptions | None = Field(None, description="Serve https and wss with this certificate.")
        origins: tuple[str, ...] = Field((), description="Other sites whose pages may connect: https://example.org.")
        allowed_hosts: tuple[str, ...] = Field(
            (), description="Names, besides its address, that clients without a token may use."
        )
        max_clients: int = Field(100, ge=1, description="WebSocket clients at a time.", json_schema_extra=LIVE)
        preview_fps: float = Field(
            30.0,
            gt=0,
            le=120,
            description="Pictures per second that the page is sent, at most.",
            json_schema_extra=LIVE,
        )
        preview_width: int = Field(
            960, ge=16, le=4096, description="Width in pixels of those pictures, at most.", json_schema_extra=LIVE
        )
        avatar: Path | None = Field(None, description="VRM file that the page moves by the pose.")
        queue: int = Field(
            256,
            ge=1,
            description="Messages that wait for a slow client before it loses the oldest.",
            json_schema_extra=LIVE,
        )

    options: Options
    serves_control = True
    webrtc = False  # whether the page has its video over WebRTC

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"port {options.port}"] if options.port else []

    def notice(self) -> str:
        wanted = self.options.port
        return f"the page is at {self.url}" + (f" (port {wanted} is in use)" if wanted not in (0, self.port) else "")

    def open(self) -> None:
        options = self.options
        token = options.token.get_secret_value() if options.token else None
        check_binding(self.context.name, options.host, token, options.insecure)
        if options.avatar is not None and not options.avatar.is_file():
            raise UsageError(f"{self.context.name}: there is no file {options.avatar}; `avatar` names a VRM file")
        access = Access(
            token=token,
            local=is_loopback(options.host),
            hosts=frozenset(options.allowed_hosts),
            origins=frozenset(options.origins),
            public=PUBLIC,
        )
        tls = tls_context(self.context.name, options.tls.cert, options.tls.key) if options.tls else None
        self._loop = LoopThread(self.context.name)
        self._hub = Hub(self._loop.post)
        self._waking = False
        self._loop.start()
        try:
            self.port = self._loop.call(self._serve(access, tls))
        except BaseException:
            self._loop.stop()
            raise
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"
        self.follow_streams(self._stands)

    def options_changed(self) -> None:
        options = self.options
        self._web.limit(options.max_clients, options.queue)
        self._video.limit(options.preview_fps, options.preview_width, options.max_clients)

    def process(self, packet: Packet) -> None:
        self._loop.check()
        if packet.picture is not None:
            self._hub.images[packet.stream] = packet.seq, packet.picture
            if self._video.watched and not self._waking:
                self._waking = True
                self._loop.post(self._wake)
        super().process(packet)

    def wanted(self, packet: Packet) -> bool:
        return self._hub.wanted(packet.stream)

    def send(self, message: wire.Message) -> None:
        self._hub.publish(message)

    def close(self) -> None:
        self.unfollow_streams()
        try:
            self._loop.call(self._shut())
        finally:
            self._loop.stop()
        self._loop.check()

    def _stands(self, stream: str, status: Status | None) -> None:
        self._hub.set_status(stream, status)
        if status is None or status.final:
            self._loop.post(self._video.forget, stream)

    def _wake(self) -> None:
        self._waking = False  # before the pages look: a picture from now on asks for another round
        self._video.wake()

    async def _serve(self, access: Access, tls: ssl.SSLContext | None) -> int:
        options = self.options
        self._video = VideoFeed(
            self._hub.images.get, options.preview_fps, options.preview_width, options.max_clients, webrtc=self.webrtc
        )
        self._web = WebApp(
            self._hub,
            self.context.engine,
            access,
            options.max_clients,
            options.queue,
            self._video,
            options.avatar,
            self.webrtc,
        )
        self._server = HttpServer(self._web.app, self.context.name, f"--set stages.{self.context.name}.port=NUMBER")
        return await self._server.start(options.host, options.port, tls, search=_SEARCH if options.next_port else 1)

    async def _shut(self) -> None:
        # The listening socket first, so that nobody connects to a server that is going.
        await self._server.stop_listening()
        await self._web.flush(FLUSH_SECONDS)
        await self._server.cleanup()
