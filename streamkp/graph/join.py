"""Brings the branches of a graph back together: one packet per frame, holding what every branch has added.

A stage that names several stages in `from:` receives joined packets. A frame waits until each branch has delivered
it or a later one (branches may drop frames, but keep the order of a stream), so a branch that drops a frame delays
it only until its next one.
"""

from __future__ import annotations

from collections import deque

from streamkp.graph.channel import Channel, Closed, End
from streamkp.graph.edges import Outputs
from streamkp.packet import Packet


class Join:
    """Joins one stream's packets from `branches` branches by their `seq`.

    At most `limit` packets wait for their counterparts; beyond that the oldest goes on with what it has.
    """

    def __init__(self, branches: int, limit: int = 64) -> None:
        self._waiting: list[deque[Packet]] = [deque() for _ in range(branches)]
        self._last = [-1] * branches  # newest seq that each branch has delivered
        self._limit = limit

    def add(self, branch: int, packet: Packet) -> list[Packet]:
        """Take a packet of one branch; return the frames that are complete now, in order."""
        self._waiting[branch].append(packet)
        self._last[branch] = packet.seq
        return self._complete()

    def end(self, branch: int) -> list[Packet]:
        """The branch delivers nothing more; return the frames that waited only for it."""
        self._last[branch] = 1 << 62
        return self._complete()

    def _complete(self) -> list[Packet]:
        out: list[Packet] = []
        while True:
            heads = [queue[0].seq for queue in self._waiting if queue]
            if not heads:
                return out
            oldest = min(heads)
            if min(self._last) < oldest and sum(map(len, self._waiting)) <= self._limit:
                return out
            same = [queue.popleft() for queue in self._waiting if queue and queue[0].seq == oldest]
            for other in same[1:]:
                same[0].merge(other)
            out.append(same[0])


class JoinRunner:
    """Runs the meeting point of several branches in front of a stage that names them in `from:`."""

    def __init__(self, name: str, branches: int, inbox: Channel[Packet], outputs: Outputs) -> None:
        self.name = name  # of the stage behind it
        self.inbox = inbox
        self._branches = branches
        self._outputs = outputs
        self._joins: dict[str, Join] = {}
        self._ended: dict[str, int] = {}

    def run(self) -> None:
        """The thread: until the inbox is closed and empty, or the engine aborts."""
        try:
            while True:
                key, item = self.inbox.get()
                branch, stream = key.split("/", 1)
                join = self._joins.get(stream)
                if join is None:
                    join = self._joins[stream] = Join(self._branches)
                done = join.end(int(branch)) if isinstance(item, End) else join.add(int(branch), item)
                for packet in done:
                    self._outputs.send(packet)
                if isinstance(item, End):
                    self._end(stream)
        except Closed:
            pass
        finally:
            self._outputs.close()

    def _end(self, stream: str) -> None:
        self._ended[stream] = self._ended.get(stream, 0) + 1
        if self._ended[stream] == self._branches:
            del self._ended[stream], self._joins[stream]
            self._outputs.end(stream)
