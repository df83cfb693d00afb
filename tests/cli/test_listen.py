from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streamkp import wire
from streamkp.cli import listen
from streamkp.cli.schema import schema
from streamkp.errors import SourceError, UsageError
from streamkp.graph.stage import Sink, StageContext
from streamkp.graph.status import Status, StatusBoard
from streamkp.sinks.publish_mqtt import PublishMqtt
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet

app = typer.Typer()
app.command()(listen.listen)
app.command()(schema)


def _run(*args: str) -> Any:
    return CliRunner().invoke(app, ["listen", *args])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def feed() -> Iterator[Callable[[Sink], None]]:
    """Opens a sink and gives it frames of two streams until the end of the test."""
    stop = threading.Event()
    running: list[tuple[Sink, threading.Thread]] = []

    def run(sink: Sink) -> None:
        seq = 0
        while not stop.wait(0.02):
            for stream in ("a", "b"):
                sink.process(make_packet(seq, stream, people=1))
            seq += 1

    def start(sink: Sink) -> None:
        sink.open()
        thread = threading.Thread(target=run, args=(sink,))
        thread.start()
        running.append((sink, thread))

    yield start
    stop.set()
    for sink, thread in running:
        thread.join()
        sink.close()


def test_websocket(feed: Callable[[Sink], None]) -> None:
    sink = PublishWebsocket(PublishWebsocket.Options(port=0), StageContext("publish"))
    feed(sink)
    for scheme in ("ws", "http"):
        done = _run(f"{scheme}://127.0.0.1:{sink.port}", "--count", "3", "--stream", "b")
        assert done.exit_code == 0, done.output
        frames = [line for line in done.output.splitlines() if "#" in line]
        assert len(frames) == 3
        assert all(line.startswith("b #") and "person 1 tracked at" in line and "m tall" in line for line in frames)


def test_mqtt(feed: Callable[[Sink], None]) -> None:
    port = _free_port()
    feed(PublishMqtt(PublishMqtt.Options(broker="embedded", port=port, prefix="my/site"), StageContext("mqtt")))
    done = _run(f"mqtt://127.0.0.1:{port}/my/site", "--count", "4", "--json")
    assert done.exit_code == 0, done.output
    messages = [json.loads(line) for line in done.output.splitlines()]
    assert {m["stream"] for m in messages} == {"a", "b"}
    for message in messages:
        wire.FrameMessage.model_validate(message)
    done = _run(f"mqtt://127.0.0.1:{port}/my/site", "--count", "2", "--json", "--stream", "a")
    assert {json.loads(line)["stream"] for line in done.output.splitlines()} == {"a"}


@pytest.mark.parametrize("kind", ["ws", "mqtt"])
def test_a_stream_that_is_not_there_is_said_and_may_still_come(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "MISSING_SECONDS", 0.3)
    said, board = threading.Event(), StatusBoard()
    lines: list[str] = []

    def echo(text: str, err: bool = False) -> None:
        lines.append(text)
        assert err
        said.set()

    monkeypatch.setattr(listen.typer, "echo", echo)
    context = StageContext("publish", streams=board)
    sink: Sink
    if kind == "ws":
        sink = PublishWebsocket(PublishWebsocket.Options(port=0), context)
        sink.open()
        address = f"ws://127.0.0.1:{sink.port}"
    else:
        port = _free_port()
        sink = PublishMqtt(PublishMqtt.Options(broker="embedded", port=port), context)
        sink.open()
        address = f"mqtt://127.0.0.1:{port}"
    for name in ("door", "floor", "old"):
        board.begin(name)
    board.set("old", "ended")
    sink.stream_ended("old")
    thread = threading.Thread(target=lambda: listen.listen(address, count=1, stream="flor"))
    thread.start()
    assert said.wait(30)
    board.begin("flor")
    for seq in range(3000):
        sink.process(make_packet(seq, "flor"))
        thread.join(0.01)
        if not thread.is_alive():
            break
    sink.close()
    thread.join(30)
    assert lines == ["there is no stream named flor; there are: door, floor; waiting for it"]


