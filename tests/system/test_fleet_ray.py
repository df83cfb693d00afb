"""A fleet on a local Ray cluster of three nodes, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
def cluster(program_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name, value in program_env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # The object store is not used: frames never travel.
    sizes = {"num_cpus": 1, "object_store_memory": 80_000_000}
    made = Cluster(initialize_head=True, head_node_args={**sizes, "include_dashboard": False})
    for _ in range(2):
        made.add_node(**sizes)
    made.sizes = sizes
    yield made
    made.shutdown()


def test_a_fleet_on_ray_outlives_its_nodes_and_its_supervisor(
    start: Start, streamkp: Streamkp, tmp_path: Path, mosquitto: Mosquitto, cluster: Any
) -> None:
    watch = Watch(mosquitto.port)
    file = fleet_file(tmp_path, mosquitto.port)
    driver = start("run", file, "--engine", "ray", "--address", cluster.address, "--state", tmp_path / "state.json")
    wait_for_line(driver, ["supervising 12 streams"])
    # Nodes that are ready later are given streams of the others; then nothing moves for three seconds.
    watch.until(
        lambda: watch.level(3) and len(watch.latest()) == 12 and all(f.seq > 30 for f in watch.latest().values())
    )

    # The process of a node is killed: its streams live on within ten seconds, with the next epoch; Ray starts it again.
    pid, lost = next(iter(watch.makers().items()))
    epochs = {name: watch.latest()[name].epoch + 1 for name in lost}
    killed_at = time.time_ns()
    os.kill(pid, signal.SIGKILL)
    watch.until(lambda: all(watch.latest()[name].epoch >= epochs[name] for name in lost))
    first = {n: min(f.captured_at for f in watch.frames if (f.stream, f.epoch) == (n, epochs[n])) for n in lost}
    assert max(first.values()) - killed_at < 10e9
    watch.until(lambda: watch.level(3, killed_at))
    watch.check()

    # A whole node of the cluster goes, and another comes.
    killed_at = time.time_ns()
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    watch.until(lambda: watch.level(2, time.time_ns() - int(1e9)))
    cluster.add_node(**cluster.sizes)
    watch.until(lambda: watch.level(3, time.time_ns() - int(1e9)))
    watch.check()

    # The supervisor is killed: nothing stops, and it takes up again what it had.
    status = streamkp("fleet", "status", "--group", "test", "--address", cluster.address, "--json")
    assert status.code == 0, status.err
    before = watch.latest()
    answer = streamkp("fleet", "move", "s0", "nowhere", "--group", "test", "--address", cluster.address)
    assert "there is no node named nowhere" in answer.complaint()
    os.kill(json.loads(status.out)["pid"], signal.SIGKILL)
    watch.until(lambda: all(f.seq >= before[n].seq + 100 for n, f in watch.latest().items()))
    assert {name: frame.epoch for name, frame in watch.latest().items()} == {n: f.epoch for n, f in before.items()}
    again = streamkp("fleet", "status", "--group", "test", "--address", cluster.address, "--json")
    assert json.loads(again.out)["placed"] == 12
    assert json.loads(again.out)["term"] == json.loads(status.out)["term"] + 1

    # It ends in good order.
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(60) == 0
    watch.check()
    watch.close()
