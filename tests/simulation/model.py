"""A fleet in simulated time: the supervisor's and the nodes' real decisions, with a made-up network and engines.

Every event is at a time of a hand-driven clock, so that hours take seconds and every run is the same. What must never
happen is checked as it goes: two nodes that publish one stream, an epoch that does not grow.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streamkp.fleet.holding import Holding
from streamkp.fleet.messages import Assignment, Beat, Grant, Load, NodeState, Pending, Running
from streamkp.fleet.spec import FleetStream
from streamkp.fleet.supervisor import Forget, Settings, Supervisor

DELAY = (0.002, 0.05)  # seconds that a message takes
START, STOP = (0.2, 1.5), (0.02, 0.3)  # seconds that a stream needs to start and to end


class Loop:
    """Calls functions at their times, in order."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, time: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._count), call))

    def after(self, seconds: float | tuple[float, float], call: Callable[[], None]) -> None:
        self.at(self.now + (self.random.uniform(*seconds) if isinstance(seconds, tuple) else seconds), call)

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, call = heapq.heappop(self._queue)
            call()
        self.now = until


@dataclass
class Record:
    """What has happened to the streams."""

    publishing: dict[str, str] = field(default_factory=dict)  # stream -> node
    epochs: dict[str, int] = field(default_factory=dict)
    stopped_at: dict[str, float] = field(default_factory=dict)
    gaps: list[tuple[float, float, str]] = field(default_factory=list)  # (when it ended, how long, stream)
    starts: int = 0
    wrong: list[str] = field(default_factory=list)

    def start(self, stream: str, node: str, epoch: int, now: float) -> None:
        if (other := self.publishing.get(stream)) is not None:
            self.wrong.append(f"{now:.3f}: {stream} is published by {other} and {node}")
        if epoch <= self.epochs.get(stream, -1):
            self.wrong.append(f"{now:.3f}: {stream} starts on {node} with epoch {epoch} again")
        self.publishing[stream], self.epochs[stream] = node, epoch
        self.starts += 1
        if (since := self.stopped_at.pop(stream, None)) is not None:
            self.gaps.append((now, now - since, stream))

    def stop(self, stream: str, node: str, now: float) -> None:
        if self.publishing.get(stream) == node:
            del self.publishing[stream]
            self.stopped_at[stream] = now


