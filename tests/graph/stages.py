"""Stages that the tests name by their file, as the author of a plugin would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from streamkp.graph.stage import MapStage, Sink, Source, StageOptions, StreamContext
from streamkp.packet import Packet
from streamkp.testing import make_packet


class Numbers(Source):
    @classmethod
    def is_live(cls, uri: str) -> bool:
        return False

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        yield from (make_packet(stream.stream, seq) for seq in range(3))


class Scale(MapStage):
    class Options(StageOptions):
        factor: int = 1

    def process(self, packet: Packet) -> Packet:
        packet.width *= self.options.factor
        return packet


class Print(Sink):
    class Options(StageOptions):
        port: int

    @classmethod
    def claims(cls, options: Any) -> Sequence[str]:
        return [f"port {options.port}"]

    def process(self, packet: Packet) -> None:
        print(packet.seq)
