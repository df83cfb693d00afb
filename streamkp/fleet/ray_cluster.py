"""A fleet on a Ray cluster: Ray keeps the processes alive, the supervisor of this package decides who runs what.

One detached actor decides; each node of the cluster has a detached actor with an ordinary `Node` in it (one for each
GPU where there are any). Both are restarted by Ray; what is known is kept in a file beside the supervisor, and found
again where the streams run. Frames never travel: results leave each node through the graph's own sinks.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from streamkp.fleet.clock import lease_time
from streamkp.fleet.commands import carry_out
from streamkp.fleet.messages import Assignment, Beat, Grant, MessageError, NodeState, Pending, decode
from streamkp.fleet.node import Node
from streamkp.fleet.spec import FleetSpec
from streamkp.fleet.supervisor import Forget, Settings, Supervisor

log = logging.getLogger("streamkp.fleet")

NAMESPACE: Final = "streamkp"
BEAT_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.25
LEASE_SECONDS: Final = 6.0  # Ray needs two to four to start the supervisor again, and nobody else renews leases
LATE_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0  # between two looks at the cluster's nodes


class RaySupervisor:
    """The supervisor's actor. Calls come one after the other; a thread of its own lets time pass.

    Args:
        fleet: what to run.
        state_file: where assignments are kept for the next start of this actor.
    """

    def __init__(self, fleet: FleetSpec, state_file: str) -> None:
        self._lock = threading.Lock()
        self._fleet = fleet
        self._file = Path(state_file)
        self._assignments: dict[str, Assignment] = {}
        self._pending = Pending()
        self._documents: dict[str, Assignment] = {}  # newest, with definitions, for nodes that ask
        self._notes: list[str] = []
        self._ended = threading.Event()
        self._handles: dict[str, Any] = {}  # by the node's name
        term = self._restore()
        settings = Settings(limits=fleet.limits, lease=fleet.lease_s or LEASE_SECONDS)
        self._supervisor = Supervisor(fleet.streams, settings, term=term)
        self._supervisor.restore(self._assignments.values(), self._pending)
        self._supervisor.connected(lease_time())
        self._carry_out()
        for target, seconds in ((self._tick, TICK_SECONDS), (self._look, LOOK_SECONDS)):
            threading.Thread(target=self._every, args=(seconds, target), daemon=True).start()

    # -- called by nodes ----------------------------------------------------------------------------------------

    def beat(self, state: str | None, beat: str, revision: int) -> tuple[dict[str, str], str | None, str | None]:
        """A node's state, where it has changed, and its beat. Returns the graph, a newer assignment, the grant."""
        with self._lock:
            now = lease_time()
            if state is not None:
                self._supervisor.node_state(decode(NodeState, state), now)
            found = decode(Beat, beat)
            grant = self._supervisor.beat(found, now)
            self._carry_out()
            document = self._documents.get(found.node)
            newer = document is not None and document.revision > revision
            return (
                self._fleet.graph_document(),
                document.encoded().decode() if newer and document is not None else None,
                None if grant is None else grant.encoded().decode(),
            )

    # -- called by the driver -----------------------------------------------------------------------------------

    def update(self, fleet: FleetSpec) -> None:
        """The fleet file has changed."""
        with self._lock:
            self._fleet = fleet
            self._supervisor.update(fleet.streams)
            self._carry_out()

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """See `commands.carry_out`."""
        with self._lock:
            answer = carry_out(self._supervisor, command, lease_time())
            self._carry_out()
            return answer

    def notes(self) -> list[str]:
        """What has happened since the last call, for people."""
        with self._lock:
            notes, self._notes = self._notes, []
            return notes

    def snapshot(self) -> dict[str, Any]:
        """See `Supervisor.snapshot`."""
        with self._lock:
            return self._supervisor.snapshot(lease_time())

    def end(self) -> list[str]:
        """Make no further nodes; returns the names of the actors of those there are."""
        self._ended.set()
        with self._lock:
            return list(self._handles)

    # -- inside -------------------------------------------------------------------------------------------------

    def _every(self, seconds: float, call: Callable[[], None]) -> None:
        while not self._ended.wait(seconds):
            try:
                call()
            except Exception:
                log.exception("the supervisor goes on")

    def _tick(self) -> None:
        with self._lock:
            self._supervisor.tick(lease_time())
            self._carry_out()

    def _carry_out(self) -> None:
        changed = False
        for output in self._supervisor.take():
            if isinstance(output, Assignment):
                streams = self._fleet.streams
                definitions = {name: dict(streams[name].definition) for name in output.streams if name in streams}
                self._assignments[output.node] = output
                self._documents[output.node] = output.model_copy(update={"definitions": definitions})
                changed = True
                if (handle := self._handles.get(output.node.rpartition(".")[0])) is not None:
                    handle.nudge.remote()
            elif isinstance(output, Pending):
                self._pending, changed = output, True
            elif isinstance(output, Forget):
                self._assignments.pop(output.node, None)
                self._documents.pop(output.node, None)
                changed = True
            else:
                log.info("%s", output.text)
                self._notes = [*self._notes[-199:], output.text]
        if changed:
            self._keep()

    def _keep(self) -> None:
        """Before anything of it reaches a node: assignments are handed out by `beat`, after this."""
        kept = {
            "term": self._supervisor.term,
            "assignments": [each.model_dump() for each in self._assignments.values()],
            "pending": self._pending.model_dump(),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps(kept))
        os.replace(beside, self._file)

    def _restore(self) -> int:
        """Take up what an earlier actor has kept; the streams themselves are found where they run in any case."""
        try:
            kept = json.loads(self._file.read_text())
            found = [decode(Assignment, each) for each in kept["assignments"]]
            self._pending = decode(Pending, kept["pending"])
            self._assignments = {each.node: each for each in found}
            return int(kept["term"]) + 1
        except FileNotFoundError:
            return 1
        except (OSError, ValueError, KeyError, TypeError, MessageError) as error:
            log.warning("%s cannot be used: %s", self._file, error)
            return 1

    def _look(self) -> None:
        """An actor for each node of the cluster, and each of its GPUs, that has none."""
        wanted: dict[str, tuple[str, str, bool]] = {}
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            host, gpus = str(node["NodeName"]), int(node["Resources"].get("GPU", 0))
            short = str(node["NodeID"])[:8]
            for n in range(max(1, gpus)):
                name = f"{host}-{short}" + (f"-gpu{n}" if gpus else "")
                wanted[name] = (str(node["NodeID"]), name, bool(gpus))
        for name, (node_id, label, gpu) in wanted.items():
            if name not in self._handles and not self._ended.is_set():
                handle = _start_node(self._fleet.group, label, node_id, gpu)
                with self._lock:
                    self._handles[name] = handle
        for name in [name for name in self._handles if name not in wanted]:
            with self._lock:
                del self._handles[name]


