from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
import websockets
from numpy.testing import assert_array_equal
from websockets.sync.client import ClientConnection, connect

from streamkp import wire
from streamkp.control import server
from streamkp.errors import OutputError, UsageError
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_websocket import PublishWebsocket
from streamkp.skeletons import SKELETONS
from tests.control.engine import FixedEngine
from tests.sinks.walker import make_packet

Open = Callable[..., Any]


def _ws(sink: PublishWebsocket, query: str = "?format=msgpack", **more: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{sink.port}/ws{query}", proxy=None, compression=None, open_timeout=10, **more)


def _get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    async def get() -> tuple[int, bytes, dict[str, str]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers, ssl=False) as response,
        ):
            return response.status, await response.read(), dict(response.headers)

    return asyncio.run(get())


@pytest.mark.parametrize("query", ["?format=msgpack", "?format=json", "?format=json&stream=cam"])
def test_every_frame_arrives_in_order(open_sink: Open, query: str) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _ws(sink, query) as client:
        packets = [make_packet(seq) for seq in (0, 1, 2, 6)]
        for packet in packets:
            sink.process(packet)
        status, *got = [wire.decode(client.recv(timeout=10)) for _ in range(5)]
        assert _told(status) == ("cam", "live")
        assert [m["seq"] for m in got] == [0, 1, 2, 6]
        assert [m["dropped"] for m in got] == [0, 0, 0, 3]
        points = got[3]["persons"][0]["keypoints_3d"]["points"]
        sent = packets[3].persons[0].keypoints_3d
        assert sent is not None
        np.testing.assert_allclose(points, sent.points, atol=1e-4)


