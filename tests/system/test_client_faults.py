"""Clients that stall, lie or come in crowds, and stages that get stuck: the program goes on, and says what is wrong."""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from streamkp import wire
from tests.sources.videos import write_clip
from tests.system.conftest import Streamkp
from tests.system.running import Running, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc"),
]

DESCRIPTORS = 300  # that the program may have
GRAPH = """\
streams:
  clip: {uri: clip.mp4, loop: true, realtime: true, live: true}
stages:
  decode: {use: decode}
  big: {use: big.py:Big}
  web: {use: publish-websocket, port: 0%s}
"""
BIG = """\
from streamkp.plugin import MapStage

class Big(MapStage):
    def process(self, packet):
        packet.events.append({"type": "big", "text": "x" * 50_000})
        return packet
"""
STUCK = """\
streams:
  clip: {uri: clip.mp4, loop: true, realtime: true}
stages:
  decode: {use: decode}
  wedge: {use: wedge.py:Wedge}
  web: {use: publish-websocket, port: 0}
"""
WEDGE = """\
import threading
from streamkp.plugin import MapStage

class Wedge(MapStage):
    def process(self, packet):
        if packet.seq == 10:
            threading.Event().wait()
        return packet
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    write_clip(folder / "clip.mp4")
    (folder / "big.py").write_text(BIG)
    (folder / "wedge.py").write_text(WEDGE)
    (folder / "stuck.yaml").write_text(STUCK)
    (folder / "graph.yaml").write_text(GRAPH % "")
    (folder / "wide.yaml").write_text(GRAPH % ", host: 0.0.0.0, insecure: true, allowed_hosts: [pose.example]")
    return folder


@pytest.fixture(scope="module", autouse=True)
def stuck(program_env: dict[str, str], folder: Path) -> Iterator[Running]:
    """Started first: the program takes half a minute to call a stage stuck."""
    program = Running("run", "stuck.yaml", env=program_env, cwd=folder)
    yield program
    program.kill()


@pytest.fixture(scope="module", autouse=True)
def crowded(program_env: dict[str, str], folder: Path) -> Iterator[tuple[Running, int, list[socket.socket]]]:
    """A program with few descriptors and three hundred clients that never read; how many it had open before."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))

    program = Running("run", "graph.yaml", env=program_env, cwd=folder, preexec_fn=few)
    program.wait_frames("clip")
    before = program.descriptors()
    clients = [never_reads(program.page) for _ in range(3) for _ in range(100)]
    yield program, before, clients
    for client in clients:
        client.close()
    program.kill()


def never_reads(page: str) -> socket.socket:
    """A WebSocket client that asks and never reads."""
    client = socket.create_connection(("127.0.0.1", urlsplit(page).port or 0), timeout=10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return client


def ask(page: str, headers: bytes) -> bytes:
    """The status line of the answer to a request with these headers."""
    with socket.create_connection(("127.0.0.1", urlsplit(page).port or 0), timeout=10) as client:
        client.sendall(b"GET /stats HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n")
        return client.makefile("rb").readline()


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        (b"Host: [\r\n", b" 400 "),
        (b"Host: a:b:c\r\n", b" 400 "),
        (b"Host: 127.0.0.1\r\nOrigin: http://[\r\n", b" 400 "),
        (b"Host: 127.0.0.1\r\nOrigin: \xff\xfe\r\n", b" 40"),
        (b"Host: \xff\xfe\r\n", b" 40"),
        (b"", b" 400 "),
        (b"Host: evil.example\r\n", b" 403 "),
        (b"Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n", b" 403 "),
        (b"Host: 127.0.0.1\r\nAuthorization: \xff \xfe\r\n", b" 400 "),
    ],
)
def test_malformed_headers(stuck: Running, headers: bytes, answer: bytes) -> None:
    assert answer in ask(stuck.page, headers)
    assert "Traceback" not in stuck.said


def test_a_name_of_another_site_is_refused_also_where_everybody_may_look(
    program_env: dict[str, str], folder: Path
) -> None:
    program = Running("run", "wide.yaml", env=program_env, cwd=folder)
    try:
        program.wait_frames("clip")
        page = program.page.replace("0.0.0.0", "127.0.0.1")
        assert b" 403 " in ask(page, b"Host: evil.example\r\n"), "DNS rebinding"
        assert b" 200 " in ask(page, b"Host: pose.example\r\n")
        assert b" 200 " in ask(page, b"Host: 192.168.1.5:8765\r\n")
    finally:
        program.kill()


def test_a_token_that_can_be_guessed_is_refused(streamkp: Streamkp, folder: Path) -> None:
    wide = folder / "short.yaml"
    wide.write_text(GRAPH % ", host: 0.0.0.0, token: short" % ())
    done = streamkp("run", wide)
    assert done.code == 2
    assert "at least 16" in done.complaint()
    assert "short" not in done.complaint().replace("short.yaml", "")


def test_a_crowd_that_never_reads_leaves_others_alone(
    crowded: tuple[Running, int, list[socket.socket]],
) -> None:
    program, before, _ = crowded
    # While they hold on, the figures can be had, once connections that were turned away are closed.
    until(lambda: program.get("/stats")[0] == 200, "/stats answers")
    program.wait_frames("clip")
    # Those that do not answer a ping lose their places, although they keep their side open.
    until(lambda: program.descriptors() <= before + 5, "descriptors are given back", patience=90)
    with connect(program.page.replace("http", "ws") + "/ws", max_size=None) as client:
        while "seq" not in wire.decode(client.recv(timeout=30)):
            pass
    assert len(program.said) < 100_000, "the log is not flooded"
    assert "Traceback" not in program.said
    assert program.stop() == 0, program.said[-3000:]


def test_a_stuck_stage_turns_the_health_red_and_is_named(stuck: Running) -> None:
    code, body = until(lambda: (answer := stuck.get("/healthz"))[0] == 503 and answer, "/healthz says so", patience=60)
    assert (code, body) == (503, "a stage is stuck\n")
    stuck.wait_said("wedge", "stuck", "stream clip")
