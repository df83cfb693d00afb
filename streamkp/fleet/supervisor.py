"""Decides which node runs which stream: a state machine without clock, threads or network.

Whoever drives it (MQTT, Ray, a simulation) hands in what happens with the time, and carries out what `take` returns.

At no time may two nodes publish the same stream. A node runs its streams under a lease: it stops them by itself when
no beat that it sent within the last `lease` seconds was granted. The supervisor takes a stream from a node only when
the node has said that it no longer runs it, or when nothing was heard of the node for `lease + margin` seconds, counted
from the last beat that was granted; the clocks of different machines are never compared. A stream starts on its next
node with the epoch after the highest that was used, since a node tells an epoch before it uses it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from streamkp.fleet import balance
from streamkp.fleet.balance import Room
from streamkp.fleet.messages import Assignment, Beat, Grant, NodeState, Pending, Waiting
from streamkp.fleet.spec import FleetStream, Limits, Requirement


@dataclass(frozen=True)
class Settings:
    """Times in seconds. `margin` covers clocks that run differently and what is under way when a lease ends."""

    limits: Limits = field(default_factory=Limits)
    lease: float = 4.0
    margin: float = 1.0
    settle: float = 8.0  # after a change of a node's streams its measurements say little
    smooth: float = 5.0  # time constant of the measured load
    overload_after: float = 10.0
    recover_after: float = 120.0  # between two steps by which the capacity of a node that was overloaded grows again
    balance_every: float = 5.0
    uneven: float = 0.2  # levelling starts at this difference of load ...
    even: float = 0.05  # ... and ends at this one
    stay: float = 60.0  # a stream that was moved to level the load is not moved again for this long
    probation: float = 10.0  # a node that failed twice gets nothing but what no other takes; doubles each time
    forget: float = 600.0  # when failures of a node are forgotten
    retry: float = 15.0  # until a stream that failed is tried again; doubles each time
    move_at_once: float = 0.005  # share of the streams that may be on the move to level the load


MIN_MOVES: Final = 4
MOST_PRESSURE: Final = 2.0  # a measurement counts as no more: one that was far off for a moment is soon forgotten
TWINS_AFTER: Final = 2.0  # an older node of the same name that beats so long after the newer one came is no remnant


@dataclass(frozen=True)
class Forget:
    """A node is gone for good: what is kept under its id can be deleted."""

    node: str


@dataclass(frozen=True)
class Note:
    """Something happened that people want to know."""

    text: str


Output = Assignment | Pending | Forget | Note


@dataclass(slots=True)
class _Node:
    node: str
    name: str
    lease_until: float
    joined_at: float = -math.inf
    twin: str | None = None  # a newer node of the same name that runs beside it, and was told of
    state: NodeState | None = None
    assigned: dict[str, int] = field(default_factory=dict)  # -> epoch
    leaving: set[str] = field(default_factory=set)  # no longer assigned, perhaps still running
    weight: float = 0.0  # of `assigned`, and of streams that are on their way here
    revision: int = 0
    dirty: bool = False  # its assignment has to be told
    given: bool = False  # it was given streams since the last time
    expired: bool = False
    failed: bool = False  # counted as a failure
    lost: bool = False  # said to be dead: gets nothing, though its lease still runs
    capacity: float = 0.0
    capacity_at: float = -math.inf
    pressure: float = 0.0
    measured_at: float = 0.0  # weight
    beat_at: float | None = None
    changed_at: float = -math.inf
    overloaded_since: float | None = None
    new_until: float = -math.inf
    expired_at: float = 0.0
    version: int = -1
    load: Any = None


@dataclass(slots=True)
class _Stream:
    spec: FleetStream
    epoch: int = -1  # the highest that is known to be used or given out
    owner: str | None = None  # the node that has it, or may still run it
    target: str | None = None  # where it is to go next
    removed: bool = False
    ended: bool = False
    failures: int = 0
    retry_at: float | None = None
    moved_at: float = -math.inf
    why_waiting: str = ""


class Supervisor:
    """The state machine. All times are seconds of one clock that never goes back."""

    def __init__(self, streams: Mapping[str, FleetStream], settings: Settings | None = None, *, term: int = 1) -> None:
        self.settings = settings or Settings()
        self.term = term
        self.moves = 0  # streams given to a node, all together
        self.failures = 0  # nodes whose lease ran out
        self._nodes: dict[str, _Node] = {}
        self._streams: dict[str, _Stream] = {name: _Stream(spec) for name, spec in streams.items()}
        self._pending: dict[str, None] = dict.fromkeys(streams)
        self._retries: set[str] = set()
        self._drained: set[str] = set()
        self._deaths: dict[str, list[float]] = {}  # by name of the node
        self._online = False
        self._ready_at = math.inf
        self._balance_at = -math.inf
        self._levelling = False
        self._notes: list[Note] = []
        self._forgotten: list[Forget] = []
        self._told: Pending | None = None  # None: it may not have arrived
        self._pending_changed = True

    # -- what happens -------------------------------------------------------------------------------------------

    def restore(self, assignments: Iterable[Assignment], pending: Pending | None) -> None:
        """Take up what an earlier supervisor has decided. Before the first `connected`."""
        for found in sorted(assignments, key=lambda each: each.revision):
            node = self._nodes.setdefault(found.node, _Node(found.node, found.node.rpartition(".")[0], math.inf))
            node.revision = max(node.revision, found.revision)
            for name, epoch in found.streams.items():
                stream = self._streams.get(name)
                if stream is None or (stream.owner is not None and stream.epoch >= epoch):
                    node.leaving.add(name)
                    self._touch(node)
                    continue
                if stream.owner is not None:  # an older claim
                    other = self._nodes[stream.owner]
                    other.weight -= stream.spec.weight
                    del other.assigned[name]
                    self._touch(other)
                stream.epoch, stream.owner = max(stream.epoch, epoch), node.node
                node.assigned[name] = epoch
                node.weight += stream.spec.weight
                self._pending.pop(name, None)
        if pending is not None:
            self._drained.update(pending.drained)
            for name, waiting in pending.streams.items():
                if (stream := self._streams.get(name)) is None:
                    continue
                stream.epoch = max(stream.epoch, waiting.epoch)
                if stream.owner is None and waiting.leaves in self._nodes:
                    stream.owner = waiting.leaves
                    self._nodes[stream.owner].leaving.add(name)
                    self._pending.pop(name, None)

    def connected(self, now: float) -> None:
        """The supervisor can speak to the nodes, from now on or again. Leases may have been renewed without it."""
        wait = self.settings.lease + self.settings.margin
        self._online = True
        self._ready_at = now + wait
        for node in self._nodes.values():
            if not node.expired:
                node.lease_until = now + wait
                node.changed_at = now  # what was measured while the broker was away says little
                node.overloaded_since = None
            self._touch(node)
        self._told = None
        self._pending_changed = True

    def disconnected(self) -> None:
        """It cannot; until it can again it decides nothing."""
        self._online = False

    def node_state(self, state: NodeState, now: float) -> None:
        """A node tells what it is and runs."""
        node = self._nodes.get(state.node)
        if node is None:
            for other in self._nodes.values():  # a new start of a node whose lease still runs
                if other.name == state.name and other.assigned and not other.expired:
                    self._died(other, now)
            node = self._nodes[state.node] = _Node(state.node, state.name, now + self._wait, joined_at=now)
            self._joined(node, now)
            self._note(f"node {state.name} has joined")
            if state.revision:  # it may still go by an assignment that is forgotten here: no lease before it has ours
                node.revision = state.revision
                self._touch(node)
        elif state.version < node.version:
            return
        if node.state is None or node.state.capacity != state.capacity:
            node.capacity = state.capacity or self.settings.limits.streams
        if (state.problem or "") != (node.state.problem if node.state and node.state.problem else ""):
            self._note(f"node {state.name}: {state.problem or 'works again'}")
        same = node.state is not None and node.state.streams == state.streams
        node.state, node.version, node.name, node.lost = state, state.version, state.name, False
        if not same:
            self._look_at_streams(node, state, now)
        if node.leaving and state.revision >= node.revision:
            for name in [name for name in node.leaving if name not in state.streams]:
                self._free(node, name)
        if state.leaving and not state.streams:
            self._note(f"node {state.name} has left")
            self._give_up(node, now, failed=False)

    def beat(self, beat: Beat, now: float) -> Grant | None:
        """A node asks for its lease; None while its state is unknown."""
        node = self._nodes.get(beat.node)
        if node is None or node.state is None or node.version < beat.version or not self._online:
            return None
        if node.expired:
            node.expired = node.failed = False
            self._joined(node, now)
            self._note(f"node {node.name} is back")
        node.lost = False
        node.lease_until = now + self._wait
        self._look_for_twins(node, now)
        self._measure(node, beat, now)
        return Grant(
            node=beat.node, number=beat.number, term=self.term, revision=node.revision, version=beat.version,
            lease_s=self.settings.lease,
        )  # fmt: skip

    def node_lost(self, node_id: str) -> None:
        """A node is said to be dead, by its last will or by Ray. Its streams are free only when its lease ends."""
        if (node := self._nodes.get(node_id)) is not None:
            node.lost = True

    def update(self, streams: Mapping[str, FleetStream]) -> None:
        """The fleet file has changed: streams come, go, or change."""
        for name, spec in streams.items():
            stream = self._streams.get(name)
            if stream is None:
                self._streams[name] = _Stream(spec)
                self._pending[name] = None
                continue
            stream.removed = False
            if stream.spec != spec:
                weight, stream.spec, stream.ended = stream.spec.weight, spec, False
                if (node := self._owner(stream)) is not None and name in node.assigned:
                    node.weight += spec.weight - weight
                    self._take_away(node, name)
                elif stream.owner is None:
                    self._pending[name] = None
        for name in [name for name in self._streams if name not in streams]:
            stream = self._streams[name]
            stream.removed = True
            if (node := self._owner(stream)) is None:
                self._pending.pop(name, None)
                del self._streams[name]
            elif name in node.assigned:
                self._take_away(node, name)
        self._pending_changed = True

    def move(self, name: str, to: str, now: float) -> tuple[bool, str]:
        """Move a stream to a node, given by name or id. Returns whether it does, and what or why not."""
        stream = self._streams.get(name)
        if stream is None:
            return False, f"there is no stream named {name}"
        found = self._named(to)
        if not found:
            return False, f"there is no node named {to}; there are: {self._names()}"
        room = next((r for r in self._rooms(now) if r.node == found[-1].node), None)
        if room is None or not room.takes(stream.spec.require):
            return (
                False,
                f"{to} does not take {name}: it lacks {_words(stream.spec.require) or 'nothing, but is going'}",
            )
        node = self._owner(stream)
        if node is found[-1]:
            return True, f"{name} is on {to} already"
        stream.target, stream.moved_at = found[-1].node, now
        if node is not None and name in node.assigned:
            self._take_away(node, name)
        return True, f"{name} goes to {to}"

    def drain(self, name: str, on: bool) -> tuple[bool, str]:
        """Take all streams from a node and give it none (`on`), or take it up again."""
        if on and name not in {node.name for node in self._nodes.values()}:
            return False, f"there is no node named {name}; there are: {self._names()}"
        (self._drained.add if on else self._drained.discard)(name)
        self._pending_changed = True
        return True, f"{name} is being drained" if on else f"{name} takes streams again"

    def place_now(self, now: float) -> None:
        """Place what waits without waiting for nodes that may still have it: for plans only."""
        self._ready_at = now
        self._place(now)

    def tick(self, now: float) -> None:
        """Time has passed: ends leases, places what waits, relieves and levels."""
        if not self._online:
            return
        for node in list(self._nodes.values()):
            if node.expired:
                if now - node.expired_at > self.settings.forget:
                    self._drop(node)
            elif now >= node.lease_until:
                known = node.beat_at is not None or bool(node.assigned)  # else what a dead one has left on the broker
                if known:
                    self._note(f"node {node.name} was not heard of; its streams ({len(node.assigned)}) go elsewhere")
                self._give_up(node, now, failed=known)
        for name in [name for name in self._retries if (self._streams[name].retry_at or 0) <= now]:
            self._retry(name)
        self._place(now)
        if now >= self._balance_at and now >= self._ready_at:
            self._balance_at = now + self.settings.balance_every
            self._relieve(now)
            self._level(now)

    def take(self) -> list[Output]:
        """What is to be told since the last call, in an order in which no stream is ever in nobody's list."""
        out: list[Output] = []
        final = self._told
        if self._pending_changed or final is None:
            final = self._pending_message()
        self._pending_changed = False
        if final != self._told:
            known = self._told.streams if self._told is not None else {}
            self._told = Pending(streams={**known, **final.streams}, drained=final.drained)
            out.append(self._told)
        # Those that were given streams first: the nodes that had them have let go, or their lease has ended.
        for node in sorted((n for n in self._nodes.values() if n.dirty), key=lambda n: not n.given):
            node.dirty = node.given = False
            out.append(Assignment(node=node.node, term=self.term, revision=node.revision, streams=dict(node.assigned)))
        if final != self._told:
            out.append(final)
            self._told = final
        out += [*self._forgotten, *self._notes]
        self._forgotten, self._notes = [], []
        return out

    # -- questions ----------------------------------------------------------------------------------------------

    def snapshot(self, now: float) -> dict[str, Any]:
        """How things stand, as JSON types, for people and metrics."""
        nodes = []
        here = {node.name for node in self._nodes.values() if not (node.expired or node.lost)}
        for node in sorted(self._nodes.values(), key=lambda n: n.node):
            state = node.state
            if (node.expired or node.lost) and not node.assigned and node.name in here:  # it was started again since
                continue
            nodes.append(
                {
                    "node": node.node,
                    "name": node.name,
                    "state": self._word(node, now),
                    "labels": {} if state is None else dict(state.labels),
                    "streams": len(node.assigned),
                    "weight": round(node.weight, 3),
                    "capacity": round(node.capacity, 3),
                    "pressure": round(node.pressure, 3),
                    "load": None if node.load is None else node.load.model_dump(),
                    "metrics": None if state is None else state.metrics,
                    "problem": None if state is None else state.problem,
                }
            )
        waiting = {name: self._streams[name].why_waiting for name in self._pending if not self._streams[name].ended}
        return {
            "term": self.term,
            "streams": len(self._streams),
            "placed": sum(len(node.assigned) for node in self._nodes.values()),
            "moves": self.moves,
            "failures": self.failures,
            "nodes": nodes,
            "waiting": waiting,
        }

    def owners(self) -> dict[str, tuple[str, int]]:
        """For each stream that a node is to run: the node's id, and the epoch."""
        return {name: (node.node, epoch) for node in self._nodes.values() for name, epoch in node.assigned.items()}

    # -- inside -------------------------------------------------------------------------------------------------

    @property
    def _wait(self) -> float:
        return self.settings.lease + self.settings.margin

    @staticmethod
    def _touch(node: _Node) -> None:
        """Its assignment has changed. What it tells of an older one says nothing about this one."""
        node.revision += not node.dirty
        node.dirty = True

    def _note(self, text: str) -> None:
        self._notes.append(Note(text))

    def _owner(self, stream: _Stream) -> _Node | None:
        return self._nodes.get(stream.owner) if stream.owner is not None else None

    def _named(self, name: str) -> list[_Node]:
        alive = [n for n in self._nodes.values() if not n.expired and name in (n.name, n.node)]
        return sorted(alive, key=lambda n: n.lost, reverse=True)

    def _names(self) -> str:
        return ", ".join(sorted({node.name for node in self._nodes.values() if not node.expired})) or "none"

    def _word(self, node: _Node, now: float) -> str:
        if node.expired:
            return "gone"
        if node.lost:
            return "lost"
        if node.name in self._drained or (node.state is not None and node.state.leaving):
            return "draining"
        if node.state is not None and not node.state.ready:
            return "starting"
        if node.overloaded_since is not None:
            return "overloaded"
        return "probation" if now < node.new_until else "ready"

    def _died(self, node: _Node, now: float) -> None:
        if not node.failed:
            node.failed, node.lost = True, True
            self.failures += 1
            self._deaths.setdefault(node.name, []).append(now)

    def _joined(self, node: _Node, now: float) -> None:
        deaths = [at for at in self._deaths.get(node.name, ()) if now - at < self.settings.forget]
        if len(deaths) > 1:
            node.new_until = now + min(self.settings.probation * 2 ** (len(deaths) - 2), self.settings.forget)
        node.pressure, node.measured_at, node.beat_at, node.overloaded_since = 0.0, 0.0, None, None

    def _look_for_twins(self, node: _Node, now: float) -> None:
        """Tell of another node that was started under the name of this one, which still runs."""
        for other in self._nodes.values():
            if (
                other.name == node.name
                and other.node != node.twin
                and not (other.expired or other.lost or other.beat_at is None)
                and other.joined_at > node.joined_at
                and now - other.joined_at > TWINS_AFTER
            ):
                node.twin = other.node
                self._note(
                    f"two nodes are named {node.name} ({node.node} and {other.node}): start one of them again with "
                    "another --name"
                )

    def _look_at_streams(self, node: _Node, state: NodeState, now: float) -> None:
        for name, running in state.streams.items():
            stream = self._streams.get(name)
            if stream is None:
                if name not in node.assigned and state.revision >= node.revision:
                    self._touch(node)
                continue
            stream.epoch = max(stream.epoch, running.epoch)
            if name in node.assigned:
                self._outcome(stream, name, running.status, now)
            elif stream.owner is None and not stream.removed and not node.expired and not state.leaving:
                # A supervisor that lost its memory finds the stream where it runs.
                self._touch(node)
                node.revision = max(node.revision, state.revision + 1)
                self._give(node, name, running.epoch, now)
            elif name not in node.leaving and state.revision >= node.revision:
                self._touch(node)  # it runs what it was not given

    def _outcome(self, stream: _Stream, name: str, status: str, now: float) -> None:
        if status == "live":
            stream.failures, stream.retry_at = 0, None
            self._retries.discard(name)
        elif status == "ended":
            stream.ended = True
        elif status == "failed" and stream.retry_at is None:
            stream.retry_at = now + self.settings.retry * 2 ** min(stream.failures, 6)
            stream.failures += 1
            self._retries.add(name)

    def _retry(self, name: str) -> None:
        self._retries.discard(name)
        stream = self._streams[name]
        stream.retry_at = None
        if (node := self._owner(stream)) is not None and name in node.assigned:
            self._take_away(node, name)

    def _give(self, node: _Node, name: str, epoch: int, now: float) -> None:
        stream = self._streams[name]
        node.assigned[name] = epoch
        node.leaving.discard(name)
        node.weight += stream.spec.weight
        node.changed_at = now
        node.given = True
        self._touch(node)
        stream.owner, stream.epoch, stream.target, stream.why_waiting = node.node, max(stream.epoch, epoch), None, ""
        self._pending.pop(name, None)
        self._pending_changed = True

    def _take_away(self, node: _Node, name: str) -> None:
        """Ask a node to stop a stream; it is free when the node has said so, or its lease has ended."""
        stream = self._streams[name]
        del node.assigned[name]
        node.leaving.add(name)
        node.weight -= stream.spec.weight
        self._touch(node)
        self._pending_changed = True

    def _free(self, node: _Node, name: str) -> None:
        node.leaving.discard(name)
        stream = self._streams.get(name)
        if stream is None or stream.owner != node.node:
            return
        stream.owner = None
        self._pending_changed = True
        if stream.removed:
            del self._streams[name]
            self._retries.discard(name)
        else:
            self._pending[name] = None

    def _give_up(self, node: _Node, now: float, *, failed: bool) -> None:
        if failed:
            self._died(node, now)
        for name in [*node.assigned, *node.leaving]:
            self._free(node, name)
        node.assigned.clear()
        node.leaving.clear()
        node.weight, node.expired, node.expired_at = 0.0, True, now
        self._touch(node)
        if not failed:
            self._drop(node)

    def _drop(self, node: _Node) -> None:
        del self._nodes[node.node]
        self._forgotten.append(Forget(node.node))
        if not any(other.name == node.name for other in self._nodes.values()):
            self._drained.discard(node.name)
            self._pending_changed = True

    def _pending_message(self) -> Pending:
        streams = {
            name: Waiting(epoch=self._streams[name].epoch)
            for name in self._pending
            if self._streams[name].epoch >= 0  # what was never run needs no memory
        }
        for node in self._nodes.values():
            for name in node.leaving:
                if (stream := self._streams.get(name)) is not None and stream.owner == node.node:
                    streams[name] = Waiting(epoch=stream.epoch, leaves=node.node)
        return Pending(streams=streams, drained=tuple(sorted(self._drained)))

    # -- placement ----------------------------------------------------------------------------------------------

    def _rooms(self, now: float) -> list[Room]:
        """The nodes as placement sees them; streams on their way to a node count there already."""
        coming: dict[str, float] = {}
        for node in self._nodes.values():
            for name in node.leaving:
                if (stream := self._streams.get(name)) is not None and stream.target is not None:
                    coming[stream.target] = coming.get(stream.target, 0.0) + stream.spec.weight
        return [
            Room(
                node.node,
                node.state.labels,
                node.capacity,
                node.state.capacity or self.settings.limits.streams,
                node.weight + coming.get(node.node, 0.0),
                node.pressure,
                node.measured_at,
                node.name not in self._drained
                and not node.state.leaving
                and node.state.ready
                and not node.state.problem,
                now < node.new_until,
            )
            for node in self._nodes.values()
            if node.state is not None and not node.expired and not node.lost
        ]

    def _place(self, now: float) -> None:
        waiting: dict[Requirement, list[tuple[str, float]]] = {}
        if now < self._ready_at:
            return
        for name in self._pending:
            stream = self._streams[name]
            if not stream.ended:
                waiting.setdefault(stream.spec.require, []).append((name, stream.spec.weight))
        if not waiting:
            return
        rooms = self._rooms(now)
        by_id = {room.node: room for room in rooms}
        for require, streams in waiting.items():
            for name, weight in list(streams):  # those that were told where to go
                stream = self._streams[name]
                room = by_id.get(stream.target or "")
                stream.target = None
                if room is not None and room.takes(require) and room.may_have(weight):
                    room.weight += weight
                    streams.remove((name, weight))
                    self._start(name, room.node, now)
        for name, node in balance.place(waiting, rooms):
            if node is not None:
                self._start(name, node, now)
                continue
            require = self._streams[name].spec.require
            fit = any(room.takes(require) for room in rooms)
            self._streams[name].why_waiting = "all nodes are full" if fit else f"no node has {_words(require)}"

    def _start(self, name: str, node: str, now: float) -> None:
        self.moves += 1
        self._give(self._nodes[node], name, self._streams[name].epoch + 1, now)

    def _measure(self, node: _Node, beat: Beat, now: float) -> None:
        node.load = beat.load
        limits, before = self.settings.limits, node.beat_at
        node.beat_at = now
        if now - node.changed_at < self.settings.settle:
            return
        measured = min(max(beat.load.p95_ms / limits.p95_ms, beat.load.dropped / limits.dropped), MOST_PRESSURE)
        share = 1.0 if before is None else 1.0 - math.exp(-(now - before) / self.settings.smooth)
        node.pressure += (measured - node.pressure) * share
        node.measured_at = node.weight
        if node.pressure > 1.0:
            node.overloaded_since = now if node.overloaded_since is None else node.overloaded_since
        elif node.pressure < 0.9:
            node.overloaded_since = None

    def _relieve(self, now: float) -> None:
        """Correct the capacities by what was measured; take from nodes what is beyond them, or drained."""
        rooms: list[Room] | None = None
        for node in self._nodes.values():
            if node.expired or node.state is None:
                continue
            declared = node.state.capacity or self.settings.limits.streams
            settled = now - node.changed_at >= self.settings.settle
            since = node.overloaded_since
            if since is not None and settled and now - since >= self.settings.overload_after and node.weight > 1:
                node.capacity = max(1.0, 0.9 * node.weight)
                node.capacity_at = node.overloaded_since = now
                self._note(f"node {node.name} is overloaded; it keeps streams of a weight of {node.capacity:.1f}")
            elif (
                node.pressure < 0.7
                and node.capacity < declared
                and now - node.capacity_at >= self.settings.recover_after
            ):
                node.capacity, node.capacity_at = min(declared, node.capacity * 1.1), now
            drained = node.name in self._drained or bool(node.state.problem)
            if not drained and node.weight <= node.capacity + 1e-9:
                continue
            rooms = self._rooms(now) if rooms is None else rooms
            self._shed(node, rooms, 0.0 if drained else node.capacity)

    def _shed(self, node: _Node, rooms: list[Room], keep: float) -> None:
        """Send streams to nodes with room until the weight is down; what nobody can take stays."""
        for name in list(node.assigned):
            if node.weight <= keep + 1e-9:
                return
            stream = self._streams[name]
            room = balance.target(stream.spec.require, stream.spec.weight, rooms, node.node)
            if room is not None:
                room.weight += stream.spec.weight
                stream.target = room.node
                self._take_away(node, name)

    def _level(self, now: float) -> None:
        most = max(MIN_MOVES, math.ceil(self.settings.move_at_once * len(self._streams)))
        most -= sum(len(node.leaving) for node in self._nodes.values())
        if most <= 0:
            return
        rooms = self._rooms(now)
        for room in rooms:
            node = self._nodes[room.node]
            if room.open and not room.new:
                room.streams = {
                    name: self._streams[name].spec.weight
                    for name in node.assigned
                    if now - self._streams[name].moved_at >= self.settings.stay
                }
        start = self.settings.even if self._levelling else self.settings.uneven
        needs = {name: stream.spec.require for name, stream in self._streams.items()}
        moves = balance.even_out(rooms, needs, most, start=start, stop=self.settings.even)
        self._levelling = len(moves) >= most
        for move in moves:
            stream = self._streams[move.stream]
            stream.target, stream.moved_at = move.target, now
            self._take_away(self._nodes[move.source], move.stream)


def _words(require: Requirement) -> str:
    return ", ".join(f"{key}: {value}" for key, value in sorted(require))
