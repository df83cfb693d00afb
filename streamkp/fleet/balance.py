"""Where streams belong: pure functions of the nodes' loads, used by the supervisor and by nobody else.

A node's `load` is the weight of its streams over its capacity. The capacity is what it declares, corrected by
measurement: it shrinks when the node's latency or drops stay beyond the limits, and grows again slowly. New streams go
where the larger of load and measured pressure is least; streams are moved for balance by load alone, since a latency
that comes from a slow network would otherwise drive all streams off a node one by one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from streamkp.fleet.spec import Requirement


@dataclass(slots=True)
class Room:
    """What placement knows of a node. `pressure` is measured latency or drops over their limit, 1 at the limit."""

    node: str
    labels: Mapping[str, str]
    capacity: float
    declared: float
    weight: float = 0.0  # of the streams it has, and of those on their way to it
    pressure: float = 0.0
    measured_at: float = 0.0  # the weight at which `pressure` was measured
    open: bool = True  # takes streams
    new: bool = False  # lately back from a failure: only where no other has room
    streams: dict[str, float] = field(default_factory=dict)  # those it may be relieved of -> weight

    @property
    def load(self) -> float:
        """Share of its capacity in use."""
        return self.weight / self.capacity

    def cost(self) -> float:
        """How full it is, by what is assigned and by what was measured, put in proportion to what came since."""
        grown = self.weight / self.measured_at if self.measured_at else 1.0
        return max(self.load, self.pressure * grown)

    def takes(self, require: Requirement) -> bool:
        """Whether it has these labels and takes streams."""
        return self.open and all(self.labels.get(key) == value for key, value in require)

    def has_room(self, weight: float) -> bool:
        """Whether it can carry that much more, by what was measured."""
        return self.weight + weight <= self.capacity + 1e-9 and self.pressure <= 1.0

    def may_have(self, weight: float) -> bool:
        """Whether it can be given that much more by what it declares, however busy it is."""
        return self.weight + weight <= self.declared + 1e-9


@dataclass(frozen=True)
class Move:
    """A stream that should go from one node to another."""

    stream: str
    source: str
    target: str


def place(
    waiting: Mapping[Requirement, Sequence[tuple[str, float]]], rooms: Iterable[Room]
) -> Iterator[tuple[str, str | None]]:
    """A node for each waiting stream (name, weight), grouped by what they require; None where none takes it.

    Where all nodes are overloaded, one of them gets it, up to what it declares: late results are better than none.
    Changes the rooms' weights as it goes.
    """
    rooms = list(rooms)
    for require, streams in waiting.items():
        fit = [room for room in rooms if room.takes(require)]
        by_id = {room.node: room for room in fit}
        heap = [(room.new, room.cost(), room.load, room.node) for room in fit]
        heapq.heapify(heap)
        for name, weight in sorted(streams, key=lambda item: -item[1]):
            full: list[tuple[bool, float, float, str]] = []
            chosen: str | None = None
            while heap:
                entry = heapq.heappop(heap)
                room = by_id[entry[3]]
                if room.has_room(weight):
                    room.weight += weight
                    chosen = room.node
                    heapq.heappush(heap, (room.new, room.cost(), room.load, room.node))
                    break
                full.append(entry)
            for entry in full:  # there may be room for a lighter one
                heapq.heappush(heap, entry)
            if chosen is None:
                busy = min(
                    (r for r in fit if r.may_have(weight)), key=lambda r: (r.cost(), r.load, r.node), default=None
                )
                if busy is not None:
                    busy.weight += weight
                    chosen = busy.node
            yield name, chosen


def target(require: Requirement, weight: float, rooms: Iterable[Room], but: str) -> Room | None:
    """The node with the least cost that takes a stream away from node `but`."""
    fit = (room for room in rooms if room.node != but and not room.new and room.takes(require))
    return min((r for r in fit if r.has_room(weight)), key=lambda r: (r.cost(), r.load, r.node), default=None)


def even_out(
    rooms: Sequence[Room], require: Mapping[str, Requirement], most: int, *, start: float, stop: float
) -> list[Move]:
    """Moves that level the load, at most `most`; none while no two nodes differ by more than `start`.

    `start` and `stop` are shares of the fuller node's load, and at least two streams and one: what is level enough is
    left alone, and what is begun is brought close to level, so that small changes set nothing in motion. Changes the
    rooms' weights as it goes.
    """
    moves: list[Move] = []
    threshold = start
    donors = [(-room.load, room.node) for room in rooms if room.streams]
    heapq.heapify(donors)
    by_id = {room.node: room for room in rooms}
    while donors and len(moves) < most:
        _, node = heapq.heappop(donors)
        move = _relief(by_id[node], rooms, require, threshold, 2 if threshold == start else 1)
        if move is None:
            continue
        threshold = stop
        moves.append(move)
        heapq.heappush(donors, (-by_id[node].load, node))
    return moves


def _relief(
    donor: Room, rooms: Sequence[Room], require: Mapping[str, Requirement], share: float, units: int
) -> Move | None:
    tried: set[Requirement] = set()
    for name, weight in donor.streams.items():
        if (needs := require[name]) in tried:
            continue
        tried.add(needs)
        fit = (r for r in rooms if r is not donor and not r.new and r.load < donor.load and r.takes(needs))
        room = min((r for r in fit if r.has_room(weight)), key=lambda r: (r.load, r.node), default=None)
        if room is None:
            continue
        after_donor, after_room = (donor.weight - weight) / donor.capacity, (room.weight + weight) / room.capacity
        gap = donor.load - room.load
        if gap <= max(share * donor.load, units * weight / donor.capacity) + 1e-9 or after_room > after_donor + 1e-9:
            continue
        del donor.streams[name]
        donor.weight -= weight
        room.weight += weight
        return Move(name, donor.node, room.node)
    return None
