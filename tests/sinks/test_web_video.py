from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from streamkp.sinks import _web_video
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet

Open = Callable[..., Any]


def _video(sink: PublishWebsocket, path: str = "video") -> ClientConnection:
    return connect(f"ws://127.0.0.1:{sink.port}/{path}", proxy=None, compression=None, open_timeout=10)


def _show(client: ClientConnection, **widths: float) -> None:
    client.send(json.dumps({"show": widths}))


def _picture(client: ClientConnection) -> tuple[str, int, np.ndarray[Any, Any]]:
    found = msgpack.unpackb(client.recv(timeout=10))
    image = cv2.imdecode(np.frombuffer(found["jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return found["stream"], found["seq"], image


def test_pictures_come_as_wide_as_asked_and_only_of_what_is_shown(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, preview_width=640, preview_fps=120)
    with _video(sink) as client:
        for stream in ("a", "b"):
            sink.process(make_packet(3, stream, width=1280, height=720))
        _show(client, a=300)
        stream, seq, image = _picture(client)
        assert (stream, seq, image.shape) == ("a", 3, (180, 320, 3))
        client.send(json.dumps({"seen": "a"}))
        _show(client, b=5000)
        stream, seq, image = _picture(client)
        assert (stream, seq, image.shape) == ("b", 3, (360, 640, 3))


def test_a_page_that_confirms_nothing_is_sent_no_more_and_then_the_newest(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, preview_fps=120)
    with _video(sink) as client:
        sink.process(make_packet(0))
        _show(client, cam=160)
        assert _picture(client)[1] == 0
        sink.process(make_packet(1))
        assert _picture(client)[1] == 1
        for seq in range(2, 20):  # two are under way, so none of these but the last is ever sent
            sink.process(make_packet(seq))
        client.send(json.dumps({"seen": "cam"}))
        assert _picture(client)[1] == 19


def test_streams_take_turns(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, preview_fps=120)
    with _video(sink) as client:
        for stream in ("a", "b", "c"):
            sink.process(make_packet(0, stream))
        _show(client, a=160, b=160, c=160)
        assert sorted(_picture(client)[0] for _ in range(3)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "said", ["", "[]", "{}", '{"show": 3}', '{"show": {"a": "x"}}', '{"show": {"a": null}}', "[" * 5000,
             json.dumps({"show": {str(i): 1 for i in range(100)}}), b"\x00"],
)  # fmt: skip
def test_what_is_not_understood_ends_the_connection(open_sink: Open, said: str | bytes) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with _video(sink) as client:
        client.send(said)
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(timeout=10)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 1003
    with _video(sink) as client:  # and nobody else's
        sink.process(make_packet(0))
        _show(client, cam=160)
        assert _picture(client)[0] == "cam"


def test_pages_are_limited(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, max_clients=1)
    with _video(sink), pytest.raises(InvalidStatus) as refused:
        _video(sink)
    assert refused.value.response.status_code == 503


def test_a_camera_needs_a_source_that_waits(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0)
    with pytest.raises(InvalidStatus) as refused:
        _video(sink, "camera?to=me")
    assert refused.value.response.status_code == 409


def test_video_and_camera_need_the_token(open_sink: Open) -> None:
    sink = open_sink(PublishWebsocket, port=0, token="s3cret")
    for path in ("video", "camera?to=me", "cameras", "avatar.vrm"):
        with pytest.raises(InvalidStatus) as refused:
            _video(sink, path)
        assert refused.value.response.status_code == 401


def test_what_a_page_says_it_has_seen_is_not_kept_unless_it_was_sent() -> None:
    viewer = _web_video._Viewer()
    for number in range(100):
        assert viewer.hear(f'{{"seen": "stranger{number}"}}', int)
    assert not viewer._under_way
