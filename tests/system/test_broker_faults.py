"""A real broker that dies, freezes, hangs or comes late, behind the real program: nothing is lost uncounted."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streamkp.bench.servers import Mosquitto
from streamkp.bench.soak_watch import MqttConsumer, Tally
from streamkp.bench.toxic import PASS, Toxics
from tests.sources.videos import write_clip
from tests.system.running import MqttListener, Network, Running, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freezes processes"),
]

GRAPH = """\
streams:
  a: {{uri: clip.mp4, loop: true, realtime: true, live: true}}
  b: {{uri: clip.mp4, loop: true, realtime: true, live: true}}
stages:
  decode: {{use: decode}}
  mqtt: {{use: publish-mqtt, broker: "mqtt://127.0.0.1:{port}", qos: 1, buffer: {buffer}}}
control: {{port: 0}}
"""


class Rig:
    """A broker behind a proxy, and programs that publish to it."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.folder, self._env = folder, env
        write_clip(folder / "clip.mp4")
        self.network = Network()
        self.broker = Mosquitto(folder)
        self.link = self.network.proxy(self.broker.port)
        self._programs: list[Running] = []

    def run(self, buffer: int = 1000) -> Running:
        """Start the program; returns when both streams arrive."""
        (self.folder / "graph.yaml").write_text(GRAPH.format(port=self.link.port, buffer=buffer))
        self._programs.append(Running("run", "graph.yaml", env=self._env, cwd=self.folder))
        return self._programs[-1]

    def close(self) -> None:
        for program in self._programs:
            program.kill()
        self.network.close()
        self.broker.kill()


@pytest.fixture
def rig(broker_program: None, program_env: dict[str, str], tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(program_env, tmp_path)
    yield rig
    rig.close()


def caught_up(consumer: MqttConsumer) -> None:
    """Wait until frames of both streams arrive that are captured from now on: nothing waits any more.

    A broker that is killed while it works off what has waited loses what it has acknowledged and not yet saved.
    """
    now = time.time_ns()
    until(lambda: len(consumer.newest) == 2 and min(consumer.newest.values()) > now, "new messages of both streams")


def test_a_broker_that_is_broken_over_and_over_loses_nothing(rig: Rig) -> None:
    program = rig.run()
    consumer = MqttConsumer(rig.broker.port)
    try:
        caught_up(consumer)
        for _ in range(2):
            rig.broker.kill()
            program.wait_frames("a", 10)
            rig.broker.start()
            caught_up(consumer)
        cut = 2
        for _ in range(3):
            rig.link.reset_all()
            caught_up(consumer)
            cut += 1
        rig.link.set(Toxics(half_open=True))
        program.wait_frames("a", 10)
        rig.link.set(PASS)
        caught_up(consumer)
        rig.broker.freeze()
        program.wait_frames("a", 200)  # longer than the program waits for an answer
        rig.broker.thaw()
        caught_up(consumer)
        cut += 2
        total = Tally()
        for tally in consumer.tallies().values():
            total.add(tally)
        assert total.messages > 400
        assert total.lost == total.reordered == 0, total
        # At least once: the one message on its way when a connection breaks goes out again.
        assert total.duplicated <= cut * 2, total
        assert program.stop() == 0, program.said
        assert "Traceback" not in program.said
    finally:
        consumer.close()


def test_what_a_full_buffer_loses_is_counted_everywhere(rig: Rig) -> None:
    program = rig.run(buffer=10)
    listener = MqttListener(rig.broker.port)
    try:
        until(lambda: len(listener.poses["a"]) > 5, "messages")
        rig.link.refuse()
        program.wait_frames("a", 60)
        rig.link.accept()
        until(lambda: any(pose["dropped"] >= 20 for pose in listener.poses["a"]), "the messages say so")
        poses = listener.poses["a"]
        seqs: list[int] = [pose["seq"] for pose in poses]
        assert seqs == sorted(seqs)
        gaps = sum(now["seq"] - before["seq"] - 1 for before, now in pairwise(poses))
        assert gaps <= sum(pose["dropped"] for pose in poses[1:]), "every gap is explained"

        def dropped() -> dict[str, Any]:
            counts: dict[str, Any] = program.stats()["stages"]["mqtt"]["a"]["dropped"]
            return counts

        assert sum(dropped().values()) >= 20, dropped()
        metrics = program.get("/metrics")[1]
        found = re.findall(r'streamkp_dropped_total\{[^}]*stage="mqtt"[^}]*stream="a"[^}]*\} ([\d.]+)', metrics)
        assert sum(map(float, found)) >= 20, metrics
    finally:
        listener.close()


def test_the_status_says_when_the_program_is_gone(rig: Rig) -> None:
    program = rig.run()
    listener = MqttListener(rig.broker.port)
    try:
        until(lambda: listener.states("a")[-1:] == ["live"], "live")
        program.kill()
        until(lambda: listener.states("a")[-1] == "failed" == listener.states("b")[-1], "the last will")
    finally:
        listener.close()
