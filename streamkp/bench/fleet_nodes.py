"""What a fleet of nodes costs on one machine: memory and CPU of each node, and how long control takes.

The nodes share the machine's cores, so nothing is said about how many cameras several machines carry: the graph costs
next to nothing, and what is measured is what comes on top of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import aiomqtt

from streamkp import wire
from streamkp.bench import synthetic
from streamkp.bench.servers import Mosquitto
from streamkp.errors import StreamkpError

STREAMS: Final = 4  # a node
MOVES: Final = 5
FPS: Final = 20.0
PATIENCE: Final = 90.0
_QUIET = logging.getLogger("streamkp.bench.mqtt")
_QUIET.setLevel(logging.CRITICAL)  # the broker is killed at the end of each measurement

Engine = Literal["nodes", "ray"]


def run(engine: Engine, counts: tuple[int, ...], progress: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Measure fleets of each number of nodes.

    Raises:
        UsageError: mosquitto or Ray is missing.
        StreamkpError: a fleet does not come up.
    """
    out = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            figures = _measure(engine, count, Path(folder))
        progress(figures)
        out.append(figures)
    return out


def _measure(engine: Engine, nodes: int, folder: Path) -> dict[str, Any]:
    with ExitStack() as stack:
        broker = Mosquitto(folder)
        stack.callback(broker.kill)
        seen = _Seen(broker.port)
        stack.callback(seen.stop)
        file = _fleet_file(folder, broker.port, nodes * STREAMS)
        began = time.monotonic()
        where = stack.enter_context((_on_mqtt if engine == "nodes" else _on_ray)(file, broker.port, nodes, folder))
        streams = {f"s{n}" for n in range(nodes * STREAMS)}
        seen.until(lambda: seen.latest.keys() >= streams, "not every stream was started")
        up = time.monotonic() - began
        processes = {by for _, by in seen.latest.values()}
        before = {pid: _cpu(pid) for pid in processes}
        time.sleep(5)  # a measurement, not a wait: CPU time over this span
        cpu = [(_cpu(pid) - before[pid]) / 5 for pid in processes]
        figures: dict[str, Any] = {
            "engine": engine,
            "nodes": nodes,
            "streams": len(streams),
            "up_s": round(up, 1),
            "node_memory_mb": round(statistics.fmean(_memory(pid) for pid in processes)),
            "node_cpu_percent": round(100 * statistics.fmean(cpu), 1),
        }
        if nodes > 1:
            figures["move_ms"] = round(1e3 * statistics.median(_move(seen, where) for _ in range(MOVES)))
            figures["failure_s"] = round(_fail(seen), 1)
        return figures


def _move(seen: _Seen, where: list[str]) -> float:
    """Seconds without frames of a stream that is moved from one node to another."""
    owners = _status(where)["owners"]
    name = min(owners)
    others = sorted({node.rpartition(".")[0] for node, _ in owners.values()} - {owners[name][0].rpartition(".")[0]})
    epoch = seen.latest[name][0]
    _command(where, "move", name, others[0])
    seen.until(lambda: seen.latest[name][0] > epoch, f"{name} was not moved")
    return seen.gap(name)


def _fail(seen: _Seen) -> float:
    """Seconds without frames, at most, of the streams of a node that is killed."""
    victim = seen.latest["s0"][1]
    lost = {name: epoch for name, (epoch, by) in seen.latest.items() if by == victim}
    os.kill(victim, 9)
    seen.until(lambda: all(seen.latest[name][0] > epoch for name, epoch in lost.items()), "streams did not come back")
    return max(seen.gap(name) for name in lost)


class _Seen:
    """Subscribes to the results: of each stream the epoch, the process, and the silence before its newest epoch."""

    def __init__(self, port: int) -> None:
        self.latest: dict[str, tuple[int, int]] = {}  # -> epoch, process
        self._times: dict[str, int] = {}  # capture times, ns
        self._gaps: dict[str, float] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._ready = threading.Event()
        self._port = port
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise StreamkpError("the broker does not answer")

    def gap(self, stream: str) -> float:
        """Seconds between the last frame before its newest epoch and the first of that."""
        return self._gaps[stream]

    def until(self, true: Callable[[], bool], else_: str) -> None:
        with self._changed:
            if not self._changed.wait_for(true, PATIENCE):
                raise StreamkpError(f"{else_} within {PATIENCE:.0f} s")

    def stop(self) -> None:
        self._stopped = True

    async def _run(self) -> None:
        async with aiomqtt.Client("127.0.0.1", self._port, logger=_QUIET) as client:
            await client.subscribe("streamkp/+/pose", qos=1)
            self._ready.set()
            try:
                async for message in client.messages:
                    if self._stopped:
                        return
                    self._take(wire.decode(bytes(message.payload)))
            except aiomqtt.MqttError:  # the measurement is over
                return

    def _take(self, message: wire.Message) -> None:
        name, epoch, at = str(message["stream"]), int(message["epoch"]), int(message["captured_at"])
        by = next(int(event["by"]) for event in message["events"] if event["type"] == "made")
        with self._changed:
            if name in self.latest and epoch > self.latest[name][0]:
                self._gaps[name] = (at - self._times[name]) / 1e9
            self.latest[name], self._times[name] = (epoch, by), at
            self._changed.notify_all()


def _fleet_file(folder: Path, port: int, streams: int) -> Path:
    file = folder / "fleet.yaml"
    sink = {"use": "publish-mqtt", "broker": f"mqtt://127.0.0.1:{port}", "qos": 1}
    stages = {"source": {"use": f"{synthetic.__file__}:Synthetic", "fps": FPS}, "publish": sink}
    graph = {"version": 1, "control": {"port": 0}, "stages": stages}
    names = {f"s{n}": {"uri": f"test:{n}"} for n in range(streams)}
    limits = {"p95_ms": 60_000, "dropped": 1.0}  # a busy machine must not look like an overloaded node
    fleet = {"version": 1, "group": "bench", "limits": limits, "graph": graph, "streams": names}
    file.write_text(json.dumps(fleet))  # JSON is YAML
    return file


@contextmanager
def _on_mqtt(file: Path, port: int, nodes: int, folder: Path) -> Iterator[list[str]]:
    address = ["--broker", f"mqtt://127.0.0.1:{port}"]
    with ExitStack() as stack:
        for n in range(nodes):
            stack.enter_context(_process("node", "--group", "bench", *address, "--name", f"node-{n}"))
        stack.enter_context(_process("fleet", "run", str(file), *address, "--discovery", "off"))
        yield address


@contextmanager
def _on_ray(file: Path, port: int, nodes: int, folder: Path) -> Iterator[list[str]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        from ray.cluster_utils import Cluster
    except ImportError:
        from streamkp.errors import UsageError

        raise UsageError("--engine ray needs Ray: pip install 'streamkp[ray]'") from None
    size = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**size)
        address = ["--address", str(cluster.address)]
        arguments = ("run", str(file), "--engine", "ray", *address, "--state", str(folder / "state.json"))
        with _process(*arguments):
            yield address
    finally:
        cluster.shutdown()


@contextmanager
def _process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", "streamkp", *arguments], stdout=quiet, stderr=quiet) as process:
        try:
            yield process
        finally:
            process.kill()


def _status(where: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_command(where, "status", "--json"))
    return found


def _command(where: list[str], *words: str) -> str:
    command = [sys.executable, "-m", "streamkp", "fleet", *words, "--group", "bench", *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise StreamkpError(f"streamkp fleet {words[0]}: {done.stderr.strip()}")
    return done.stdout


def _memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
