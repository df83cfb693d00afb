"""`publish-websocket`: every frame to every browser and program that asks, and a page to look at.

* `/` the page
* `/ws?stream=ID&format=F` the WebSocket: F is msgpack (default) or json; without `stream`, all streams. The messages
  are those of `streamkp.wire`. At the end of the graph a client gets what is queued for it and is closed with 1001.
* `/streams` the streams that deliver
* `/preview/{stream}.jpg` the newest image, at most 640 pixels wide; the header X-Streamkp-Seq has its `seq`
* `/stats`, `/metrics` the engine's figures, as JSON and for Prometheus
* `/healthz`, `/readyz` 200 or 503
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from pydantic import Field, SecretStr

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.graph.stage import Sink, StageOptions
from streamkp.packet import Packet
from streamkp.sinks._loop_thread import LoopThread
from streamkp.sinks._web_app import Access, WebApp, is_loopback
from streamkp.sinks._web_hub import Hub

FLUSH_SECONDS = 2.0
REQUEST_SECONDS = 15.0  # a connection that has not sent a whole request by then is closed


class TlsOptions(StageOptions):
    """Files in PEM format."""

    cert: Path = Field(description="Certificate chain.")
    key: Path = Field(description="Private key.")


class PublishWebsocket(Sink):
    """Publishes every frame over WebSocket, and serves the page, the metrics and the health checks."""

    class Options(StageOptions):
        host: str = Field("127.0.0.1", description="Address to listen on. A wider one needs a token.")
        port: int = Field(8765, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
        token: SecretStr | None = Field(None, min_length=1, description="Clients must show this secret.")
        insecure: bool = Field(False, description="Listen beyond this machine without a token.")
        tls: TlsOptions | None = Field(None, description="Serve https and wss with this certificate.")
        origins: tuple[str, ...] = Field((), description="Other sites whose pages may connect: https://example.org.")
        max_clients: int = Field(100, ge=1, description="WebSocket clients at a time.")
        queue: int = Field(256, ge=1, description="Messages that wait for a slow client before it loses the oldest.")

    options: Options

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"port {options.port}"] if options.port else []

    def notice(self) -> str:
        return f"the page is at {self.url}"

    def open(self) -> None:
        options = self.options
        local = is_loopback(options.host)
        if not local and options.token is None and not options.insecure:
            raise UsageError(
                f"{self.context.name}: listening on {options.host} lets everyone on the network watch; "
                "set `token`, or `insecure: true` if that is what you want"
            )
        access = Access(
            token=options.token.get_secret_value() if options.token else None,
            local_names=local and options.token is None and not options.insecure,
            origins=frozenset(options.origins),
        )
        tls = self._tls(options.tls) if options.tls else None
        self._drops = wire.DropCounter()
        self._loop = LoopThread(self.context.name)
        self._hub = Hub(self._loop.post)
        self._loop.start()
        try:
            self.port = self._loop.call(self._serve(access, tls))
        except BaseException:
            self._loop.stop()
            raise
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.url = f"http{'s' if tls else ''}://{host}:{self.port}"

    def process(self, packet: Packet) -> None:
        self._loop.check()
        dropped = self._drops.count(packet)
        if packet.image is not None:
            self._hub.images[packet.stream] = packet.seq, packet.image
        self._hub.set_online(packet.stream, True)
        if self._hub.wanted(packet.stream):
            self._hub.publish(wire.message(packet, self.context.clock.now(), dropped))

    def stream_ended(self, stream: str) -> None:
        self._drops.forget(stream)
        self._hub.set_online(stream, False)

    def close(self) -> None:
        try:
            self._loop.call(self._shut())
        finally:
            self._loop.stop()
        self._loop.check()

    def _tls(self, files: TlsOptions) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(files.cert, files.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"{self.context.name}: cannot use the certificate {files.cert} with the key {files.key}: {error}"
            ) from None
        return context

    async def _serve(self, access: Access, tls: ssl.SSLContext | None) -> int:
        options = self.options
        self._web = WebApp(self._hub, self.context.engine, access, options.max_clients, options.queue)
        self._runner = web.AppRunner(
            self._web.app,
            access_log=None,
            keepalive_timeout=REQUEST_SECONDS,
            shutdown_timeout=0.5,
            handle_signals=False,
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, options.host, options.port, ssl_context=tls).start()
        except OSError as error:
            await self._runner.cleanup()
            where = f"{self.context.name}: cannot listen on {options.host} port {options.port}"
            if error.errno == errno.EADDRINUSE:
                raise OutputError(
                    f"{where}: the port is in use; stop the program that has it, or choose another with "
                    f"--set stages.{self.context.name}.port=NUMBER"
                ) from None
            raise OutputError(f"{where}: {error.strerror or error}") from None
        port: int = self._runner.addresses[0][1]
        return port

    async def _shut(self) -> None:
        # The listening socket first, so that nobody connects to a server that is going.
        await asyncio.gather(*(site.stop() for site in self._runner.sites))
        await self._web.flush(FLUSH_SECONDS)
        await self._runner.cleanup()