def test_who_chooses_no_format_is_told_as_text_that_binary_follows(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _ws(sink, "") as client:
        sink.process(make_packet(0))
        hint, status, frame = (client.recv(timeout=10) for _ in range(3))
    assert isinstance(hint, str)
    assert json.loads(hint) == wire.hint_message()
    assert isinstance(status, bytes)
    assert isinstance(frame, bytes)


@pytest.mark.parametrize(("offered", "text"), [("streamkp.json", True), ("streamkp.msgpack", False)])
def test_a_subprotocol_chooses_the_format(open_sink: Open, offered: str, text: bool) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    protocols = [websockets.Subprotocol(name) for name in ("other", offered)]
    with _ws(sink, "", subprotocols=protocols) as client:
        assert client.subprotocol == offered
        sink.process(make_packet(0))
        status, frame = (client.recv(timeout=10) for _ in range(2))
    assert isinstance(status, str) is isinstance(frame, str) is text


def test_a_first_message_chooses_the_format(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    sink.process(make_packet(0))
    with _ws(sink, "") as client:
        for nonsense in ("hello", "[1]", '{"format": "xml"}', '{"format": []}'):
            client.send(nonsense)
        client.send('{"format": "json"}')
        seen: list[str | bytes] = []
        while not (isinstance(seen and seen[-1], str) and json.loads(seen[-1])["type"] == "status"):
            seen.append(client.recv(timeout=10))
        sink.process(make_packet(1))
        frame = client.recv(timeout=10)
    assert isinstance(frame, str)
    assert json.loads(frame)["seq"] == 1


def test_a_client_hears_only_the_stream_that_it_asked_for(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _ws(sink, "?format=msgpack&stream=b") as client:
        for seq in range(3):
            sink.process(make_packet(seq, "a"))
            sink.process(make_packet(seq, "b"))
        sink.stream_ended("a")
        sink.stream_ended("b")
        got = [wire.decode(client.recv(timeout=10)) for _ in range(5)]
    assert _told(got[0]) == ("b", "live")
    assert [(m["stream"], m["seq"]) for m in got[1:4]] == [("b", 0), ("b", 1), ("b", 2)]
    assert _told(got[4]) == ("b", "ended")


def test_who_comes_late_is_told_where_each_stream_stands(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    sink.process(make_packet(0, "a"))
    sink.process(make_packet(0, "b"))
    sink.stream_ended("a")
    assert json.loads(_get(f"{sink.url}/streams")[1]) == {"streams": ["b"]}
    with _ws(sink) as client:
        assert [_told(wire.decode(client.recv(timeout=10))) for _ in range(2)] == [("a", "ended"), ("b", "live")]
        sink.context.streams.set("b", "reconnecting", "the cable is out")
        told = wire.decode(client.recv(timeout=10))
        assert (_told(told), told["reason"]) == (("b", "reconnecting"), "the cable is out")
        sink.context.streams.forget("a")
    with _ws(sink) as client:
        assert _told(wire.decode(client.recv(timeout=10))) == ("b", "reconnecting")


def test_an_image_is_shown_only_while_the_stream_is_live(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    sink.process(make_packet(0))
    assert _get(f"{sink.url}/preview/cam.jpg")[0] == 200
    for state in ("stalled", "reconnecting"):
        sink.context.streams.set("cam", state)
        status, text, _ = _get(f"{sink.url}/preview/cam.jpg")
        assert (status, text) == (404, f"No image of now: the stream is {state}.\n".encode())
    sink.context.streams.set("cam", "live")
    assert _get(f"{sink.url}/preview/cam.jpg")[0] == 200
    sink.stream_ended("cam")
    assert _get(f"{sink.url}/preview/cam.jpg")[0] == 404


def test_an_end_is_told_after_the_last_frame(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _ws(sink) as client:
        sink.process(make_packet(0))
        sink.context.streams.set("cam", "failed", "the cable is out")  # while a frame is on its way
        PublishWebsocket.process(sink, make_packet(1))
        sink.stream_ended("cam")
        got = [wire.decode(client.recv(timeout=10)) for _ in range(4)]
    assert [m.get("seq", m.get("state")) for m in got] == ["live", 0, 1, "failed"]


def _told(message: wire.Message) -> tuple[str, str]:
    wire.StatusMessage.model_validate(message, strict=True)
    return message["stream"], message["state"]


def test_close_flushes_then_says_going_away(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _ws(sink) as client:
        for seq in range(200):
            sink.process(make_packet(seq))
        closing = threading.Thread(target=sink.close)
        closing.start()
        got = [wire.decode(client.recv(timeout=10)) for _ in range(201)]
        with pytest.raises(websockets.ConnectionClosed) as closed:
            client.recv(timeout=10)
        closing.join(timeout=10)
    assert [m["seq"] for m in got[1:]] == list(range(200))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert "publish" not in [t.name for t in threading.enumerate()]


def test_a_slow_client_loses_its_oldest_and_is_told(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, queue=8)
    last = 4000
    with socket.create_connection(("127.0.0.1", sink.port), timeout=10) as raw:
        raw.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{sink.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        stream = raw.makefile("rb")
        while stream.readline().strip():
            pass
        with _ws(sink) as quick:  # reads nothing of what the slow one misses, but keeps up itself
            for seq in range(last + 1):
                sink.process(make_packet(seq, people=4))
            got = _frames_until(stream, last)
            newest = -1
            while newest != last:
                newest = wire.decode(quick.recv(timeout=10)).get("seq", newest)
    frames = [m["seq"] for m in got if "seq" in m]
    lost = sum(m["messages"] for m in got if m.get("type") == "lost")
    assert lost > 0
    assert frames == sorted(frames)
    assert len(frames) + lost == last + 1
    assert frames[-8:] == list(range(last - 7, last + 1))


def _frames_until(stream: Any, last: int) -> list[wire.Message]:
    """Messages of unmasked binary WebSocket frames up to the one with that `seq`."""
    got: list[wire.Message] = []
    while not got or got[-1].get("seq") != last:
        head = stream.read(2)
        size = head[1]
        if size >= 126:
            size = int.from_bytes(stream.read(2 if size == 126 else 8), "big")
        payload = stream.read(size)
        if head[0] & 0x0F == 2:
            got.append(wire.decode(payload))
    return got


def test_preview_is_the_newest_image_made_small(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    packet = make_packet(5, width=1920, height=1080)
    assert _get(f"{sink.url}/preview/cam.jpg")[0] == 404
    sink.process(packet)
    status, data, headers = _get(f"{sink.url}/preview/cam.jpg")
    assert status == 200
    assert headers["X-Streamkp-Seq"] == "5"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (360, 640, 3)
    assert_array_equal(np.unique(packet.image), [60])  # type: ignore[arg-type]
    sink.process(make_packet(6, width=16, height=16))
    assert _get(f"{sink.url}/preview/cam.jpg")[2]["X-Streamkp-Seq"] == "6"
    sink.stream_ended("cam")
    assert _get(f"{sink.url}/preview/cam.jpg")[0] == 404


def test_the_page_and_its_files(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    status, page, headers = _get(sink.url + "/")
    assert status == 200
    assert b"viewer/app.js" in page
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"http" not in page.replace(b"http-equiv", b"")
    wanted = {"app.js", "style.css"}
    seen: set[str] = set()
    while wanted - seen:  # every module that a module names is served
        seen.add(file := (wanted - seen).pop())
        status, text, _ = _get(f"{sink.url}/viewer/{file}")
        assert status == 200, file
        folder = file.rpartition("/")[0]
        names = re.findall(rb"""(?:from|import\()\s*["']\./([\w./-]+\.js)["']""", text)
        wanted |= {f"{folder}/{name.decode()}".lstrip("/") for name in names}
    assert {"vendor/three.core.min.js", "vendor/three-vrm.module.min.js", "space.js"} <= seen
    assert _get(f"{sink.url}/viewer/../sinks/_web_app.py")[0] == 404
    assert _get(f"{sink.url}/viewer/%2e%2e/sinks/_web_app.py")[0] in (403, 404)
    assert set(json.loads(_get(f"{sink.url}/skeletons.json")[1])) == set(SKELETONS)


@pytest.mark.parametrize("well", [True, False])
def test_the_engines_figures(well: bool) -> None:
    context = StageContext("publish")
    context.engine = FixedEngine(
        well, **({"hall": "live"} if well else {"door": "failed", "gate": "failed", "hall": "stalled"})
    )
    sink = PublishWebsocket(PublishWebsocket.Options(port=0), context)
    sink.open()
    try:
        assert json.loads(_get(f"{sink.url}/stats")[1]) == {"fps": 30}
        status, text, headers = _get(f"{sink.url}/metrics")
        assert (status, text) == (200, b"streamkp_frames 1\n")
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert _get(f"{sink.url}/healthz")[0] == (200 if well else 503)
        status, text, _ = _get(f"{sink.url}/readyz")
        assert (status, text) == (
            (200, b"ok\n") if well else (503, b"no stream delivers; 2 failed, 1 stalled (/stats says why)\n")
        )
    finally:
        sink.close()


def test_port_in_use_is_named(open_sink: Open) -> None:
    first = open_sink(PublishWebsocket, port=0)
    threads = set(threading.enumerate())
    with pytest.raises(OutputError, match=rf"port {first.port}: the port is in use.*stages\.publish\.port"):
        open_sink(PublishWebsocket, port=first.port)
    assert set(threading.enumerate()) == threads


def test_an_address_that_is_not_ours() -> None:
    sink = PublishWebsocket(
        PublishWebsocket.Options(host="192.0.2.1", token="0123456789abcdef"), StageContext("publish")
    )
    with pytest.raises(OutputError, match=r"cannot listen on 192\.0\.2\.1 port 8765"):
        sink.open()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_wider_than_this_machine_needs_a_token(host: str) -> None:
    sink = PublishWebsocket(PublishWebsocket.Options(host=host, port=0), StageContext("publish"))
    with pytest.raises(UsageError, match="set `token`, or `insecure: true`"):
        sink.open()


def test_insecure_is_a_choice(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, host="0.0.0.0", port=0, insecure=True)
    url = f"http://127.0.0.1:{sink.port}/stats"
    assert _get(url, Host="10.0.0.7:8765")[0] == 200
    assert _get(url, Host="rebound.example")[0] == 403


def test_names_that_may_be_used_without_a_token(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, host="0.0.0.0", port=0, insecure=True, allowed_hosts=["camera.lan"])
    assert _get(f"http://127.0.0.1:{sink.port}/stats", Host="camera.lan:8765")[0] == 200


def test_a_token_that_can_be_guessed() -> None:
    sink = PublishWebsocket(PublishWebsocket.Options(host="0.0.0.0", token="short"), StageContext("publish"))
    with pytest.raises(UsageError, match="needs at least 16"):
        sink.open()


def test_token(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, host="0.0.0.0", port=0, token="s3cret-é-0123456789")
    assert "s3cret" not in repr(sink.options)
    url = f"http://127.0.0.1:{sink.port}"
    sink.process(make_packet(0))
    for path in ("/stats", "/metrics", "/streams", "/preview/cam.jpg", "/ws"):
        status, text, headers = _get(url + path)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert b"token" in text
        assert _get(f"{url}{path}?token=wrong")[0] == 401
    assert _get(url + "/stats?token=s3cret-%C3%A9-0123456789")[0] == 200
    assert _get(url + "/stats", Host="camera.lan", Authorization="bearer s3cret-é-0123456789")[0] == 200
    for path in ("/", "/healthz", "/viewer/app.js"):
        assert _get(url + path)[0] == 200
    with _ws(sink, "?format=msgpack&token=s3cret-%C3%A9-0123456789") as client:
        assert wire.decode(client.recv(timeout=10))["type"] == "status"


def test_pages_of_other_sites_may_not_connect(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, origins=["https://friend.example"])
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{sink.port + 1}", "http://localhost"):
        with pytest.raises(websockets.InvalidStatus) as refused:
            _ws(sink, origin=websockets.Origin(origin))
        assert refused.value.response.status_code == 403
    for origin in (f"http://127.0.0.1:{sink.port}", "https://friend.example"):
        _ws(sink, origin=websockets.Origin(origin)).close()


def test_a_foreign_name_for_this_machine_is_refused(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    assert _get(f"{sink.url}/streams", Host="rebound.example")[0] == 403
    assert _get(f"{sink.url}/streams", Host=f"rebound.example:{sink.port}")[0] == 403
    for name in ("localhost", "127.0.0.1", f"[::1]:{sink.port}", f"LocalHost:{sink.port}"):
        assert _get(f"{sink.url}/streams", Host=name)[0] == 200


def test_limits(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, max_clients=1)
    assert _get(f"{sink.url}/ws?format=xml")[0] == 400
    with _ws(sink) as client:
        with pytest.raises(websockets.InvalidStatus) as refused:
            _ws(sink)
        assert refused.value.response.status_code == 503
        client.send(b"x" * 5000)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def test_a_request_that_never_ends_is_cut(open_sink: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.2)
    sink = open_sink(PublishWebsocket, port=0)
    with socket.create_connection(("127.0.0.1", sink.port), timeout=30) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        assert raw.recv(1000) == b""


def test_a_request_that_is_no_websocket_leaves_no_client(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, max_clients=1)
    for _ in range(3):
        assert _get(f"{sink.url}/ws")[0] == 400
    with _ws(sink):
        pass


def test_tls(open_sink: Open, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)  # fmt: skip
    sink = open_sink(PublishWebsocket, port=0, tls={"cert": cert, "key": key})
    trusted = ssl.create_default_context(cafile=str(cert))
    sink.process(make_packet(0))

    async def first() -> wire.Message:  # one thread per TLS connection: Python 3.11 has no lock around it
        address = f"{sink.url}/ws?format=msgpack"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, ssl=trusted) as client:
            return wire.decode(await client.receive_bytes(timeout=10))

    assert asyncio.run(first())["state"] == "live"
    broken = PublishWebsocket(
        PublishWebsocket.Options(port=0, tls={"cert": key, "key": tmp_path / "none"}), StageContext("publish")
    )
    with pytest.raises(UsageError, match="cannot use the certificate"):
        broken.open()
