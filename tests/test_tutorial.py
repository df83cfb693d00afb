"""What the tutorial tells people to type works, and so does what `streamkp new plugin` makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamkp.cli import main as cli

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)
FILE = re.compile(r"# (\S+\.py)\n")


def _shell(text: str, folder: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run lines of a shell with this Python and this streamkp first in the path."""
    bin_ = folder / ".bin"
    if not bin_.exists():
        bin_.mkdir()
        for name, line in (("python", ""), ("streamkp", " -m streamkp")):
            program = bin_ / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{line} "$@"\n')
            program.chmod(0o755)
    env = dict(os.environ if env is None else env)
    env["PATH"] = f"{bin_}{os.pathsep}{os.environ['PATH']}"
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    where = (folder / ".where").read_text() if (folder / ".where").exists() else str(folder)
    script = f'set -e\ncd "{where}"\n{text}\npwd > "{folder}/.where.new"\n'
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=200, check=False)
    if (folder / ".where.new").exists():
        (folder / ".where").write_text((folder / ".where.new").read_text().strip())
    return done


def follow(folder: Path, *, models: bool, env: dict[str, str] | None = None) -> list[str]:
    """Do what the tutorial says, in that folder; returns what the commands printed, one text each."""
    said: list[str] = []
    for block in BLOCK.finditer((ROOT / "docs" / "tutorial.md").read_text()):
        mark, kind, text = block["mark"] or "", block["kind"], block["text"]
        if mark.startswith("by hand") or (mark == "with models" and not models):
            continue
        if kind == "python":
            name = FILE.match(text)
            assert name is not None, text
            (folder / "step-counter" / name[1]).write_text(text)
            continue
        assert kind == "sh", kind
        done = _shell(text, folder, env)
        assert (done.returncode != 0) is (mark == "fails"), done.stdout + done.stderr
        said.append(done.stdout + done.stderr)
    return said


def test_the_tutorial(tmp_path: Path) -> None:
    made, tested, wrong, right = follow(tmp_path, models=False)
    assert "3 passed" in made
    assert "1 passed" in tested
    assert "hold" in wrong
    assert "graph.yaml" in wrong
    assert "valid graph" in right


@pytest.mark.parametrize("name", ["Jump", "-a", "a--b", "jump_height", "a/b", "rep-counter", "decode", ""])
def test_names_that_cannot_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["streamkp", "new", "plugin", "--", name])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jump").mkdir()
    (tmp_path / "jump" / "mine.txt").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["streamkp", "new", "plugin", "jump"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 5
    assert [path.name for path in (tmp_path / "jump").iterdir()] == ["mine.txt"]
