"""What a node may run, and until when: its assignment and its lease, without clock, threads or network.

A lease counts from when the beat was *sent* that was granted, so that it ends here before the supervisor, which counts
from when the beat arrived, takes the streams away.
"""

from __future__ import annotations

import math
from typing import Any, Final

from streamkp.fleet.messages import Assignment, Grant

_REMEMBERED: Final = 64  # beats whose answer may still come


class Holding:
    """A node's side of the bargain. Times are seconds of this node's own clock that never goes back."""

    def __init__(self) -> None:
        self.term = 0
        self.revision = 0
        self.assigned: dict[str, int] = {}
        self.definitions: dict[str, dict[str, Any]] = {}
        self.deadline = -math.inf
        self.lapses = 0  # how often the lease has run out and was given again
        self.used: dict[str, int] = {}  # the highest epoch of each stream that was begun here
        self.told = -1  # version of the state that the supervisor knows
        self.lease_s: float | None = None
        self._sent: dict[int, tuple[float, int]] = {}  # beat -> when it was sent, version of the state before it

    def assign(self, assignment: Assignment) -> bool:
        """Take a new assignment; False for one that is older than what is there."""
        if (assignment.term, assignment.revision) <= (self.term, self.revision):
            return False
        self.term, self.revision = assignment.term, assignment.revision
        self.assigned, self.definitions = dict(assignment.streams), dict(assignment.definitions)
        return True

    def sent(self, number: int, version: int, now: float) -> None:
        """A beat is about to be sent."""
        self._sent[number] = (now, version)
        while len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def granted(self, grant: Grant, now: float) -> bool:
        """The supervisor has answered a beat. An answer of an earlier supervisor, or one that knows of an assignment
        which has not arrived here yet, is none.
        """
        if grant.term < self.term or grant.revision > self.revision or grant.number not in self._sent:
            return False
        self.lease_s = grant.lease_s
        self._extend(grant.number, now)
        return True

    def unsupervised(self, number: int, now: float) -> None:
        """A beat has reached the broker, which says that no supervisor runs: nobody will take the streams away.

        That renews a lease that still runs. One that has run out may have been given to others, by a supervisor that
        has come and gone since.
        """
        if self.lease_s is not None and number in self._sent and now < self.deadline:
            self._extend(number, now)

    def wanted(self, now: float) -> dict[str, int]:
        """The streams to run now, and from which epoch."""
        return self.assigned if now < self.deadline else {}

    def next_epoch(self, name: str) -> int:
        """The epoch from which an assigned stream is to start here: a new one each time."""
        return max(self.assigned[name], self.used.get(name, -1) + 1)

    def is_known(self, name: str, epoch: int) -> bool:
        """Whether the supervisor knows of an epoch without being told: it has given it out."""
        return epoch <= self.assigned.get(name, -1)

    def _extend(self, number: int, now: float) -> None:
        at, version = self._sent[number]
        assert self.lease_s is not None
        self.told = max(self.told, version)
        if self.deadline <= now and self.deadline > -math.inf:
            self.lapses += 1
        self.deadline = max(self.deadline, at + self.lease_s)
