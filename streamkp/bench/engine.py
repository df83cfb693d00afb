"""Cost of the engine itself: packets per second through empty stages, and its share of a real graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage, Sink, Source, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet

STAGES = 6


class Nothing(MapStage):
    """Passes the packet on."""

    def process(self, packet: Packet) -> Packet:
        """Do nothing."""
        return packet


class Blank(Source):
    """Packets without an image, as fast as they can be taken."""

    class Options(StageOptions):
        """`count`: how many."""

        count: int

    options: Options

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """Nothing may be dropped."""
        return False

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """The packets."""
        return blank_packets(stream.stream, self.options.count)


class Forget(Sink):
    """Discards packets."""

    def process(self, packet: Packet) -> None:
        """Do nothing."""


def blank_packets(stream: str, count: int) -> Iterator[Packet]:
    """Packets without an image."""
    now = time.time_ns()
    return (Packet(stream, 0, seq, seq * 33_333_333, now, None, 0, 0) for seq in range(count))


def throughput(count: int) -> tuple[float, float]:
    """Packets per second of a graph of do-nothing stages, and of a bare loop over the same six functions."""
    stages: dict[str, Any] = {"source": {"use": Blank, "count": count}}
    stages |= {f"stage{n}": {"use": Nothing, "queue": {"size": 64}} for n in range(STAGES)}
    stages["sink"] = {"use": Forget, "queue": {"size": 64}}
    engine = Engine(validate({"streams": {"bench": "none"}, "stages": stages}))
    started = time.perf_counter()
    engine.start()
    engine.wait()
    in_graph = count / (time.perf_counter() - started)

    calls: list[Callable[[Packet], Packet]] = [Nothing(StageOptions(), runner.stage.context).process
                                               for runner in engine._runners[:STAGES]]  # fmt: skip
    started = time.perf_counter()
    for packet in blank_packets("bench", count):
        for call in calls:
            packet = call(packet)
    bare = count / (time.perf_counter() - started)
    return in_graph, bare


def engine_share(graph: str, source: str) -> float:
    """The part (0..1) of the process's CPU time that a real graph spends in the engine rather than in its stages."""
    loaded = Graph.from_yaml(graph).only_streams({"bench": source}).without_sinks().add("sink", Forget)
    engine = Engine(loaded.validate(), profile=True)
    engine.start()
    before = time.process_time_ns()
    engine.wait()
    spent = time.process_time_ns() - before
    return sum(total - stage for _, total, stage in engine.cpu_times()) / max(spent, 1)


def run(graph: str, source: str, count: int, advance: Callable[[float], None] = lambda share: None) -> dict[str, float]:
    """All figures: `packets_per_s`, `bare_per_s`, `engine_share`. `advance` is called after each half of the work."""
    in_graph, bare = throughput(count)
    advance(0.5)
    share = engine_share(graph, source)
    advance(0.5)
    return {"packets_per_s": in_graph, "bare_per_s": bare, "engine_share": share}