class SimNode:
    """A node that starts and stops streams with some delay, and measures a latency that grows with their number.

    Its clock runs a little faster or slower than the supervisor's.
    """

    def __init__(self, fleet: Fleet, name: str, speed: float, labels: Mapping[str, str], capacity: float) -> None:
        self.fleet, self.name, self.speed, self.labels, self.capacity = fleet, name, speed, labels, capacity
        self.id = f"{name}.{fleet.loop.random.getrandbits(32):08x}"
        self.holding = Holding()
        self.running: dict[str, int] = {}
        self.stopping: set[str] = set()
        self.starting: set[str] = set()
        self.untold: dict[str, int] = {}  # streams that wait until the supervisor knows their epoch -> state's version
        self.alive, self.reachable = True, True
        self.drift = fleet.loop.random.uniform(0.999, 1.001)
        self.version, self.beats = 0, 0
        self.looks_at = 0.0
        self.told: tuple[object, ...] = ()
        self.inbox_free = self.outbox_free = 0.0
        fleet.loop.after((0, 1), self.beat)

    @property
    def now(self) -> float:
        return self.fleet.loop.now * self.drift

    def beat(self) -> None:
        if not self.alive:
            return
        self.fleet.loop.after(self.fleet.settings.lease / 4, self.beat)
        self.tell()

    def tell(self) -> None:
        """State if it has changed, then a beat."""
        if not self.alive:
            return
        self.apply()
        content = (self.holding.revision, tuple(self.running.items()))
        if content != self.told or self.now >= self.holding.deadline:
            self.told = content
            self.version += 1
            streams = {n: Running.model_construct(epoch=e, status="live", reason=None) for n, e in self.running.items()}
            self.send(
                NodeState(
                    node=self.id,
                    name=self.name,
                    labels=dict(self.labels),
                    capacity=self.capacity,
                    revision=self.holding.revision,
                    version=self.version,
                    streams=streams,
                )
            )
        self.beats += 1
        self.holding.sent(self.beats, self.version, self.now)
        used = len(self.running) / self.speed
        p95 = 60.0 + 240.0 * used**4  # milliseconds: flat, then steep
        load = Load.model_construct(p95_ms=p95, dropped=max(0.0, 1 - 1 / used) if used else 0.0)
        self.send(Beat.model_construct(node=self.id, number=self.beats, version=self.version, load=load))

    def send(self, message: NodeState | Beat) -> None:
        if not self.reachable:
            return
        self.outbox_free = max(self.outbox_free, self.fleet.loop.now + self.fleet.loop.random.uniform(*DELAY))
        self.fleet.loop.at(self.outbox_free, lambda: self.fleet.heard(message))

    def receive(self, message: Assignment | Grant) -> None:
        if not self.alive or not self.reachable:
            return
        if isinstance(message, Grant):
            if self.holding.granted(message, self.now):
                self.extended()
        elif self.holding.assign(message):
            self.apply()
            self.tell()

    def extended(self) -> None:
        for name in [n for n, version in self.untold.items() if self.holding.told >= version]:
            del self.untold[name]
            if name in self.running and name not in self.stopping:
                self.fleet.record.start(name, self.id, self.running[name], self.fleet.loop.now)
        self.apply()

    def unsupervised(self, number: int) -> None:
        if self.alive and self.reachable:
            self.holding.unsupervised(number, self.now)
            self.extended()

    def apply(self) -> None:
        """Start and stop what has to be."""
        if not self.alive:
            return
        wanted = self.holding.wanted(self.now)
        for name in [n for n in self.running if n not in wanted and n not in self.stopping]:
            self.stopping.add(name)
            self.untold.pop(name, None)
            if self.now >= self.holding.deadline:  # nothing is let out any more
                self.fleet.record.stop(name, self.id, self.fleet.loop.now)
            self.fleet.loop.after(STOP, lambda name=name: self.stopped(name))
        for name in wanted:
            if name not in self.running and name not in self.starting:
                self.starting.add(name)
                self.fleet.loop.after(START, lambda name=name: self.started(name))
        end = self.holding.deadline / self.drift + 1e-6
        if wanted and end > self.looks_at:
            self.looks_at = end
            self.fleet.loop.at(end, self.apply)

    def stopped(self, name: str) -> None:
        self.stopping.discard(name)
        if self.alive and name in self.running:
            del self.running[name]
            self.fleet.record.stop(name, self.id, self.fleet.loop.now)
            self.tell()

    def started(self, name: str) -> None:
        self.starting.discard(name)
        if not self.alive or name not in self.holding.wanted(self.now) or name in self.running:
            return
        epoch = self.running[name] = self.holding.next_epoch(name)
        self.holding.used[name] = epoch
        if self.holding.is_known(name, epoch):
            self.fleet.record.start(name, self.id, epoch, self.fleet.loop.now)
        else:
            self.untold[name] = self.version + 1
            self.tell()

    def kill(self) -> None:
        self.alive = False
        for name in self.running:
            self.fleet.record.stop(name, self.id, self.fleet.loop.now)