def test_it_ends_with_the_graph_and_says_if_frames_are_missing() -> None:
    sink = PublishWebsocket(PublishWebsocket.Options(port=0), StageContext("publish"))
    sink.open()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda a=args: results.append(_run_raw(f"ws://127.0.0.1:{sink.port}", *a)))
        for args in ((None,), (9,))
    ]
    for thread in threads:
        thread.start()
    while len(sink._hub.clients) < 2:
        threads[0].join(0.01)
    sink.process(make_packet(0))
    sink.close()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(map(str, results)) == ["None", f"ws://127.0.0.1:{sink.port} ended after 1 of 9 frames"]


def _run_raw(uri: str, count: int | None) -> Exception | None:
    try:
        listen.listen(uri, count)
    except SourceError as error:
        return error
    return None


@pytest.mark.parametrize("scheme", ["ws", "wss", "http", "mqtt", "mqtts"])
def test_nobody_there(scheme: str) -> None:
    with pytest.raises(SourceError, match=r"nothing to listen to at .*is the graph running") as error:
        listen.listen(f"{scheme}://me:s3cret@127.0.0.1:{_free_port()}")
    assert "s3cret" not in str(error.value)


def test_a_server_that_wants_a_token() -> None:
    sink = PublishWebsocket(PublishWebsocket.Options(port=0, token="s3cret"), StageContext("publish"))
    sink.open()
    try:
        with pytest.raises(SourceError, match="needs a token") as error:
            listen.listen(f"ws://127.0.0.1:{sink.port}?token=wr0ng")
        assert "wr0ng" not in str(error.value)
        with pytest.raises(SourceError, match="answered 404"):
            listen.listen(f"ws://127.0.0.1:{sink.port}/nothing?token=s3cret")
    finally:
        sink.close()


@pytest.mark.parametrize("uri", ["127.0.0.1:8765", "ftp://u:s3cret@h", "mqtt://", "mqtt://h:99999"])
def test_not_an_address(uri: str) -> None:
    with pytest.raises(UsageError) as error:
        listen.listen(uri)
    assert "s3cret" not in str(error.value)


def test_schema_is_json() -> None:
    done = CliRunner().invoke(app, ["schema"])
    assert json.loads(done.output) == wire.schema()


def test_lines_for_other_messages() -> None:
    stalled = Status("stalled", "no frame for 2.0 s", 7)
    assert listen.describe(wire.status_message("cam", stalled.as_json())) == "cam: stalled: no frame for 2.0 s"
    frozen = Status("live", None, 7, picture="frozen")
    assert listen.describe(wire.status_message("cam", frozen.as_json())) == "cam: live (frozen)"
    assert "3 messages lost" in listen.describe(wire.lost_message(3))
    line = listen.describe(wire.message(make_packet(4, people=0), 1_700_000_000_165_000_000, 2))
    assert line == "cam #4  t=0.160 s  latency 5.0 ms  2 dropped  nobody"
    played = listen.describe(wire.message(make_packet(4, people=0), 1_700_000_100_165_000_000, 0))
    assert played == "cam #4  t=0.160 s  nobody", "the age of a recording is no latency"


class _Dying:
    """A WebSocket server that sends one frame and then breaks the connection without a word."""

    def __init__(self, stream: str = "cam", polite: bool = False) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._frame = wire.encode(wire.message(make_packet(0, stream), 1, 0), "json")
        self._polite = polite
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            (key,) = [
                line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
            ]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            connection.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                b"\x81\x7e" + len(self._frame).to_bytes(2, "big") + self._frame
            )
            if self._polite:
                connection.sendall(b"\x88\x02\x03\xe9")  # close, 1001
                connection.recv(4096)

    def join(self) -> None:
        self._thread.join(30)


def test_a_publisher_that_dies() -> None:
    server = _Dying()
    done = _run(f"ws://127.0.0.1:{server.port}")
    server.join()
    assert "cam #0" in done.output
    assert isinstance(done.exception, SourceError)
    assert "the connection broke" in str(done.exception)


def test_a_publisher_that_ends() -> None:
    server = _Dying(polite=True)
    done = _run(f"ws://127.0.0.1:{server.port}")
    server.join()
    assert (done.exit_code, done.exception) == (0, None)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_names_of_streams_do_not_rule_the_terminal(options: list[str]) -> None:
    server = _Dying("\x1b[2Jca\u202em\x9b", polite=True)
    done = _run(f"ws://127.0.0.1:{server.port}", *options)
    server.join()
    assert done.exit_code == 0
    assert done.output.rstrip("\n").isprintable()
    if options:
        assert json.loads(done.output)["stream"] == "\x1b[2Jca\u202em\x9b"
