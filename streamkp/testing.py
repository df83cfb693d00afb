"""For authors of stages: drive a stage, or a whole graph, by hand.

packets = run_stage(MyStage, {"strength": 2}, [make_packet(seq=0), make_packet(seq=1)])

engine, out = build({"mine": {"use": MyStage, "strength": 2}}, {"cam": count_to(10)})
engine.start()
engine.wait()
assert out.seqs("cam") == list(range(10))
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from streamkp.graph.clock import Clock
from streamkp.graph.engine import Engine
from streamkp.graph.stage import BatchStage, MapStage, Sink, Source, Stage, StageContext, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet

__all__ = [
    "FRAME",
    "Collect",
    "Collected",
    "ManualClock",
    "Scripted",
    "build",
    "count_to",
    "make_packet",
    "open_stage",
    "run_stage",
]

FRAME = 1_000_000_000 // 30
"""Nanoseconds between two frames of `make_packet`."""


class ManualClock(Clock):
    """A clock that stands still until `advance` moves it; waits with a time-out end when it has passed them."""

    def __init__(self, start: int = 1_700_000_000_000_000_000) -> None:
        self._now = start
        self._lock = threading.Lock()
        self._waiting: set[threading.Condition] = set()
        self.waits = threading.Semaphore(0)  # released once for each timed wait that begins

    def now(self) -> int:
        """The time set by hand, as Unix nanoseconds."""
        return self._now

    def monotonic(self) -> int:
        """The time set by hand."""
        return self._now

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """Wait until notified, or until `advance` has moved the clock."""
        before = self._now
        with self._lock:
            self._waiting.add(condition)
        self.waits.release()
        try:
            condition.wait()
        finally:
            with self._lock:
                self._waiting.discard(condition)
        return timeout is None or self._now < before + int(timeout * 1e9)

    def advance(self, seconds: float) -> None:
        """Move the clock and wake every timed wait."""
        with self._lock:
            self._now += int(seconds * 1e9)
            waiting = list(self._waiting)
        for condition in waiting:
            with condition:
                condition.notify_all()


def make_packet(stream: str = "cam", seq: int = 0, *, width: int = 64, height: int = 48, **fields: Any) -> Packet:
    """A packet of a grey image at 30 frames a second; every field can be given."""
    values: dict[str, Any] = {
        "stream": stream, "epoch": 0, "seq": seq, "pts": seq * FRAME, "captured_at": seq * FRAME,
        "image": np.full((height, width, 3), 128, np.uint8), "width": width, "height": height,
    }  # fmt: skip
    return Packet(**values | fields)


def open_stage(
    cls: type[Stage], options: Mapping[str, Any] | None = None, *, name: str = "stage", clock: Clock | None = None
) -> Stage:
    """A stage as the engine would make and open it; call its `close` at the end."""
    stage = cls(cls.Options.model_validate(dict(options or {})), StageContext(name, clock))
    stage.open()
    return stage


def run_stage(
    cls: type[Stage], options: Mapping[str, Any] | None, packets: Iterable[Packet], *, clock: Clock | None = None
) -> list[Packet]:
    """Open a stage, pass it the packets one by one, close it, and return what came out."""
    out: list[Packet] = []
    stage = open_stage(cls, options, clock=clock)
    try:
        for packet in packets:
            if isinstance(stage, BatchStage):
                out.extend(stage.process([packet]))
            elif isinstance(stage, MapStage):
                if (result := stage.process(packet)) is not None:
                    out.append(result)
            elif isinstance(stage, Sink):
                stage.process(packet)
    finally:
        stage.close()
    return out


class Scripted(Source):
    """Plays functions: `scripts[stream id](context)` yields the packets of that stream."""

    class Options(StageOptions):
        """`scripts`: by stream id."""

        scripts: Any

    options: Options

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """Streams whose address starts with `live:` drop packets, others wait."""
        return uri.startswith("live:")

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """What the stream's script yields."""
        return iter(self.options.scripts[stream.stream](stream))


class Collect(Sink):
    """Keeps what arrives."""

    class Options(StageOptions):
        """`into`: a `Collected`."""

        into: Any

    options: Options

    def process(self, packet: Packet) -> None:
        """Keep the packet."""
        self.options.into.packets.append(packet)

    def stream_ended(self, stream: str) -> None:
        """Note that the stream is over."""
        self.options.into.ended.append(stream)


class Collected:
    """What came out of a graph: `packets` and `ended` stream ids, in the order of arrival."""

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.ended: list[str] = []

    def seqs(self, stream: str = "cam") -> list[int]:
        """The `seq` of one stream's packets, in the order of arrival."""
        return [p.seq for p in self.packets if p.stream == stream]


def count_to(frames: int) -> Callable[[StreamContext], Iterator[Packet]]:
    """A script of that many packets, `seq` from 0."""
    return lambda context: (make_packet(context.stream, seq) for seq in range(frames))


def build(
    stages: Mapping[str, Any],
    scripts: Mapping[str, Callable[[StreamContext], Iterator[Packet]]],
    *,
    live: bool = False,
    **engine: Any,
) -> tuple[Engine, Collected]:
    """An engine that plays `scripts` through `stages` (as in a graph file, classes allowed) into a `Collected`."""
    out = Collected()
    data = {
        "streams": {name: {"uri": f"{'live' if live else 'test'}:{name}"} for name in scripts},
        "stages": {"source": {"use": Scripted, "scripts": scripts}, **stages, "collect": {"use": Collect, "into": out}},
    }
    return Engine(validate(data), **engine), out
