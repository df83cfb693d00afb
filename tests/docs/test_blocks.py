"""Every code block of the documentation is run, or at least read by the program that it is for."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml

from streamkp.cli.main import app
from streamkp.fleet import spec as fleet
from streamkp.graph.graph import Graph
from streamkp.graph.load import VARIABLE
from streamkp.hub import store
from tests.docs.blocks import Block, blocks
from tests.docs.browser import open_page

# `system`: not part of the unit tests. A page is read from top to bottom, in one test.
pytestmark = [pytest.mark.docs, pytest.mark.system, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIMIT = 300.0  # seconds for one block
SERVES = re.compile(r"(?:the page is|health, metrics and statistics are) at (http://\S+)")


class Reader:
    """Somebody who does what a page says, in a folder and a home of their own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self.running: subprocess.Popen[str] | None = None
        self.told = folder.parent / f"{folder.name}.log"

    def do(self, block: Block) -> None:
        """Run, save or check one block."""
        if block.file:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, "utf-8")
        if block.language in ("bash", "sh", "indented-bash", "python") and not (block.needs or block.file):
            if block.language == "indented-bash":
                check(block)
            elif block.in_background:
                self.begin(block)
            else:
                self.run(block)
        elif block.language == "html" and block.file:
            open_page(self.folder / block.file)
        else:
            check(block)

    def run(self, block: Block) -> None:
        if block.language == "python":
            command = [sys.executable, "-c", block.code]
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.code]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=LIMIT, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"{where(block)}: exit code {done.returncode}\n{said}"

    def begin(self, block: Block) -> None:
        """Start it, and wait until every stage of it is open and a stream delivers."""
        self.stop()
        with self.told.open("w") as log:
            self.running = subprocess.Popen(
                ["bash", "-c", f"exec {command(block)}"], cwd=self.folder, env=self.environment, text=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        with self.told.open() as log:
            said = ""
            while not ready(said):
                said += log.read()
                try:
                    self.running.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                pytest.fail(f"{where(block)}: it ended with {self.running.returncode}\n{said + log.read()}")

    def stop(self) -> None:
        """Press Ctrl-C."""
        if self.running is None:
            return
        running, self.running = self.running, None
        running.send_signal(signal.SIGINT)
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            raise
        said = self.told.read_text()
        assert running.returncode == 0, f"exit code {running.returncode} after Ctrl-C\n{said[-3000:]}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    home, folder = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    folder.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMKP_") and k != "PYTEST_CURRENT_TEST"}
    cache = os.environ.get("STREAMKP_TEST_HOME") or os.environ.get("STREAMKP_HOME") or str(store.default().folder)
    environment = kept | {
        "HOME": str(home), "STREAMKP_HOME": cache, "PYTHONUNBUFFERED": "1", "COLUMNS": "100", "CAM_PASSWORD": "secret",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    someone = Reader(folder, environment)
    try:
        yield someone
    finally:
        if someone.running is not None:
            someone.running.kill()
            someone.running.wait()


def ready(said: str) -> bool:
    """Whether the program that has said this delivers."""
    found = SERVES.search(said)
    if found is None:
        return False
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{found[1].rstrip('/')}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # not yet, or 503
        return False


def where(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


def command(block: Block) -> str:
    """The one command of a block, without comments, on one line."""
    lines = [line for line in block.code.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert len(lines) == 1, f"{where(block)}: what runs until Ctrl-C is one command"
    return lines[0]


def check(block: Block) -> None:
    """Whether the block is what its language says, without running it."""
    language, code = block.language, block.code
    if language in ("bash", "sh", "indented-bash"):
        done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{where(block)}: {done.stderr}"
        for line in code.replace("\\\n", " ").splitlines():
            check_command(block, line)
    elif language == "python":
        ast.parse(code, where(block))
    elif language in ("yaml", "yml"):
        check_yaml(block)
    elif language == "json":
        for value in code.split("\n\n"):
            json.loads(value)
    elif language == "toml":
        tomllib.loads(code)
    elif language in ("js", "javascript") and (node := shutil.which("node")):
        done = subprocess.run([node, "--check", "-"], input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{where(block)}: {done.stderr}"


def check_command(block: Block, line: str) -> None:
    """Every `streamkp ...` in a line of shell must have arguments that the program takes."""
    for part in re.split(r"&&|\|\||;|\|", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # a quotation over several lines
            continue
        while words and (words[0] in ("$", "sudo", "nohup", "exec", "time") or re.match(r"\w+=", words[0])):
            del words[0]
        if not words or Path(words[0]).name != "streamkp" or any(word in ("...", "OPTIONS") for word in words):
            continue
        words = [word for word in words[1:] if word not in ("&", ">", "<") and not re.match(r"\d?>", word)]
        problem = parse(typer.main.get_command(app), words)
        assert problem is None, f"{where(block)}: {part.strip()}: {problem}"


def parse(group: object, words: list[str]) -> str | None:
    """Read arguments as the program does, without running the command; what is wrong, or None."""
    at, name, path = group, "streamkp", list(words)
    while hasattr(at, "commands"):
        while path and path[0].startswith("-"):
            del path[: 1 if path[0] in ("--version", "--help") or "=" in path[0] else 2]
        if not path:
            return None
        name = path.pop(0)
        if name not in at.commands:
            return f"there is no command {name}"
        at = at.commands[name]
    if "--help" in path:
        return None
    try:
        at.make_context(name, path)  # type: ignore[attr-defined]
    except Exception as error:
        return f"{type(error).__name__}: {getattr(error, 'message', error)}"
    return None


def check_yaml(block: Block) -> None:
    """A graph must pass `graph check`, a fleet its own; anything else must be YAML."""
    if re.search(r"^group: ", block.code, re.MULTILINE):
        fleet.from_text(block.code, where(block), base=block.page.parent)
        return
    if not re.search(r"^version: 1$|^version: 1\s", block.code, re.MULTILINE) or "stages:" not in block.code:
        yaml.safe_load(block.code)
        return
    env = dict.fromkeys(VARIABLE.findall(block.code), "a-secret-of-enough-letters")
    base = block.page.parent
    graph = Graph.from_text(block.code, where(block), base=base, env=env)
    # Files that the reader is told to write are not there when only the graph is looked at.
    graph.validate(plugins=".py:" not in block.code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of(page: Path, reader: Reader) -> None:
    for block in blocks(page):
        reader.do(block)
    reader.stop()
