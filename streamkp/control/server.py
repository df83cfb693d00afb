"""An HTTP server that is bounded: in connections, in the time a request may take, and in its own shutdown."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from streamkp.errors import OutputError, UsageError

REQUEST_SECONDS: Final = 15.0  # a connection that has not sent a whole request by then is closed
MAX_CONNECTIONS: Final = 512
MAX_PER_ADDRESS: Final = 256
_BACKLOG: Final = 128
_LOG_EVERY: Final = 60.0  # seconds between two log lines about connections that cannot be taken
_SHARE: Final = 0.5  # of the descriptors that the system allows: cameras, files and models need the others
log = logging.getLogger("streamkp.http")


class _Malformed(logging.Filter):
    """Leaves out aiohttp's tracebacks about requests that are no HTTP, or break off: anybody can send them."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionError))


_aiohttp_log = logging.getLogger("streamkp.http.requests")
_aiohttp_log.addFilter(_Malformed())


def most_connections() -> int:
    """How many connections there may be: `MAX_CONNECTIONS`, or fewer where the system allows few descriptors."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are no descriptors
        return MAX_CONNECTIONS
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, int(_SHARE * allowed)))


class HttpServer:
    """Serves one aiohttp application on one address. All methods run on one loop.

    Args:
        app: the application.
        name: the stage or option that error messages name.
        port_option: how to choose another port, for the message when it is in use.
    """

    def __init__(self, app: web.Application, name: str, port_option: str) -> None:
        self._name = name
        self._port_option = port_option
        self._listener: asyncio.Server | None = None
        self._most = most_connections()
        self._troubles = _AcceptTroubles(name)
        self._runner = web.AppRunner(
            app,
            logger=_aiohttp_log,
            access_log=None,
            keepalive_timeout=REQUEST_SECONDS,
            shutdown_timeout=0.5,
            handle_signals=False,
        )

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None, *, search: int = 1) -> int:
        """Listen, and return the port.

        Args:
            host: address to bind.
            port: 0 for any free one.
            tls: serve https with this context.
            search: how many ports to try, from `port` upwards.

        Raises:
            OutputError: the address cannot be bound; the message says whether the port is in use.
        """
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        tries = range(port, min(port + max(1, search), 65536)) if port else range(1)
        for number in tries:
            try:
                # asyncio accepts `backlog` connections in a row, and where descriptors have run out it goes on trying,
                # logs each failure and plans as many retries: one at a time, and the true backlog afterwards.
                self._listener = await loop.create_server(self._gate, host, number, ssl=tls, backlog=1)
                _listen(self._listener, _BACKLOG)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and number != tries[-1]:
                    continue
                await self._runner.cleanup()
                raise self._refused(error, host, port) from None
            break
        loop.set_exception_handler(self._troubles.handle)
        assert self._listener is not None
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop_listening(self) -> None:
        """Take no further connections; those that exist go on."""
        if self._listener is not None:
            self._listener.close()

    async def cleanup(self) -> None:
        """Close every connection and release the application."""
        await self.stop_listening()
        await self._runner.cleanup()

    def _gate(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return _Gate(server, self._most)

    def _refused(self, error: OSError, host: str, port: int) -> OutputError:
        where = f"{self._name}: cannot listen on {host} port {port}"
        if error.errno == errno.EADDRINUSE:
            return OutputError(
                f"{where}: the port is in use; stop the program that has it, or choose another with {self._port_option}"
            )
        return OutputError(f"{where}: {error.strerror or error}")


class _Gate(asyncio.Protocol):
    """Hands a new connection to the server, or drops it at once when there are too many.

    Without a limit, clients that connect and never read would use up the process's file descriptors.
    """

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        peer = _address(transport)
        open_now = [c.transport for c in self._server.connections if c.transport is not None]
        same = sum(_address(each) == peer for each in open_now)
        if len(open_now) >= self._most or same >= min(MAX_PER_ADDRESS, max(1, self._most // 2)):
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)


class _AcceptTroubles:
    """Says once a minute that connections cannot be taken, for clients can make that happen as often as they like."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: float | None = None
        self._quiet = 0

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception handler of a loop."""
        if "socket.accept()" not in str(context.get("message")):
            loop.default_exception_handler(context)
            return
        now = loop.time()
        if self._said is not None and now - self._said < _LOG_EVERY:
            self._quiet += 1
            return
        more = f" ({self._quiet} more times since this was said last)" if self._quiet else ""
        error = context.get("exception")
        reason = (error.strerror if isinstance(error, OSError) else None) or "no descriptors left"
        log.error("%s: connections cannot be taken: %s; raise the limit (ulimit -n)%s", self._name, reason, more)
        self._said, self._quiet = now, 0


def _listen(server: asyncio.Server, backlog: int) -> None:
    for each in server.sockets:
        with socket.socket(fileno=os.dup(each.fileno())) as same:  # asyncio's own object does not offer it
            same.listen(backlog)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def tls_context(name: str, cert: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS context from PEM files.

    Raises:
        UsageError: the files cannot be read or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{name}: cannot use the certificate {cert} with the key {key}: {error}") from None
    return context
