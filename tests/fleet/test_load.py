"""What a node says of its load."""

from __future__ import annotations

from typing import Any

import pytest

from streamkp.fleet.load import LoadMeter
from streamkp.graph.statistics import Meter, StageFigures


class Engine:
    """The figures of an engine with one stream and one sink."""

    class spec:
        class source:
            name = "source"

    def __init__(self) -> None:
        self.source, self.sink = Meter(), Meter()

    def publish(self, frames: int, seconds: float) -> None:
        self.source.done += frames
        for _ in range(frames):
            self.sink.latency.add(seconds)

    def figures(self) -> list[StageFigures]:
        rows = [StageFigures("source", "a"), StageFigures("sink", "a")]
        rows[0].add(self.source, 0)
        rows[1].add(self.sink, 0)
        return rows


def test_a_burst_of_what_waited_does_not_count_and_lasting_latency_does() -> None:
    engine: Any = Engine()
    meter = LoadMeter()
    for second in range(10):
        engine.publish(2, 0.05)
        load = meter.measure(engine, float(second))
    assert load.p95_ms == pytest.approx(50)
    for second in range(10, 14):
        engine.publish(200, 15.0)  # a broker is back, and gets what waited for it
        assert meter.measure(engine, float(second)).p95_ms == pytest.approx(50)
    for second in range(14, 24):
        engine.publish(2, 0.5)
        load = meter.measure(engine, float(second))
    assert load.p95_ms == pytest.approx(500), "ten seconds later, the old values are forgotten"


def test_where_nothing_is_published_there_is_no_latency() -> None:
    engine: Any = Engine()
    meter = LoadMeter()
    engine.publish(10, 15.0)
    assert meter.measure(engine, 0.0).p95_ms == pytest.approx(15000)
    for second in range(1, 12):
        load = meter.measure(engine, float(second))
    assert load.p95_ms == 0
