from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest

from streamkp import wire
from streamkp.bench.toxic import ToxicProxy
from streamkp.errors import OutputError, UsageError
from streamkp.graph.loop_thread import LoopThread
from streamkp.graph.stage import StageContext
from streamkp.sinks._mqtt_stream import MqttStream
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


def _state(payload: bytes) -> str:
    message = wire.decode(payload)
    wire.StatusMessage.model_validate(message, strict=True)
    return str(message["state"])


def _ended(topic: str) -> Callable[[list[tuple[str, bytes]]], bool]:
    return lambda got: got[-1][0] == topic and _state(got[-1][1]) == "ended"


@pytest.mark.parametrize(("qos", "format"), [(0, "msgpack"), (1, "json")])
def test_embedded_broker_delivers_every_frame(open_sink: Open, qos: int, format: str) -> None:
    port = _free_port()
    threads = set(threading.enumerate())
    sink = open_sink(PublishMqtt, broker="embedded", port=port, qos=qos, format=format)
    listener = Listener(port, until=_ended("streamkp/cam/status"))
    for seq in (0, 1, 4):
        sink.process(make_packet(seq))
    sink.stream_ended("cam")
    got = listener.join()
    sink.close()
    assert set(threading.enumerate()) <= threads
    assert (got[0][0], _state(got[0][1])) == ("streamkp/cam/status", "live")
    poses = [wire.decode(payload) for topic, payload in got if topic == "streamkp/cam/pose"]
    assert [(m["seq"], m["dropped"]) for m in poses] == [(0, 0), (1, 0), (4, 2)]


def test_events_have_a_topic_of_their_own(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port, format="json")
    listener = Listener(port, until=_ended("streamkp/cam/status"))
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
    listener = Listener(port, until=lambda got: sum(t.endswith("status") and _state(p) == "ended" for t, p in got) == 2)
    for seq in range(3):
        sink.process(make_packet(seq, "a"))
        sink.process(make_packet(seq, "b/#+"))
    sink.stream_ended("a")
    sink.stream_ended("b/#+")
    got = listener.join()
    for topic in ("site/one/a", "site/one/b___"):
        assert [wire.decode(p)["seq"] for t, p in got if t == f"{topic}/pose"] == [0, 1, 2]
        assert [_state(p) for t, p in got if t == f"{topic}/status"] == ["live", "ended"]


def test_close_sends_what_waits(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port, qos=1)
    listener = Listener(port, "streamkp/cam/pose", until=lambda got: len(got) == 50)
    for seq in range(50):
        sink.process(make_packet(seq))
    sink.close()
    assert [wire.decode(payload)["seq"] for _, payload in listener.join()] == list(range(50))


def test_a_stream_that_comes_back_is_live_again(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port)
    listener = Listener(port, "streamkp/cam/status", until=lambda got: len(got) == 4)
    for _ in range(2):
        sink.process(make_packet(0))
        sink.stream_ended("cam")
    assert [_state(payload) for _, payload in listener.join()] == ["live", "ended"] * 2


def test_a_status_is_told_when_it_changes(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port)
    states = ["live", "stalled", "reconnecting", "failed"]
    for n, state in enumerate(states):  # one after the other: of two that wait only the newer goes out
        listener = Listener(port, "streamkp/cam/status", until=lambda got, s=state: _state(got[-1][1]) == s)
        if n == 0:
            sink.process(make_packet(0))
        else:
            sink.context.streams.set("cam", state, f"reason {n}")
        if state == "failed":
            PublishMqtt.stream_ended(sink, "cam")
        assert wire.decode(listener.join()[-1][1])["reason"] == (f"reason {n}" if n else None)


def test_the_last_word_of_an_earlier_publisher_does_not_stand(open_sink: Open) -> None:
    port = _free_port()
    sink = open_sink(PublishMqtt, broker="embedded", port=port)
    first = Listener(port, "streamkp/cam/status")
    sink.context.streams.set("cam", "live", epoch=3)
    first.join()

    async def speak(epoch: int) -> None:
        will = wire.status_message(
            "cam", {"state": "failed", "reason": "gone", "since": None, "epoch": epoch, "picture": None}
        )
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish("streamkp/cam/status", wire.encode(will, "json"), 1, True)

    again = Listener(
        port, "streamkp/cam/status", until=lambda got: [_state(p) for _, p in got[-2:]] == ["failed", "live"]
    )
    asyncio.run(speak(2))
    assert wire.decode(again.join()[-1][1])["epoch"] == 3
    # One of its own epoch, or a later one, is not ours to correct.
    later = Listener(port, "streamkp/cam/status", until=lambda got: _state(got[-1][1]) == "failed")
    asyncio.run(speak(4))
    later.join()


def test_what_finds_no_room_is_counted_and_told() -> None:
    lost: list[int] = []
    stream = MqttStream(
        "cam", lambda will: None, "t", 1, "json", 3, logging.getLogger("test"), will=b"", lose=lost.append
    )  # type: ignore[arg-type]
    for seq in range(4):
        stream.offer({"seq": seq, "dropped": 1})
    stream.offer({"type": "fall"}, event=True)
    stream.offer({"seq": 4, "dropped": 0})
    # Of 0 to 2 the oldest that stays tells: three frames, and one that had been lost before each of them.
    assert [(w.message.get("seq"), w.message.get("dropped")) for w in stream._buffer] == [(3, 7), (None, None), (4, 0)]
    assert (stream.lost, sum(lost)) == (3, 3)
    for _ in range(3):
        stream.offer({"type": "fall"}, event=True)
    assert [w.event for w in stream._buffer] == [True, True, True]
    stream.offer({"seq": 5, "dropped": 0})  # events come before frames
    assert [w.event for w in stream._buffer] == [True, True, True]
    stream.lose_waiting()
    assert (stream.waiting, stream.lost, sum(lost)) == (0, 10, 10)
    stream.offer({"seq": 6, "dropped": 0})
    assert stream._buffer[0].message == {"seq": 6, "dropped": 10}


def test_nobody_there(open_sink: Open) -> None:
    port = _free_port()
    threads = set(threading.enumerate())
    with pytest.raises(
        OutputError, match=rf"no MQTT broker takes us at localhost port {port}.*broker: embedded"
    ) as error:
        open_sink(PublishMqtt, broker=f"mqtt://me:s3cret@localhost:{port}")
    assert "s3cret" not in str(error.value)
    assert set(threading.enumerate()) <= threads


def test_a_broker_that_comes_later(open_sink: Open, caplog: pytest.LogCaptureFixture) -> None:
    """It is there from the beginning for the listener, who must not miss what comes first."""
    port = _free_port()
    broker = open_sink(PublishMqtt, "broker", broker="embedded", port=port)
    loop = LoopThread("proxy")
    loop.start()
    way = loop.call(ToxicProxy("127.0.0.1", port).start())
    loop.call(way.refuse())
    late = open_sink(PublishMqtt, "late", broker=f"127.0.0.1:{way.port}", wait_for_broker=True, qos=1)
    assert f"no MQTT broker takes us at 127.0.0.1 port {way.port} yet" in caplog.text
    for seq in range(5):
        late.process(make_packet(seq))
    listener = Listener(port, until=lambda got: sum(topic.endswith("pose") for topic, _ in got) == 5)
    loop.call(way.accept())
    got = listener.join()
    assert [wire.decode(payload)["seq"] for topic, payload in got if topic.endswith("pose")] == list(range(5))
    late.close()
    broker.close()
    loop.call(way.close())
    loop.stop()


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
