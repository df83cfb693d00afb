"""Stages for the tests of nodes."""

from __future__ import annotations

from collections.abc import Iterator

from streamkp.graph.stage import Sink, Source, StreamContext
from streamkp.packet import Packet
from streamkp.testing import make_packet


class Steps(Source):
    """One frame, then nothing until it is stopped; a stream named `short` ends by itself."""

    @classmethod
    def is_live(cls, uri: str) -> bool:
        return True

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        yield make_packet(stream.stream, 0)
        if stream.stream != "short":
            while not stream.wait(3600):
                pass


class Keep(Sink):
    def process(self, packet: Packet) -> None:
        pass
