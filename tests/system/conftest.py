"""The real program in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamkp.bench.servers import Mosquitto, require_mosquitto, require_rtsp_server
from streamkp.errors import UsageError
from tests.sources.videos import MakeClip, write_clip

LIMIT = 240.0  # seconds until a hung program fails its test

# A graph that needs no model, for what has to do with sources and sinks only.
PLAIN = """\
version: 1
stages:
  decode: {use: decode}
  record: {use: record, path: "%s"}
"""


@dataclass
class Done:
    """What a program said and left."""

    code: int
    out: str
    err: str

    def complaint(self) -> str:
        """The one message of a program that refused to go on."""
        assert "Traceback" not in self.err, self.err
        assert self.err.count("streamkp: ") == 1, self.err
        return self.err[self.err.index("streamkp: ") :].strip()


Streamkp = Callable[..., Done]
Start = Callable[..., "subprocess.Popen[str]"]


def _needs(require: Callable[[], object]) -> None:
    """Skip where a program is not installed; CI must have it."""
    try:
        require()
    except UsageError as error:
        pytest.fail(str(error)) if os.environ.get("CI") == "true" else pytest.skip(str(error))


@pytest.fixture(scope="session")
def rtsp() -> None:
    """The test needs the RTSP server."""
    _needs(require_rtsp_server)


@pytest.fixture(scope="session")
def broker_program() -> None:
    """The test needs mosquitto."""
    _needs(require_mosquitto)


@pytest.fixture
def mosquitto(broker_program: None, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker of the test's own."""
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture(scope="session")
def program_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a new user: an empty home; models are fetched once for all tests."""
    home = tmp_path_factory.mktemp("home")
    cache = os.environ.get("STREAMKP_TEST_HOME") or str(tmp_path_factory.mktemp("cache"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STREAMKP_")}
    return kept | {"HOME": str(home), "STREAMKP_HOME": cache, "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def streamkp(program_env: dict[str, str], tmp_path: Path) -> Streamkp:
    """Run `streamkp ARGUMENTS` to its end."""

    def run(*arguments: object, env: dict[str, str] | None = None, **more: Any) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "streamkp", *map(str, arguments)],
            env=program_env | (env or {}), cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False,
            **more,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(program_env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start `streamkp ARGUMENTS`; whatever still runs at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamkp", *map(str, arguments)],
            env=program_env | (env or {}), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """`write_clip` to a name in the test's folder."""
    return lambda name="clip.mp4", **options: write_clip(tmp_path / name, **options)


@pytest.fixture
def record(streamkp: Streamkp, tmp_path: Path) -> Callable[..., tuple[Done, list[dict[str, Any]]]]:
    """Record sources with the plain graph: what the program said, and the lines it left."""

    def run(*sources: object, out: Path | None = None, **more: Any) -> tuple[Done, list[dict[str, Any]]]:
        out = out or tmp_path / "out.jsonl"
        graph = tmp_path / "plain.yaml"
        graph.write_text(PLAIN % out)
        done = streamkp("run", graph, *(word for source in sources for word in ("--source", source)), **more)
        return done, lines(out)

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a recording; each must be whole."""
    if not path.is_file():
        return []
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def wait_for_line(process: subprocess.Popen[str], words: Sequence[str]) -> str:
    """Read what the program says until a line holds all the words."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if all(word in line for word in words):
            return line
    raise AssertionError(f"the program ended without saying {words}: {''.join(said)}")
