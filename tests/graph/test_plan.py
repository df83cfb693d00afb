"""A graph as a plan: what it says of channels and feedback, and that another process can execute it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph, ready_made
from streamkp.graph.plan import ChannelPlan, FeedbackPlan, Plan
from streamkp.graph.validation import validate

STAGES = Path(__file__).with_name("stages.py")
BRANCHES = """\
streams: {a: a, b: b}
stages:
  numbers:  {use: "stages.py:Numbers"}
  detect:   {use: detect-person}
  plain:    {use: "stages.py:Scale", from: numbers, queue: {size: 5}}
  scaled:   {use: "stages.py:Scale", factor: 3, from: [detect, plain], queue: {full: latest}}
  points:   {use: keypoints-2d}
  print:    {use: "stages.py:Print", port: 1}
"""


def test_the_channels_and_feedback_edges_of_a_graph() -> None:
    plan = Plan.of(Graph.from_text(BRANCHES, base=STAGES.parent).validate())
    assert plan.channels == (
        ChannelPlan("detect", ("numbers",), 2, "block", "drop-oldest"),
        ChannelPlan("plain", ("numbers",), 5, "block", "drop-oldest"),
        ChannelPlan("scaled", ("detect", "plain"), 2, "latest", "latest"),
        ChannelPlan("points", ("scaled",), 2, "block", "block"),
        ChannelPlan("print", ("points",), 8, "block", "drop-oldest"),
    )
    assert plan.feedback == (FeedbackPlan("points", "detect", ("detect", "scaled", "points"), 3),)


@pytest.mark.parametrize("name", sorted(ready_made()))
def test_the_plan_of_every_ready_made_graph_can_be_pickled(name: str, graph_env: dict[str, str]) -> None:
    plan = Plan.of(Graph.from_yaml(name, env=graph_env).validate())
    assert pickle.loads(pickle.dumps(plan)) == plan


RUN = """\
import json, pickle, sys
from streamkp.graph.engine import ThreadEngine
with ThreadEngine(pickle.load(sys.stdin.buffer)) as engine:
    engine.wait()
print(json.dumps({row.stream: row.done for row in engine.figures() if row.stage == "print"}))
"""


def test_another_process_executes_a_plan_with_plugins_of_a_file() -> None:
    graph = Graph.from_text(
        "streams: {a: a, b: b}\n"
        'stages: {numbers: {use: "stages.py:Numbers"}, scale: {use: "stages.py:Scale", factor: 3},'
        ' print: {use: "stages.py:Print", port: 1}}',
        base=STAGES.parent,
    )
    plan = pickle.dumps(Plan.of(graph.validate()))
    done = subprocess.run([sys.executable, "-c", RUN], input=plan, capture_output=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"a": 3, "b": 3}


def test_an_engine_takes_a_plan_or_a_graph() -> None:
    spec = Graph.from_text(BRANCHES, base=STAGES.parent).validate()
    assert ThreadEngine(spec).plan == ThreadEngine(Plan.of(spec)).plan


def test_what_nobody_reads_is_not_run(tmp_path: Path) -> None:
    stages = {
        "decode": {"use": "decode"},
        "keypoints": {"use": "keypoints-2d"},
        "window": {"use": "window"},
        "lift": {"use": "lift-3d"},
        "record": {"use": "record", "path": str(tmp_path / "out.jsonl"), "from": "keypoints"},
    }
    graph = validate({"stages": stages})
    assert [stage.name for stage in Plan.of(graph).graph.stages] == ["decode", "keypoints", "record"]
    assert [note.partition(":")[0] for note in graph.notes()] == ["stages.lift", "stages.window"]
