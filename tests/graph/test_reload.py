"""A graph file that changes while its graph runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import Field

from streamkp.graph.engine import Engine
from streamkp.graph.reload import reload
from streamkp.graph.spec import GraphSpec, StreamSpec
from streamkp.graph.stage import LIVE, MapStage, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet
from streamkp.testing import Collect, Collected, Scripted, make_packet

WAIT = 20.0
Data = dict[str, Any]


class Gain(MapStage):
    class Options(StageOptions):
        gain: float = Field(1.0, json_schema_extra=LIVE)
        mode: str = "fixed"

    def process(self, packet: Packet) -> Packet:
        return packet


class Endless(dict[str, Any]):
    def __missing__(self, stream: str) -> Any:
        def play(context: StreamContext) -> Iterator[Packet]:
            seq = 0
            while not context.stopping:
                yield make_packet(context.stream, seq)
                seq += 1
                context.wait(0.002)

        return play


def graph(streams: Data, gain: Data | None = None, **more: Any) -> GraphSpec:
    stages = {
        "source": {"use": Scripted, "scripts": SCRIPTS},
        "gain": {"use": Gain, **(gain or {})},
        "collect": {"use": Collect, "into": OUT},
    }
    return validate(
        {"streams": {name: {"uri": f"live:{name}", **o} for name, o in streams.items()}, "stages": stages} | more
    )


SCRIPTS, OUT = Endless(), Collected()


@pytest.fixture
def running() -> Iterator[tuple[Engine, GraphSpec]]:
    first = graph({"a": {}, "b": {"labels": {"site": "x"}}})
    engine = Engine(first)
    with engine:
        yield engine, first


def test_nothing_has_changed(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    outcome = reload(engine, first, graph({"a": {}, "b": {"labels": {"site": "x"}}}))
    assert (outcome.done, outcome.refused) == ([], [])


def test_streams_come_go_and_are_replaced(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    engine.add_stream("mine", StreamSpec(uri="live:mine"))
    after = graph({"b": {"labels": {"site": "y"}}, "c": {"max_fps": 5}})
    outcome = reload(engine, first, after)
    assert (outcome.done, outcome.refused) == (["stream a removed", "stream b: labels", "stream c added"], [])
    assert set(engine.stream_specs()) == {"b", "c", "mine"}  # what was added from outside stays
    assert engine.stats()["streams"]["b"]["labels"] == {"site": "y"}
    outcome = reload(engine, after, graph({"b": {"labels": {"site": "y"}}, "c": {"max_fps": 6}}))
    assert outcome.done == ["stream c replaced"]
    assert engine.stream_specs()["c"].max_fps == 6


def test_a_stream_that_was_removed_from_outside_comes_back(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    engine.remove_stream("a")
    assert reload(engine, first, first).done == ["stream a added"]
    assert set(engine.stream_specs()) == {"a", "b"}


def test_the_last_stream_may_go_without_ending_the_run(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    empty = graph({})
    assert reload(engine, first, empty).done == ["stream a removed", "stream b removed"]
    assert not engine.wait(0.2)
    assert reload(engine, empty, first).done == ["stream a added", "stream b added"]


def test_options(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    streams: Data = {"a": {}, "b": {"labels": {"site": "x"}}}
    engine.change_options("gain", {"gain": 7})
    assert reload(engine, first, graph(streams)).done == []
    assert dict(engine.stage_options()["gain"])["gain"] == 7  # the file has not changed
    outcome = reload(engine, first, graph(streams, {"gain": 3, "mode": "free"}))
    assert outcome.done == ["stages.gain: gain"]
    assert outcome.refused == ["stages.gain.mode cannot be changed while the graph runs; of Gain these can: gain"]
    assert dict(engine.stage_options()["gain"])["gain"] == 3


def test_the_shape_of_the_graph_is_refused(running: tuple[Engine, GraphSpec]) -> None:
    engine, first = running
    streams: Data = {"a": {}, "b": {"labels": {"site": "x"}}}
    stages = {
        "source": {"use": Scripted, "scripts": SCRIPTS},
        "gain": {"use": Gain, "queue": {"size": 5}},
        "other": {"use": Gain},
        "collect": {"use": Collect, "into": OUT},
    }
    outcome = reload(engine, first, graph(streams, stages=stages, control={"port": 1}))
    assert outcome.done == []
    assert outcome.refused == [
        "stages.gain.queue: the shape of a graph is set at the start",
        "stages.other is new: stages are put together at the start",
        "stages.collect.from: the shape of a graph is set at the start",
        "control: the server that listens stays as it is",
    ]
