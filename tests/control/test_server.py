from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from streamkp.control import server
from streamkp.control.server import HttpServer, most_connections
from streamkp.graph.loop_thread import LoopThread


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread("test-http")
    thread.start()
    yield thread
    thread.stop()


def test_connections_from_one_address_leave_room_for_others(loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "most_connections", lambda: 6)
    http = HttpServer(web.Application(), "publish", "port")
    port = loop.call(http.start("127.0.0.1", 0))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(4)]
    try:
        assert clients[3].recv(1) == b""  # closed at once
        clients[0].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert clients[0].recv(12) == b"HTTP/1.1 404"
    finally:
        for client in clients:
            client.close()
        loop.call(http.cleanup())


def test_many_may_wait_to_be_taken(loop: LoopThread) -> None:
    http = HttpServer(web.Application(), "publish", "port")
    port = loop.call(http.start("127.0.0.1", 0))
    clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 404"] * 100
    finally:
        for client in clients:
            client.close()
        loop.call(http.cleanup())


@pytest.mark.parametrize(("allowed", "most"), [(300, 150), (10, 8), (1 << 20, server.MAX_CONNECTIONS)])
def test_few_descriptors_mean_few_connections(allowed: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, allowed))
    assert most_connections() == most


def test_failures_to_accept_are_said_once_a_minute(loop: LoopThread, caplog: pytest.LogCaptureFixture) -> None:
    troubles = server._AcceptTroubles("publish")
    now = [0.0]

    class Loop:
        others: list[Any] = []

        def time(self) -> float:
            return now[0]

        def default_exception_handler(self, context: Any) -> None:
            self.others.append(context)

    loop_: Any = Loop()
    full = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "Too many files")}
    for _ in range(1000):
        troubles.handle(loop_, full)
    now[0] = 61.0
    troubles.handle(loop_, full)
    troubles.handle(loop_, {"message": "something else"})
    assert caplog.messages == [
        "publish: connections cannot be taken: Too many files; raise the limit (ulimit -n)",
        "publish: connections cannot be taken: Too many files; raise the limit (ulimit -n) "
        "(999 more times since this was said last)",
    ]
    assert loop_.others == [{"message": "something else"}]
