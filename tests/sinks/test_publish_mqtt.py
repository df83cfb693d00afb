from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_mqtt import PublishMqtt
from tests.sinks.walker import make_packet

Open = Callable[..., Any]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Listener:
    """Collects everything that a broker delivers, in a thread."""

    def __init__(self, port: int, topic: str = "#", until: Callable[[list[tuple[str, bytes]]], bool] = bool) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._port, self._topic, self._until = port, topic, until
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._subscribed.wait(30)

    async def _run(self) -> None:
        async with asyncio.timeout(60), aiomqtt.Client("127.0.0.1", self._port) as client:
            await client.subscribe(self._topic, qos=1)
            self._subscribed.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                self.got.append((str(message.topic), message.payload))
                if self._until(self.got):
                    return

    def join(self) -> list[tuple[str, bytes]]:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.got


def _offline(topic: str) -> Callable[[list[tuple[str, bytes]]], bool]:
    return lambda got: got[-1] == (topic, b"offline")


@pytest.mark.parametrize(("qos", "format"), [(0, "msgpack"), (1, "json")])
def test_embedded_broker_delivers_every_frame(open_sink: Open, qos: int, format: str) -> None:
    port = _free_port()
    threads = set(threading.enumerate())
    sink = open_sink(PublishMqtt, broker="embedded", port=port, qos=qos, format=format)
    listener = Listener(port, until=_offline("streamkp/cam/status"))
    for seq in (0, 1, 4):
        sink.process(make_packet(seq))
    sink.stream_ended("cam")
    got = listener.join()
    sink.close()
    assert set(threading.enumerate()) <= threads
    assert got[0] == ("streamkp/cam/status", b"online")
    poses = [wire.decode(payload) for topic, payload in got if topic == "streamkp/cam/pose"]
    assert [(m["seq"], m["dropped"]) for m in poses] == [(0, 0), (1, 0), (4, 2)]


def test_events_have_a_topic_of_their_own(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port, format="json")
    listener = Listener(port, until=_offline("streamkp/cam/status"))
    sink.process(make_packet(0))
    sink.process(make_packet(7, events=[{"type": "rep", "count": 1}, {"type": "fall", "track": 2, "seq": 99}]))
    sink.stream_ended("cam")
    got = listener.join()
    sink.close()
    events = [wire.decode(payload) for topic, payload in got if topic == "streamkp/cam/event"]
    assert [(e["type"], e["stream"], e["seq"]) for e in events] == [("rep", "cam", 7), ("fall", "cam", 7)]
    assert events[0]["count"] == 1
    assert events[0].keys() == {"v", "type", "count", "stream", "epoch", "seq", "pts", "captured_at"}
    assert [topic.rsplit("/")[-1] for topic, _ in got] == ["status", "pose", "pose", "event", "event", "status"]


def test_streams_have_topics_of_their_own(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port, prefix="site/one")
    listener = Listener(port, until=lambda got: sum(payload == b"offline" for _, payload in got) == 2)
    for seq in range(3):
        sink.process(make_packet(seq, "a"))
        sink.process(make_packet(seq, "b/#+"))
    sink.stream_ended("a")
    sink.stream_ended("b/#+")
    got = listener.join()
    for topic in ("site/one/a", "site/one/b___"):
        assert [wire.decode(p)["seq"] for t, p in got if t == f"{topic}/pose"] == [0, 1, 2]
        assert [p for t, p in got if t == f"{topic}/status"] == [b"online", b"offline"]


def test_close_sends_what_waits(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port, qos=1)
    listener = Listener(port, "streamkp/cam/pose", until=lambda got: len(got) == 50)
    for seq in range(50):
        sink.process(make_packet(seq))
    sink.close()
    assert [wire.decode(payload)["seq"] for _, payload in listener.join()] == list(range(50))


def test_a_stream_that_comes_back_is_online_again(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port)
    listener = Listener(port, "streamkp/cam/status", until=lambda got: len(got) == 4)
    for _ in range(2):
        sink.process(make_packet(0))
        sink.stream_ended("cam")
    assert [payload for _, payload in listener.join()] == [b"online", b"offline"] * 2


def test_nobody_there(open_sink: Open) -> None:
    port = _free_port()
    threads = set(threading.enumerate())
    with pytest.raises(
        OutputError, match=rf"no MQTT broker takes us at localhost port {port}.*broker: embedded"
    ) as error:
        open_sink(PublishMqtt, broker=f"mqtt://me:s3cret@localhost:{port}")
    assert "s3cret" not in str(error.value)
    assert set(threading.enumerate()) <= threads


def test_embedded_port_in_use(open_sink: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OutputError, match=f"embedded MQTT broker cannot listen on 127.0.0.1 port {port}"):
            open_sink(PublishMqtt, broker="embedded", port=port)


@pytest.mark.parametrize(
    "broker", ["http://host", "mqtt://", "mqtt://u:s3cret@host:99999", "mqtt://u:s3cret@host/path", ""]
)
def test_a_broker_that_is_no_address(broker: str) -> None:
    sink = PublishMqtt(PublishMqtt.Options(broker=broker), StageContext("mqtt"))
    with pytest.raises(UsageError, match="is not `embedded`, a host name, or mqtt://") as error:
        sink.open()
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("prefix", ["", "/x", "x/", "a/+", "#"])
def test_a_prefix_that_is_no_topic(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        PublishMqtt.Options(broker="embedded", prefix=prefix)


@pytest.mark.parametrize("password", ["12#34", "12/34", "a?b", "a@b", "p%2Fss", "a b"])
def test_a_password_with_any_sign_is_not_shown(open_sink: Open, password: str) -> None:
    port = _free_port()
    with pytest.raises(OutputError) as error:
        open_sink(PublishMqtt, broker=f"mqtt://user:{password}@127.0.0.1:{port}")
    assert f"at 127.0.0.1 port {port}" in str(error.value)
    for broker in (f"mqtt://user:{password}@", f"user:{password}@h:1:2"):
        with pytest.raises(UsageError, match="is not `embedded`") as wrong:
            open_sink(PublishMqtt, broker=broker)
        assert password not in str(wrong.value)
