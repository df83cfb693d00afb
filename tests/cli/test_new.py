"""`streamkp new plugin`: what it makes works as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamkp.cli import main as cli
from streamkp.errors import UsageError
from streamkp.graph.graph import Graph
from tests.docs.blocks import blocks

ROOT = Path(__file__).resolve().parent.parent.parent


def _make(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["streamkp", "new", "plugin", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return end.code
    return 0


def _pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_what_is_made_passes_its_own_test_and_makes_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _make(monkeypatch, "jump-height") == 0
    folder = tmp_path / "jump-height"
    done = _pytest(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    graph = Graph.from_yaml(folder / "graph.yaml")
    assert [stage.name for stage in graph.validate().stages][-2:] == ["jump-height", "publish"]
    assert 'jump-height = "jump_height.stage:JumpHeight"' in (folder / "pyproject.toml").read_text()
    assert "$" not in "".join(
        path.read_text() for path in folder.rglob("*.*") if path.suffix in (".py", ".toml", ".md")
    )


def test_the_stage_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _make(monkeypatch, "step-counter") == 0
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if block.file:
            (tmp_path / block.file).write_text(block.code)
    done = _pytest(tmp_path / "step-counter")
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    with pytest.raises(UsageError, match="hold"):  # the option of the stage that was there before
        Graph.from_yaml(tmp_path / "step-counter" / "graph.yaml").validate()


@pytest.mark.parametrize(
    "name",
    ["Jump", "-a", "a--b", "jump_height", "a/b", "rep-counter", "decode", "", "streamkp", "json", "class", "numpy"],
)
def test_names_that_cannot_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _make(monkeypatch, "--", name) == 2
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jump").mkdir()
    (tmp_path / "jump" / "mine.txt").write_text("mine")
    assert _make(monkeypatch, "jump") == 5
    assert [path.name for path in (tmp_path / "jump").iterdir()] == ["mine.txt"]
