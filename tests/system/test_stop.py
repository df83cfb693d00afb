"""Stopping the real program, gently and not, at any time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.sources.videos import MakeClip
from tests.system.conftest import Start, lines, wait_for_line

pytestmark = pytest.mark.system

GRAPH = """\
streams:
  cam: {uri: "%s", loop: true, realtime: true}
stages:
  decode: {use: decode}
  slow: {use: slow.py:Slow}
  record: {use: record, path: out.jsonl, overwrite: true}
"""
# A stage that says when it has seen a few frames, and can be told to hang on one.
SLOW = """\
import sys, threading
from streamkp.graph.stage import MapStage, StageOptions

class Slow(MapStage):
    class Options(StageOptions):
        hang: bool = False

    def process(self, packet):
        if packet.seq == 20:
            print("twenty frames", file=sys.stderr, flush=True)
            if self.options.hang:
                threading.Event().wait(30)
        return packet
"""


@pytest.fixture
def running(start: Start, make_clip: MakeClip, tmp_path: Path) -> subprocess.Popen[str]:
    """A graph that never ends by itself and has recorded some frames."""
    (tmp_path / "g.yaml").write_text(GRAPH % make_clip())
    (tmp_path / "slow.py").write_text(SLOW)
    process = start("run", "g.yaml")
    wait_for_line(process, ["twenty frames"])
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals) -> None:
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert "Traceback" not in said
    rows = lines(tmp_path / "out.jsonl")
    assert len(rows) >= 20
    assert [row["seq"] for row in rows] == list(range(len(rows)))


def test_the_grace_runs_out(start: Start, make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(GRAPH % make_clip())
    (tmp_path / "slow.py").write_text(SLOW.replace("wait(30)", "wait(3)"))
    process = start("run", "g.yaml", "--set", "stages.slow.hang=true", "--grace", "0.2")
    wait_for_line(process, ["twenty frames"])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert len(lines(tmp_path / "out.jsonl")) == 20


def test_a_second_signal_stops_at_once(start: Start, make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(GRAPH % make_clip())
    (tmp_path / "slow.py").write_text(SLOW.replace("wait(30)", "wait(3)"))
    process = start("run", "g.yaml", "--set", "stages.slow.hang=true", "--grace", "1000")
    wait_for_line(process, ["twenty frames"])
    process.send_signal(signal.SIGINT)
    wait_for_line(process, ["press Ctrl-C again"])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stage_that_never_returns_is_named_and_left_behind(
    start: Start, make_clip: MakeClip, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    (tmp_path / "g.yaml").write_text(GRAPH % make_clip())
    (tmp_path / "slow.py").write_text(SLOW.replace("wait(30)", "wait()"))
    process = start("run", "g.yaml", "--set", "stages.slow.hang=true", "--grace", "0.2")
    wait_for_line(process, ["twenty frames"])
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "these threads do not end: streamkp-slow" in said
    assert "threading.Event().wait()" in said  # where it is
    assert len(lines(tmp_path / "out.jsonl")) == 20


def test_kill_leaves_whole_lines(running: subprocess.Popen[str], tmp_path: Path) -> None:
    running.kill()
    running.wait(timeout=60)
    rows = lines(tmp_path / "out.jsonl")
    assert len(rows) >= 20
    assert [row["seq"] for row in rows] == list(range(len(rows)))


def test_ctrl_c_during_a_model_pull(start: Start, tmp_path: Path, make_clip: MakeClip) -> None:
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a package index that never answers

        def accept() -> None:
            held = []
            while True:
                try:
                    held.append(silent.accept())
                except OSError:
                    return
                asked.set()

        threading.Thread(target=accept, daemon=True).start()
        home = tmp_path / "models"
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        nowhere = {
            "PIP_INDEX_URL": index,
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
        }
        process = start("run", "demo", "--source", make_clip(), env={"STREAMKP_HOME": str(home), **nowhere})
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)  # returns when pip, too, has let go of its pipes
        silent.shutdown(socket.SHUT_RDWR)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"]