class Fleet:
    """The supervisor, its nodes, and the network between them."""

    def __init__(
        self,
        streams: Mapping[str, FleetStream],
        nodes: Mapping[str, tuple[float, Mapping[str, str], float]],
        *,
        settings: Settings | None = None,
        seed: int = 1,
    ) -> None:
        """`nodes`: name -> (streams at which it is at its limit, labels, declared capacity)."""
        self.loop = Loop(seed)
        self.settings = settings or Settings()
        self.streams = streams
        self.record = Record()
        self.retained: dict[str, Assignment] = {}
        self.states: dict[str, NodeState] = {}
        self.pending: Pending | None = None
        self.supervisor: Supervisor | None = None
        self.notes: list[str] = []
        self.machines = dict(nodes)
        self.nodes = {name: SimNode(self, name, *machine) for name, machine in nodes.items()}
        self.by_id = {node.id: node for node in self.nodes.values()}
        self.term = 0
        self.start_supervisor()

    def start_supervisor(self) -> None:
        """A new supervisor, with nothing but what is retained."""
        self.term += 1
        made = self.supervisor = Supervisor(self.streams, self.settings, term=self.term)
        made.restore(self.retained.values(), self.pending)
        made.connected(self.loop.now)
        for state in self.states.values():
            made.node_state(state, self.loop.now)

        def tick() -> None:
            if self.supervisor is made:
                made.tick(self.loop.now)
                self.carry_out()
                self.loop.after(0.25, tick)

        tick()

    def kill_supervisor(self) -> None:
        self.supervisor = None

    def heard(self, message: NodeState | Beat) -> None:
        if isinstance(message, NodeState):
            self.states[message.node] = message
        if self.supervisor is None:
            if isinstance(message, Beat):
                node = self.by_id[message.node]
                self.loop.after(DELAY, lambda: node.unsupervised(message.number))
            return
        grant = None
        if isinstance(message, NodeState):
            self.supervisor.node_state(message, self.loop.now)
        else:
            grant = self.supervisor.beat(message, self.loop.now)
        self.carry_out()
        if grant is not None:
            self.deliver(grant)

    def carry_out(self) -> None:
        assert self.supervisor is not None
        for output in self.supervisor.take():
            if isinstance(output, Assignment):
                self.retained[output.node] = output
                self.deliver(output)
            elif isinstance(output, Pending):
                self.pending = output
            elif isinstance(output, Forget):
                self.retained.pop(output.node, None)
                self.states.pop(output.node, None)
            else:
                self.notes.append(f"{self.loop.now:.1f} {output.text}")

    def deliver(self, message: Assignment | Grant) -> None:
        node = self.by_id.get(message.node)
        if node is not None:
            node.inbox_free = max(node.inbox_free, self.loop.now + self.loop.random.uniform(*DELAY))
            self.loop.at(node.inbox_free, lambda: node.receive(message))

    def kill(self, name: str, *, back_after: float | None = None) -> None:
        """Kill -9; a new start of the node comes after that many seconds."""
        self.nodes[name].kill()
        if back_after is not None:
            self.loop.after(back_after, lambda: self.join(name))

    def join(self, name: str) -> None:
        node = self.nodes[name] = SimNode(self, name, *self.machines[name])
        self.by_id[node.id] = node

    def partition(self, name: str, seconds: float) -> None:
        """The node runs on, but nothing reaches it or comes from it."""
        node = self.nodes[name]
        node.reachable = False

        def heal() -> None:
            node.reachable = True
            if (kept := self.retained.get(node.id)) is not None:  # what is retained comes with the connection
                node.receive(kept)

        self.loop.after(seconds, heal)

    def counts(self) -> dict[str, int]:
        """Streams that each node publishes."""
        out = dict.fromkeys((name for name, node in self.nodes.items() if node.alive), 0)
        for node in self.record.publishing.values():
            out[node.rpartition(".")[0]] += 1
        return out


def cameras(count: int, sites: int = 0) -> dict[str, FleetStream]:
    """That many cameras; every fourth belongs to one of `sites` sites."""
    out = {}
    for n in range(count):
        require = frozenset({("site", f"s{n % sites}")}) if sites and n % 4 == 0 else frozenset()
        out[f"cam-{n}"] = FleetStream({"uri": f"rtsp://camera-{n}/live"}, require)
    return out
