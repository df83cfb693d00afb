"""The commands that run nothing: what they print, and how they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import streamkp
from streamkp.cli.main import app
from streamkp.errors import UsageError
from streamkp.graph import registry


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\n"
        'streams: {cam: {uri: "rtsp://user:hunter2@10.0.0.5/live"}}\n'
        "stages:\n"
        "  decode:  {use: decode}\n"
        "  detect:  {use: detect-person, every: 10}\n"
        "  points:  {use: keypoints-2d}\n"
        "  publish: {use: publish-websocket, token: hunter2}\n"
        "  record:  {use: record, path: out.jsonl, from: detect}\n"
    )
    return path


def test_the_version_comes_from_one_place() -> None:
    done = invoke("--version")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == streamkp.__version__


def test_a_log_level_that_there_is_not() -> None:
    done = invoke("--log-level", "loud", "stages")
    assert done.exit_code == 2
    assert "loud is not a log level" in done.output


def test_check_counts_what_it_has_checked(graph: Path) -> None:
    done = invoke("graph", "check", graph)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == f"{graph} is a valid graph: 5 stages, 1 stream"


def test_check_says_everything_that_is_wrong(graph: Path) -> None:
    graph.write_text(graph.read_text().replace("every: 10", "evry: 10").replace("from: detect", "from: detct"))
    error = invoke("graph", "check", graph).exception
    assert isinstance(error, UsageError)
    first, second = str(error).splitlines()
    assert first.startswith(f"{graph}:5: stages.detect.evry: ")
    assert first.endswith("did you mean every?")
    assert second.startswith(f"{graph}:8: stages.record.from: ")
    assert second.endswith("did you mean detect?")


def test_show_draws_the_edges_and_hides_what_is_secret(graph: Path) -> None:
    text = invoke("graph", "show", graph)
    assert text.exit_code == 0, text.output
    assert "record (record, sink) <- detect" in text.output
    assert "feedback points -> detect" in text.output
    assert "every=10" in text.output
    assert "hunter2" not in text.output
    mermaid = invoke("graph", "show", graph, "--mermaid").output
    assert mermaid.startswith("flowchart LR\n")
    assert "s_detect --> s_points" in mermaid
    assert "s_points -. feedback .-> s_detect" in mermaid


def test_set_overrides_a_field(graph: Path) -> None:
    assert "every=3" in invoke("graph", "show", graph, "--set", "stages.detect.every=3").output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.detect.every", "write it as path=value"),
        ("stages.dtect.every=3", "has no stage named dtect; it has decode, detect, points, publish, record"),
        ("stages.detect.every=many", "--set: stages.detect.every: "),
        ("stages.detect.every=[", "the value is not valid YAML"),
        ("stages.detect.evry=3", "did you mean every?"),
    ],
)
def test_a_wrong_override_is_named(graph: Path, override: str, message: str) -> None:
    error = invoke("graph", "check", graph, "--set", override).exception
    assert isinstance(error, UsageError)
    assert message in str(error)


def test_a_graph_that_there_is_not() -> None:
    error = invoke("graph", "check", "nowhere.yaml").exception
    assert isinstance(error, UsageError)
    assert "nowhere.yaml does not exist" in str(error)
    assert "demo" in str(error), "the ready-made ones are named"


def test_stages_lists_all_with_their_options() -> None:
    done = invoke("stages")
    assert done.exit_code == 0, done.output
    for name in registry.BUILT_IN:
        assert f"{name} (" in done.output
        options = registry.stage_class(name).Options.model_fields
        shown = invoke("stages", name).output
        assert all((info.alias or field) in shown for field, info in options.items())


def test_a_stage_that_there_is_not() -> None:
    error = invoke("stages", "windw").exception
    assert isinstance(error, UsageError)
    assert "did you mean window?" in str(error)


def test_a_plain_start_imports_neither_torch_nor_networks() -> None:
    heavy = "import sys, streamkp.cli.main; sys.exit(', '.join({'torch', 'openvino'} & set(sys.modules)) or None)"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
