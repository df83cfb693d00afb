"""Stages that can never work, and stages that work for nobody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from streamkp.graph.graph import Graph, ready_made
from streamkp.graph.stage import MapStage
from streamkp.graph.validation import GraphError, validate
from streamkp.packet import Packet


class Undeclared(MapStage):
    def process(self, packet: Packet) -> Packet:
        return packet


class Skeletons(Undeclared):
    needs = ("image",)
    gives = ("keypoints_2d",)


class Hats(Undeclared):
    needs = ("heads",)
    gives = ("hats",)


def chain(*stages: str | type[MapStage]) -> Graph:
    graph = Graph().add("decode")
    for n, use in enumerate(stages):
        graph.add(f"s{n}", use)
    return graph.add("record", path="out.jsonl")


def problems(graph: Graph) -> Sequence[str]:
    with pytest.raises(GraphError) as error:
        graph.validate()
    return str(error.value).splitlines()


def test_lifting_without_keypoints_or_window() -> None:
    graph = Graph().add("decode").add("lift", "lift-3d", model="hdformer-streamkp").add("record", path="o")
    missing = problems(graph)
    assert len(missing) == 2
    assert "stages.lift: needs keypoints 2d, which no stage above it gives; put keypoints-2d above it" in missing[0]
    assert "needs window" in missing[1]


def test_a_lifter_that_hands_on_needs_no_window() -> None:
    graph = Graph().add("decode").add("keypoints", "keypoints-2d")
    graph.add("lift", "lift-3d", model="blazepose-world").add("record", path="o").validate()


@pytest.mark.parametrize("use", ["smooth-one-euro", "window", "keypoints-parts", "smooth-3d"])
def test_stages_that_work_on_what_is_not_there(use: str) -> None:
    assert any("stages.s0: needs keypoints" in line for line in problems(chain(use)))


def test_only_the_branch_counts() -> None:
    graph = Graph().add("decode").add("keypoints", "keypoints-2d").add("smooth", "smooth-one-euro", from_="decode")
    assert "stages.smooth: needs keypoints 2d" in problems(graph.add("record", path="o"))[0]


def test_two_branches_give_what_either_gives() -> None:
    graph = Graph().add("decode").add("a", Skeletons).add("b", "detect-person", from_="decode")
    graph.add("smooth", "smooth-one-euro", from_=["a", "b"]).add("record", path="o").validate()


def test_plugins_declare_too() -> None:
    chain(Skeletons, "smooth-one-euro").validate()
    assert "stages.s0: needs heads, which no stage above it gives" in problems(chain(Hats))[0]


def test_nothing_is_said_below_a_plugin_that_declares_nothing() -> None:
    chain(Undeclared, "smooth-one-euro", Hats).validate()


def test_what_works_for_nobody_is_noted() -> None:
    graph = (
        Graph().add("decode").add("keypoints", "keypoints-2d").add("window").add("record", path="o", from_="keypoints")
    )
    assert graph.validate().notes() == ["stages.window: nobody reads its results, so it is not run"]


@pytest.mark.parametrize("name", ready_made())
def test_ready_made_graphs_have_nothing_odd(name: str, graph_env: dict[str, str]) -> None:
    spec = Graph.from_yaml(name, env=graph_env).only_streams({"a": "0"}).validate()
    assert spec.notes() == []


def test_a_fault_of_a_stage_is_not_told_as_its_absence() -> None:
    with pytest.raises(GraphError) as error:
        validate({"stages": {"decode": {"use": "decode", "rotate": 45}, "record": {"use": "record", "paht": "x"}}})
    assert [problem.where for problem in error.value.problems] == [
        "stages.decode.rotate", "stages.record.path", "stages.record.paht",
    ]  # fmt: skip
