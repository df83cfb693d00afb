"""The control server of a run, for graphs whose sinks serve no HTTP of their own."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aiohttp import web

from streamkp.control import api
from streamkp.control.access import Access, check_binding, is_loopback
from streamkp.control.routes import all_routes
from streamkp.control.server import HttpServer
from streamkp.graph.loop_thread import LoopThread
from streamkp.graph.spec import ControlSpec
from streamkp.graph.stage import EngineView

DEFAULT_PORT = 8766
_SEARCH = 100  # ports tried from the default one upwards


class ControlServer:
    """Serves health, metrics and statistics of an engine, and the control API.

    Examples:
        >>> with ControlServer(engine, ControlSpec()) as control:  # doctest: +SKIP
        ...     print(control.url)
    """

    def __init__(self, engine: EngineView, options: ControlSpec) -> None:
        self._options = options
        self._engine = engine
        self._loop = LoopThread("streamkp-control")
        self.url = ""

    def start(self) -> str:
        """Listen, and return the address, such as `http://127.0.0.1:8766`.

        Raises:
            UsageError: it would listen beyond this machine without a proper token.
            OutputError: the port cannot be had.
        """
        options = self._options
        token = options.token.get_secret_value() if options.token else None
        check_binding("control", options.host, token, options.insecure)
        access = Access(token=token, local=is_loopback(options.host), hosts=frozenset(options.allowed_hosts))
        self._loop.start()
        try:
            port = self._loop.call(self._start(access))
        except BaseException:
            self._loop.stop()
            raise
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.url = f"http://{host}:{port}"
        return self.url

    def close(self) -> None:
        """End every connection and the thread."""
        try:
            self._loop.call(self._server.cleanup())
        finally:
            self._loop.stop()

    def __enter__(self) -> Self:
        if not self.url:
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _start(self, access: Access) -> int:
        app = web.Application(middlewares=[api.json_errors(), access.middleware()], client_max_size=api.MAX_BODY)
        app.add_routes(all_routes(self._engine, token=access.token is not None))
        self._server = HttpServer(app, "control", "`control: {port: NUMBER}` in the graph file")
        if self._options.port is None:
            return await self._server.start(self._options.host, DEFAULT_PORT, search=_SEARCH)
        return await self._server.start(self._options.host, self._options.port)
