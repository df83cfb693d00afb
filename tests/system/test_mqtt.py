"""`publish-mqtt` against a real broker that dies, freezes, refuses and comes back."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from streamkp import wire
from streamkp.bench.servers import Mosquitto
from streamkp.errors import OutputError
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_mqtt import PublishMqtt
from tests.sinks.walker import make_packet

pytestmark = pytest.mark.system


class Listener:
    """Collects what arrives on `#`, connecting again whenever the broker went away; the broker keeps its place."""

    def __init__(self, port: int, until: Callable[[str, bytes], bool]) -> None:
        self.got: list[tuple[str, bytes]] = []
        self._port, self._until = port, until
        self._name = f"listener-{id(self)}"
        self.subscribed = threading.Semaphore(0)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self.subscribed.acquire(timeout=30)

    async def _run(self) -> None:
        async with asyncio.timeout(120):
            while True:
                try:
                    async with aiomqtt.Client(
                        "127.0.0.1", self._port, timeout=2, identifier=self._name, clean_session=False
                    ) as client:
                        await client.subscribe("#", qos=1)
                        self.subscribed.release()
                        async for message in client.messages:
                            assert isinstance(message.payload, bytes)
                            self.got.append((str(message.topic), message.payload))
                            if self._until(*self.got[-1]):
                                return
                except aiomqtt.MqttError:
                    await asyncio.sleep(0.05)

    def join(self) -> list[tuple[str, bytes]]:
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()
        return self.got

    def seqs(self) -> list[int]:
        return [wire.decode(payload)["seq"] for topic, payload in self.got if topic.endswith("/pose")]


def _pose(seq: int) -> Callable[[str, bytes], bool]:
    return lambda topic, payload: topic.endswith("/pose") and wire.decode(payload)["seq"] == seq


def _topics(count: int, ending: str, state: str | None = None) -> Callable[[str, bytes], bool]:
    """True once so many topics of that ending have been heard (with that state)."""
    seen: set[str] = set()

    def heard(topic: str, payload: bytes) -> bool:
        if topic.endswith(ending) and (state is None or wire.decode(payload)["state"] == state):
            seen.add(topic)
        return len(seen) == count

    return heard


@pytest.fixture
def publish(mosquitto: Mosquitto) -> Iterator[Callable[..., Any]]:
    opened: list[PublishMqtt] = []

    def start(**options: Any) -> PublishMqtt:
        broker = f"mqtt://127.0.0.1:{mosquitto.port}"
        sink = PublishMqtt(PublishMqtt.Options(broker=broker, **options), StageContext("mqtt"))
        sink.open()
        opened.append(sink)
        return sink

    yield start
    for sink in opened:
        sink.close()


def test_a_killed_broker_loses_nothing_of_what_waits(mosquitto: Mosquitto, publish: Any) -> None:
    sink = publish(qos=1)
    arrived = threading.Event()
    ninth = _pose(9)
    last = _pose(260)

    def until(topic: str, payload: bytes) -> bool:
        if ninth(topic, payload):
            arrived.set()
        return last(topic, payload)

    listener = Listener(mosquitto.port, until)
    for seq in range(10):
        sink.process(make_packet(seq))
    assert arrived.wait(30)
    mosquitto.kill()
    for seq in range(10, 200):
        sink.process(make_packet(seq))
    mosquitto.start()
    for seq in range(200, 261):
        sink.process(make_packet(seq))
    listener.join()
    # The broker may repeat to its subscriber what it had saved before it was killed: not ours to judge.
    seqs = [seq for seq in listener.seqs() if seq >= 10]
    assert seqs == sorted(seqs), "in order"
    assert sorted(set(seqs)) == list(range(10, 261)), "none is lost"


def test_a_full_buffer_keeps_the_newest(mosquitto: Mosquitto, publish: Any) -> None:
    sink, lost = publish(qos=1, buffer=20), list[int]()
    sink.context.on_undelivered = lambda _, count: lost.append(count)
    listener = Listener(mosquitto.port, _pose(100))
    mosquitto.freeze()
    for seq in range(101):
        sink.process(make_packet(seq))
    assert sum(lost) == 81
    mosquitto.thaw()
    listener.join()
    frames = [wire.decode(payload) for topic, payload in listener.got if topic.endswith("/pose")]
    assert [(m["seq"], m["dropped"]) for m in frames] == [(81, 81), *((seq, 0) for seq in range(82, 101))]


def test_a_frozen_broker_is_left_and_found_again(mosquitto: Mosquitto, publish: Any) -> None:
    sink = publish(qos=1)
    listener = Listener(mosquitto.port, _pose(40))
    for seq in range(10):
        sink.process(make_packet(seq))
    mosquitto.freeze()
    for seq in range(10, 41):
        sink.process(make_packet(seq))
    threading.Timer(7, mosquitto.thaw).start()  # longer than the sink waits for an answer
    listener.join()
    seqs = listener.seqs()
    assert seqs == sorted(seqs)
    assert sorted(set(seqs)) == list(range(41)), "none is lost"


def test_status_is_retained_and_the_last_will_says_failed(mosquitto: Mosquitto) -> None:
    script = (
        "import os, signal, sys\n"
        "from streamkp.graph.stage import StageContext; from streamkp.sinks.publish_mqtt import PublishMqtt\n"
        "from tests.sinks.walker import make_packet\n"
        "sink = PublishMqtt(PublishMqtt.Options(broker='localhost', port=int(sys.argv[1])), StageContext('mqtt'))\n"
        "sink.open(); [sink.context.streams.set(name, 'live') for name in 'ab']\n"
        "sink.process(make_packet(0, 'a')); sink.process(make_packet(0, 'b')); input()\n"
    )
    root = Path(__file__).parents[2]
    listener = Listener(mosquitto.port, _topics(2, "/pose"))
    victim = subprocess.Popen([sys.executable, "-c", script, str(mosquitto.port)], cwd=root, stdin=subprocess.PIPE)
    listener.join()
    late = Listener(mosquitto.port, _topics(2, "/status", "live"))
    assert {topic: wire.decode(payload)["state"] for topic, payload in late.join()} == {
        "streamkp/a/status": "live", "streamkp/b/status": "live",
    }  # fmt: skip
    gone = Listener(mosquitto.port, _topics(2, "/status", "failed"))
    victim.kill()
    victim.wait()
    last = {topic: wire.decode(payload) for topic, payload in gone.join()}
    assert {topic: (m["state"], m["since"]) for topic, m in last.items()} == {
        "streamkp/a/status": ("failed", None), "streamkp/b/status": ("failed", None),
    }  # fmt: skip
    assert "the publisher is gone" in last["streamkp/a/status"]["reason"]


def test_wrong_password_is_told_without_the_password(broker_program: None, tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("")
    broker = Mosquitto(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    try:
        options = PublishMqtt.Options(broker=f"mqtt://me:s3cret@127.0.0.1:{broker.port}")
        with pytest.raises(OutputError, match="Not authorized") as error:
            PublishMqtt(options, StageContext("mqtt")).open()
        assert "s3cret" not in str(error.value)
        assert "s3cret" not in repr(error.value.__context__)
    finally:
        broker.kill()
