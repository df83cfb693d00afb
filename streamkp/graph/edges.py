"""How the packets of one stage reach the next ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamkp.graph.chain import Chain
from streamkp.graph.channel import Channel
from streamkp.packet import Packet


@dataclass(frozen=True, slots=True)
class Edge:
    """Where a stage sends its packets; `branch` tells the inputs of a joined stage apart."""

    to: Channel[Packet] | Chain
    branch: int | None = None

    def key(self, stream: str) -> str:
        """The lane of a stream on this edge."""
        return stream if self.branch is None else f"{self.branch}/{stream}"


class Outputs:
    """All edges that leave one stage."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        # Other threads get theirs first: what shares this thread is done when `put` returns.
        self.edges = tuple(sorted(edges, key=lambda edge: isinstance(edge.to, Chain)))

    def send(self, packet: Packet) -> None:
        """Pass a packet on; further branches get forks, made before any branch can change the original."""
        packets = [packet, *(packet.fork() for _ in self.edges[1:])]
        for edge, each in zip(self.edges, packets, strict=False):
            edge.to.put(edge.key(packet.stream), each)

    def end(self, stream: str) -> None:
        """Pass on that a stream has ended."""
        for edge in self.edges:
            edge.to.end(edge.key(stream))

    def close(self) -> None:
        """Nothing more will come."""
        for edge in self.edges:
            edge.to.close()
