"""A real HTTP server on the loopback interface that can be told to misbehave."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that hangs up is what some tests want
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class FileServer:
    """Answers by path; `requests` lists (path, Range header) in order of arrival."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()  # ends the answers that stall
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.close_connection = True
                outer.requests.append((self.path, self.headers["Range"]))
                answer = outer.answers.get(self.path, status(404))
                answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def stall(self, data: bytes, after: int) -> Answer:
        """Send the first bytes, then nothing until `released`."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            _head(handler, 200, {"Content-Length": str(len(data)), "ETag": _etag(data)})
            handler.wfile.write(data[:after])
            handler.wfile.flush()
            self.released.wait()

        return answer


@contextmanager
def running() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.server.shutdown()
        server.server.server_close()
        thread.join()


def file(data: bytes, *, cuts: list[int] | None = None, etag: str | None = "") -> Answer:
    """Serve `data` with ranges; each of `cuts` ends one answer after so many bytes. `etag=None` sends none."""
    left = list(cuts or [])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        tag = _etag(data) if etag == "" else etag
        headers = {"ETag": tag} if tag else {}
        asked = handler.headers["Range"]
        start = 0
        if asked and handler.headers["If-Range"] == tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                _head(handler, 416, {"Content-Length": "0"})
                return
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        _head(handler, 206 if start else 200, headers)
        body = data[start:]
        handler.wfile.write(body[: left.pop(0)] if left else body)

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, code, {"Content-Length": "0", **headers})

    return answer


def page(content_type: str = "text/html; charset=utf-8") -> Answer:
    body = b"\n<!DOCTYPE html><html><body>Please sign in</body></html>"

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, 200, {"Content-Length": str(len(body)), "Content-Type": content_type})
        handler.wfile.write(body)

    return answer


def in_turn(*answers: Answer) -> Answer:
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def unannounced(data: bytes) -> Answer:
    """A body without Content-Length, ended by closing."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        _head(handler, 200, {})
        handler.wfile.write(data)

    return answer


def _head(handler: BaseHTTPRequestHandler, code: int, headers: dict[str, str]) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()


def _etag(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'
