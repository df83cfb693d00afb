"""A node with a real engine, and a supervisor played by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamkp.fleet.messages import Assignment, Grant, NodeState
from streamkp.fleet.node import Node

PLUGIN = Path(__file__).parents[1] / "fleet" / "steps.py"
GRAPH = f"""\
control: off
stages:
  source: {{use: "{PLUGIN}:Steps"}}
  sink: {{use: "{PLUGIN}:Keep"}}
"""


class Played:
    """Hands the node what a supervisor would, at times of a clock that stands still."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.revision = 0
        self.wake = threading.Condition()

    def assign(self, streams: dict[str, int], **definitions: object) -> None:
        self.revision += 1
        known = {name: {"uri": f"test:{name}"} for name in streams}
        self.node.assign(
            Assignment.model_validate(
                {
                    "node": self.node.id,
                    "term": 1,
                    "revision": self.revision,
                    "streams": streams,
                    "definitions": known | definitions,
                }
            )
        )

    def renew(self) -> None:
        beat = self.node.beat()
        self.node.granted(
            Grant(
                node=self.node.id, number=beat.number, term=1, revision=self.revision, version=beat.version, lease_s=4.0
            )
        )

    def urgent(self) -> None:
        with self.wake:
            self.wake.notify_all()

    def until(self, true: Callable[[NodeState], bool]) -> NodeState:
        """The node's state, once that is true of it."""
        state = self.node.state(again=True)
        with self.wake:
            for _ in range(2000):
                assert state is not None
                if true(state):
                    return state
                self.wake.wait(0.01)
                state = self.node.state(again=True)
        raise AssertionError(state)


@pytest.fixture
def time() -> list[float]:
    return [100.0]


@pytest.fixture
def played(time: list[float]) -> Iterator[Played]:
    calls: list[Callable[[], None]] = []
    node = Node("n", env={"PASSWORD": "p"}, now=lambda: time[0], urgent=lambda: calls[0]())
    made = Played(node)
    calls.append(made.urgent)
    node.start()
    node.graph({"text": GRAPH, "origin": "test", "base": "."})
    made.assign({})
    made.renew()
    yield made
    node.close()


def test_streams_start_at_their_epoch_and_stop_when_taken_away(played: Played) -> None:
    played.assign({"a": 3, "b": 0})
    played.renew()
    state = played.until(lambda s: {r.status for r in s.streams.values()} == {"live"} and len(s.streams) == 2)
    assert {name: running.epoch for name, running in state.streams.items()} == {"a": 3, "b": 0}
    played.assign({"b": 0})
    state = played.until(lambda s: set(s.streams) == {"b"})
    assert state.revision == played.revision


def test_a_lease_that_runs_out_stops_everything_and_the_next_one_begins_a_new_epoch(
    played: Played, time: list[float]
) -> None:
    played.assign({"a": 3})
    played.renew()
    played.until(lambda s: [r.status for r in s.streams.values()] == ["live"])
    time[0] += 4.1
    assert not played.node.lets_out("a")
    played.node.unsupervised(1)  # wakes the node
    played.until(lambda s: s.streams == {})
    played.renew()
    state = played.until(lambda s: set(s.streams) == {"a"})
    assert state.streams["a"].epoch == 4
    played.renew()  # now the supervisor knows of epoch 4
    played.until(lambda s: s.streams["a"].status == "live")


def test_what_cannot_be_started_is_told(played: Played) -> None:
    played.assign({"a": 0, "b": 0}, a={"uri": "rtsp://me:${OTHER}@host/"}, b={"nonsense": 1})
    played.renew()
    state = played.until(lambda s: len(s.streams) == 2)
    assert state.streams["a"].status == "failed"
    assert state.streams["a"].reason == "the environment variable OTHER is not set on this node"
    assert state.streams["b"].status == "failed"
    played.assign({})
    played.until(lambda s: s.streams == {})


def test_a_graph_that_does_not_open_is_told_and_another_is_taken(played: Played) -> None:
    played.node.graph({"text": "stages: {x: {use: nothing}}", "origin": "wrong.yaml", "base": "."})
    state = played.until(lambda s: s.problem is not None)
    assert "wrong.yaml cannot be run here" in str(state.problem)
    played.node.graph({"text": GRAPH, "origin": "right", "base": "."})
    played.until(lambda s: s.problem is None)


def test_a_file_that_ends_says_so_and_a_node_that_leaves_does_not(played: Played) -> None:
    played.assign({"short": 0, "a": 0})
    played.renew()
    played.until(lambda s: {n: r.status for n, r in s.streams.items()} == {"short": "ended", "a": "live"})
    played.node.leave()
    assert played.node.wait(30)
    state = played.node.state(again=True)
    assert state is not None
    assert state.leaving
    assert state.streams == {}
