"""Nodes and a supervisor in processes of their own, with a real broker, killed and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from streamkp.bench.servers import Mosquitto
from tests.system.conftest import Start, Streamkp, wait_for_line
from tests.system.fleet_watch import Watch, fleet_file

pytestmark = pytest.mark.system


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def watch(mosquitto: Mosquitto) -> Iterator[Watch]:
    made = Watch(mosquitto.port)
    yield made
    made.close()


class Fleet:
    """Three nodes, a supervisor, and somebody who watches."""

    def __init__(self, start: Start, folder: Path, port: int) -> None:
        self._start, self._address = start, f"mqtt://127.0.0.1:{port}"
        self.file = fleet_file(folder, port, lease_s=3)
        self.nodes = {name: self.node(name) for name in ("a", "b", "c")}
        self.supervisor = self.supervise()

    def node(self, name: str) -> subprocess.Popen[str]:
        return self._start(
            "node", "--group", "test", "--broker", self._address, "--name", name, "--label", f"host={name}"
        )

    def supervise(self) -> subprocess.Popen[str]:
        process = self._start("fleet", "run", self.file, "--broker", self._address, "--discovery", "0")
        self.discovery = wait_for_line(process, ["targets for Prometheus"]).rpartition(" ")[2].strip()
        return process

    def kill(self, name: str) -> None:
        self.nodes[name].kill()
        self.nodes[name].wait()

    def status(self, streamkp: Streamkp) -> dict[str, Any]:
        done = streamkp("fleet", "status", "--group", "test", "--broker", self._address, "--json")
        assert done.code == 0, done.err
        found: dict[str, Any] = json.loads(done.out)
        return found


def test_a_fleet_outlives_its_nodes_its_supervisor_and_its_broker(
    start: Start, streamkp: Streamkp, tmp_path: Path, mosquitto: Mosquitto, watch: Watch
) -> None:
    fleet = Fleet(start, tmp_path, mosquitto.port)
    watch.until(lambda: watch.level(3) and len(watch.latest()) == 12)
    assert {frame.epoch for frame in watch.frames} == {0}

    # A node is killed: its streams live elsewhere within ten seconds, with the next epoch.
    lost = watch.makers()[fleet.nodes["a"].pid]
    killed_at = time.time_ns()
    fleet.kill("a")
    watch.until(lambda: all(watch.latest()[name].epoch == 1 for name in lost))
    took = max(min(f.captured_at for f in watch.frames if f.stream == n and f.epoch == 1) for n in lost) - killed_at
    assert took < 10e9
    watch.until(lambda: watch.level(2, killed_at))
    assert all(watch.latest()[name].epoch == 0 for name in watch.latest() if name not in lost)

    # It comes back: load evens out.
    fleet.nodes["a"] = fleet.node("a")
    watch.until(lambda: watch.level(3, killed_at))
    watch.check()

    # The supervisor is killed: nothing stops, and it takes up again what it had.
    fleet.supervisor.kill()
    fleet.supervisor.wait()
    before = watch.latest()
    watch.until(lambda: all(f.seq >= before[n].seq + 50 for n, f in watch.latest().items()))  # longer than a lease
    fleet.supervisor = fleet.supervise()
    watch.until(lambda: all(f.seq >= before[n].seq + 100 for n, f in watch.latest().items()))
    assert {name: frame.epoch for name, frame in watch.latest().items()} == {n: f.epoch for n, f in before.items()}
    watch.check()

    # The broker is started again: nothing is lost.
    before = watch.latest()
    mosquitto.stop()
    mosquitto.start()
    watch.until(lambda: all(f.seq >= before[n].seq + 30 for n, f in watch.latest().items()))
    assert {name: frame.epoch for name, frame in watch.latest().items()} == {n: f.epoch for n, f in before.items()}
    watch.check(repeats=True)

    status = fleet.status(streamkp)
    assert status["placed"] == 12
    assert status["failures"] == 0, "counted by this supervisor, which has seen none"
    with urlopen(fleet.discovery) as answer:
        targets = json.load(answer)
    assert sorted(target["labels"]["node"] for target in targets) == ["a", "b", "c"]
    with urlopen(f"http://{targets[0]['targets'][0]}/metrics") as answer:
        assert b"streamkp_stream_live" in answer.read()

    # A person moves a stream, and drains a node; the others end in good order.
    name = next(iter(watch.makers()[fleet.nodes["b"].pid]))
    done = streamkp("fleet", "move", name, "c", "--group", "test", "--broker", fleet._address)
    assert done.code == 0, done.err
    watch.until(lambda: watch.latest()[name].by == fleet.nodes["c"].pid)
    done = streamkp("fleet", "drain", "c", "--group", "test", "--broker", fleet._address)
    assert done.code == 0, done.err
    watch.until(lambda: fleet.nodes["c"].pid not in watch.makers())
    fleet.nodes["b"].send_signal(signal.SIGTERM)
    assert fleet.nodes["b"].wait(20) == 0
    watch.until(lambda: set(watch.makers()) == {fleet.nodes["a"].pid})
    watch.check(repeats=True)


def test_a_frozen_node_publishes_nothing_after_its_lease(
    start: Start, tmp_path: Path, mosquitto: Mosquitto, watch: Watch
) -> None:
    fleet = Fleet(start, tmp_path, mosquitto.port)
    watch.until(lambda: watch.level(3) and len(watch.latest()) == 12)
    frozen = fleet.nodes["b"]
    lost = watch.makers()[frozen.pid]
    frozen.send_signal(signal.SIGSTOP)
    watch.until(lambda: all(watch.latest()[name].by != frozen.pid for name in lost))
    frozen.send_signal(signal.SIGCONT)
    watch.until(lambda: watch.level(3, time.time_ns() - int(3e9)))  # it is given streams again
    watch.check()
    # Its last words about the streams that it had do not stand.
    watch.until(
        lambda: (
            {name: (status["state"], status["epoch"]) for name, status in watch.statuses.items()}
            == {name: ("live", frame.epoch) for name, frame in watch.latest().items()}
        )
    )
    # Streams that go back to it have been moved.
    watch.until(lambda: watch.level(3, time.time_ns() - int(1e9)) and all(f.seq > 30 for f in watch.latest().values()))
    latest = watch.latest()

    # A second supervisor replaces the first; nothing moves.
    first, fleet.supervisor = fleet.supervisor, fleet.supervise()
    assert first.wait(30) == 1
    assert first.stderr is not None
    assert "another supervisor of the group test has been started" in first.stderr.read()
    epochs = {name: frame.epoch for name, frame in watch.latest().items()}
    watch.until(lambda: all(f.seq >= latest[n].seq + 80 for n, f in watch.latest().items()))
    assert {name: frame.epoch for name, frame in watch.latest().items()} == epochs
    watch.check()
