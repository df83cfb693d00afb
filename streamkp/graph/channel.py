"""The bounded queue on an edge: one lane per stream, so that no stream can crowd out or hold up another.

Producers put packets into the lane of their stream; the consumer takes from the lanes in turn. A full lane does what
its policy says:

    block        the producer waits (files: nothing is lost)
    drop-oldest  the oldest packet of the lane makes room
    drop-newest  the new packet is dropped
    latest       as drop-oldest, with room for one packet only (live)

A `holds` function keeps packets back from the consumer until `wake` is called. Waiters are woken by the call that lets
them go on; nothing polls.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Generic, Literal, TypeVar

from streamkp.graph.clock import Clock

Policy = Literal["block", "drop-oldest", "drop-newest", "latest"]
T = TypeVar("T")


class Closed(Exception):
    """The channel takes and gives nothing more."""


class End:
    """What `get` returns for a lane that has ended, after its last packet."""

    def __repr__(self) -> str:
        return "END"


END: Final = End()


class _Lane(Generic[T]):
    __slots__ = ("block", "dropped", "ended", "items", "key", "newest", "ready", "size", "writable")

    def __init__(self, key: str, policy: Policy, size: int, lock: threading.Lock) -> None:
        self.key = key
        self.items: deque[T] = deque()
        self.size = 1 if policy == "latest" else size
        self.block = policy == "block"
        self.newest = policy == "drop-newest"
        self.writable = threading.Condition(lock)
        self.ready = False  # stands in the channel's queue of lanes that have something to give
        self.ended = False
        self.dropped = 0


class Channel(Generic[T]):
    """Bounded hand-over between threads; memory is at most `size` packets for each stream that has not ended.

    Args:
        size: packets a lane holds (at least 1).
        policy: the policy of a new lane, by its key.
        clock: what measures the wait of `get_batch`.
        producers: how many `close` calls it takes to close the channel.
        holds: says of a packet that the consumer may not have it yet; `wake` has it asked again.
        lost: called with every packet that the policy drops, by the thread that puts.
    """

    def __init__(
        self,
        size: int,
        policy: Callable[[str], Policy],
        clock: Clock | None = None,
        producers: int = 1,
        *,
        holds: Callable[[T], bool] | None = None,
        lost: Callable[[T], None] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("a channel holds at least one packet")
        self._size = size
        self._policy = policy
        self._clock = clock or Clock()
        self._holds = holds
        self._lost = lost
        self._lock = threading.Lock()
        self._readable = threading.Condition(self._lock)
        self._lanes: dict[str, _Lane[T]] = {}
        self._ready: deque[_Lane[T]] = deque()
        self._readers = 0
        self._producers = producers
        self._closed = False
        self._aborted = False
        self._dropped: dict[str, int] = {}

    def put(self, key: str, item: T) -> bool:
        """Add a packet to the lane `key`; False if this packet was dropped by the lane's policy.

        Raises:
            Closed: the channel was closed or aborted, also while waiting for room.
        """
        with self._lock:
            lost = self._put(self._lane(key), item)
        if lost is not None and self._lost is not None:
            self._lost(lost)
        return lost is not item

    def _put(self, lane: _Lane[T], item: T) -> T | None:
        """The packet that was dropped, if any."""
        lost = None
        if len(lane.items) >= lane.size:
            if lane.newest:
                lane.dropped += 1
                return item
            if not lane.block:
                lost = lane.items.popleft()
                lane.dropped += 1
            else:
                while len(lane.items) >= lane.size:
                    lane.writable.wait()
                    if self._aborted:
                        raise Closed
        lane.items.append(item)
        self._wake(lane)
        return lost

    def end(self, key: str) -> None:
        """Say that the lane gets no more packets. Never waits: the mark takes no room."""
        with self._lock:
            lane = self._lane(key)
            lane.ended = True
            self._wake(lane)

    def get(self) -> tuple[str, T | End]:
        """The next packet, lanes in turn; `END` behind the last packet of a lane. Waits while there is none.

        Raises:
            Closed: the channel is closed and empty, or aborted.
        """
        with self._lock:
            self._await_ready()
            return self._take()

    def wake(self) -> None:
        """Packets that were held may go now, or `until` of `get_batch` has become true."""
        with self._lock:
            self._readable.notify_all()

    def poll(self) -> T | End | None:
        """The next packet, or `END`, as `get`, without waiting; None while there is none.

        Raises:
            Closed: as `get`.
        """
        with self._lock:
            if not self._aborted and self._some_ready():
                return self._take()[1]
            if self._closed:
                raise Closed
            return None

    def get_batch(
        self,
        size: int,
        wait: float,
        expected: Callable[[], int],
        alone: Callable[[str], bool] = lambda _: False,
        without: Collection[str] = (),
        until: Callable[[], bool] | None = None,
    ) -> list[tuple[str, T | End]]:
        """At most one packet of each lane, up to `size`; waits for the first, then at most `wait` seconds more.

        It does not wait at all once `expected()` lanes have delivered. What comes from a lane that goes `alone` is a
        batch by itself. Lanes may be left out (`without`). With `until` it waits for the first packet only while that
        is false, of which `wake` tells, and may come back empty.

        Raises:
            Closed: as `get`; with `until` only when aborted, since the lanes left out may still hold something.
        """
        with self._lock:
            if until is None:
                self._await_ready()
            batch: list[tuple[str, T | End]] = []
            taken = set(without)
            deadline: int | None = None
            while True:
                if self._aborted:
                    raise Closed
                for _ in range(len(self._ready)):
                    if len(batch) == size:
                        return batch
                    lane = self._ready[0]
                    if lane.key in taken or self._held(lane) or (batch and alone(lane.key)):
                        self._ready.rotate(-1)
                        continue
                    entry = self._take()
                    taken.add(entry[0])
                    batch.append(entry)
                    if alone(entry[0]):
                        return batch
                if until is not None and not batch and not until():
                    self._readers += 1
                    self._readable.wait()
                    self._readers -= 1
                    continue
                if until is not None or len(batch) >= min(size, expected()) or self._closed:
                    return batch
                now = self._clock.monotonic()
                if deadline is None:
                    deadline = now + int(wait * 1e9)
                if now >= deadline:
                    return batch
                self._readers += 1
                self._clock.wait(self._readable, (deadline - now) / 1e9)
                self._readers -= 1

    def close(self) -> None:
        """One producer has no more packets; after the last one's call, what is inside is still given out."""
        with self._lock:
            self._producers -= 1
            if self._producers <= 0:
                self._closed = True
                self._readable.notify_all()

    def abort(self) -> None:
        """Throw away what is inside and wake every waiter with `Closed`."""
        with self._lock:
            self._closed = self._aborted = True
            self._ready.clear()
            for lane in self._lanes.values():
                lane.items.clear()
                lane.writable.notify_all()
            self._readable.notify_all()

    def __len__(self) -> int:
        with self._lock:
            return sum(len(lane.items) for lane in self._lanes.values())

    def dropped(self) -> dict[str, int]:
        """Packets dropped by policy so far, by lane."""
        with self._lock:
            return self._dropped | {k: lane.dropped for k, lane in self._lanes.items() if lane.dropped}

    def forget(self, key: str) -> None:
        """Drop the count of a lane that has ended."""
        with self._lock:
            self._dropped.pop(key, None)

    def depths(self) -> dict[str, int]:
        """Packets waiting now, by lane."""
        with self._lock:
            return {key: len(lane.items) for key, lane in self._lanes.items()}

    def _lane(self, key: str) -> _Lane[T]:
        if self._closed:
            raise Closed
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key, self._policy(key), self._size, self._lock)
            lane.dropped = self._dropped.pop(key, 0)
        return lane

    def _wake(self, lane: _Lane[T]) -> None:
        if not lane.ready:
            lane.ready = True
            self._ready.append(lane)
        if self._readers and not self._held(lane):
            self._readable.notify()

    def _await_ready(self) -> None:
        while not self._some_ready():
            if self._closed and not self._ready:
                raise Closed
            self._readers += 1
            self._readable.wait()
            self._readers -= 1
        if self._aborted:
            raise Closed

    def _some_ready(self) -> bool:
        """Whether a lane has something that may go; it is the first one then."""
        for _ in range(len(self._ready)):
            if not self._held(self._ready[0]):
                return True
            self._ready.rotate(-1)
        return False

    def _held(self, lane: _Lane[T]) -> bool:
        return self._holds is not None and bool(lane.items) and self._holds(lane.items[0])

    def _take(self) -> tuple[str, T | End]:
        lane = self._ready.popleft()
        item: T | End
        if lane.items:
            item = lane.items.popleft()
            if lane.block:
                lane.writable.notify()
        else:
            item = END
            del self._lanes[lane.key]
            if lane.dropped:
                self._dropped[lane.key] = lane.dropped
        if lane.items or (lane.ended and item is not END):
            self._ready.append(lane)
        else:
            lane.ready = False
        return lane.key, item