class RayNode:
    """The actor of a node."""

    def __init__(self, group: str, name: str, labels: Mapping[str, str]) -> None:
        self._group = group
        self._awake = threading.Event()
        self._node = Node(name, labels=labels, urgent=self._awake.set)
        self._node.start()
        self._revision = 0
        threading.Thread(target=self._main, daemon=True).start()

    def nudge(self) -> None:
        """There is a new assignment."""
        self._awake.set()

    def pid(self) -> int:
        """Of the process."""
        return os.getpid()

    def leave(self) -> bool:
        """End every stream; whether it was done within some seconds."""
        self._node.leave()
        self._awake.set()
        return self._node.wait(15)

    def _main(self) -> None:
        supervisor = None
        again = True
        while True:
            self._awake.clear()
            left = self._node.wait(0)
            try:
                supervisor = supervisor or ray.get_actor(supervisor_name(self._group), NAMESPACE)
                state = self._node.state(again=again or self._node.lease_left() <= 0)
                beat = self._node.beat()
                told = None if state is None else state.encoded().decode()
                call = supervisor.beat.remote(told, beat.encoded().decode(), self._revision)
                graph, assignment, grant = ray.get(call, timeout=LATE_SECONDS)
                again = False
            except (RayError, ValueError, TimeoutError) as error:
                log.debug("the supervisor does not answer: %s", error)
                again, supervisor = True, None
                self._awake.wait(BEAT_SECONDS / 4)
                continue
            self._node.graph(graph)
            if assignment is not None:
                found = decode(Assignment, assignment)
                self._node.assign(found)
                self._revision = found.revision
                self._awake.set()  # tell that it has come
            if grant is not None:
                self._node.granted(decode(Grant, grant))
            if left:
                return
            self._awake.wait(BEAT_SECONDS)


def supervisor_name(group: str) -> str:
    """Of the supervisor's actor."""
    return f"streamkp-{group}"


def start(fleet: FleetSpec, state_file: Path) -> Any:
    """The supervisor's actor of a fleet: the one that there is, with this fleet file, or a new one."""
    fleet = replace(fleet, graph=None, broker=None)  # what has the driver's variables put in stays here
    made = (
        ray.remote(RaySupervisor)
        .options(
            name=supervisor_name(fleet.group), namespace=NAMESPACE, lifetime="detached", get_if_exists=True,
            max_restarts=-1, max_task_retries=0, num_cpus=0, max_concurrency=1,
        )
        .remote(fleet, str(state_file))
    )  # fmt: skip
    ray.get(made.update.remote(fleet))
    return made


def end(group: str, supervisor: Any) -> None:
    """End a fleet: its nodes in good order, then the supervisor."""
    handles = []
    for name in ray.get(supervisor.end.remote()):
        try:
            handles.append(ray.get_actor(_node_name(group, name), NAMESPACE))
        except ValueError:
            continue
    for call in [handle.leave.remote() for handle in handles]:
        try:
            ray.get(call, timeout=20)
        except RayError as error:
            log.debug("a node did not end in good order: %s", error)
    for handle in [*handles, supervisor]:
        ray.kill(handle, no_restart=True)


def _node_name(group: str, name: str) -> str:
    return f"streamkp-{group}-node-{name}"


def _start_node(group: str, name: str, node_id: str, gpu: bool) -> Any:
    labels = {"gpu": str(gpu).lower()}
    return (
        ray.remote(RayNode)
        .options(
            name=_node_name(group, name), namespace=NAMESPACE, lifetime="detached", get_if_exists=True,
            max_restarts=-1, num_cpus=0, num_gpus=1 if gpu else 0, max_concurrency=4,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        .remote(group, name, labels)
    )  # fmt: skip
