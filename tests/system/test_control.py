"""A real run that is changed while it goes on: over HTTP, with `ctl`, and with SIGHUP."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkp.bench.servers import RtspServer
from streamkp.cli.main import app
from streamkp.control.client import Client
from tests.sources.videos import MakeClip
from tests.system.conftest import Start, lines, wait_for_line

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP"),
]

GRAPH = """\
control: {port: 0, token: "${CTL_TOKEN}"}
streams:
  cam: {uri: clip.mp4, loop: true, realtime: true}
stages:
  decode: {use: decode}
  count: {use: count.py:Count, say: %s}
  record: {use: record, path: out.jsonl, overwrite: true}
"""
# Says which stream a frame is of when the stream or the option has changed.
COUNT = """\
import sys
from pydantic import Field
from streamkp.plugin import LIVE, MapStage, StageOptions

class Count(MapStage):
    class Options(StageOptions):
        say: str = Field("nothing", json_schema_extra=LIVE)
        fixed: int = 1

    def open(self):
        self.last = {}

    def process(self, packet):
        now = self.options.say, packet.epoch
        if self.last.get(packet.stream) != now:
            self.last[packet.stream] = now
            print(f"frame of {packet.stream}: {self.options.say}", file=sys.stderr, flush=True)
        return packet
"""
LOGGED = (
    """print(f"frame of {packet.stream}: {self.options.say}", file=sys.stderr, flush=True)""",
    """self.context.log.warning("frame of %s", packet.stream, extra={"stream": packet.stream, "seq": packet.seq})""",
)
TOKEN = "0123456789abcdef"


def test_a_run_is_changed_while_it_goes_on(
    start: Start, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip()
    (tmp_path / "g.yaml").write_text(GRAPH % "first")
    (tmp_path / "count.py").write_text(COUNT)
    process = start("--log-level", "info", "run", "g.yaml", env={"CTL_TOKEN": TOKEN})
    url = wait_for_line(process, ["health, metrics"]).split()[-1]
    monkeypatch.setenv("STREAMKP_URL", url)
    monkeypatch.setenv("STREAMKP_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "80")
    wait_for_line(process, ["frame of cam: first"])

    def ctl(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["ctl", *arguments])
        return done.exit_code, done.output if done.exception is None else str(done.exception)

    assert ctl("add", "door", "clip.mp4", "-o", "loop=true", "-o", "realtime=true", "-l", "site=gym")[0] == 0
    wait_for_line(process, ["frame of door: first"])
    code, shown = ctl("status")
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["STREAM", "STATE"],
        ["cam", "live"],
        ["door", "live"],
    ]
    assert ctl("add", "door", "clip.mp4")[1] == "there is a stream named door already, or one that is still ending"

    assert ctl("set", "count.say=second")[0] == 0
    wait_for_line(process, ["frame of cam: second"])
    assert "stages.count.fixed cannot be changed while the graph runs" in ctl("set", "count.fixed=2")[1]

    assert ctl("pause", "cam") == (0, "paused cam\n")
    assert ctl("restart", "cam")[0] == 0  # also ends the pause
    wait_for_line(process, ["frame of cam: second"])
    assert ctl("remove", "door") == (0, "removed door\n")
    assert ctl("remove", "door")[1] == "there is no stream named door"
    assert "needs its token" in ctl("status", "--token", "wrong")[1]
    assert json.loads(ctl("top", "--once", "--json")[1])["streams"].keys() >= {"cam"}

    # SIGHUP: a wrong file changes nothing; a right one what can be changed
    (tmp_path / "g.yaml").write_text("stages: [")
    process.send_signal(signal.SIGHUP)
    wait_for_line(process, ["is not reloaded", "goes on as before"])
    text = GRAPH % "third, fixed: 2"
    (tmp_path / "g.yaml").write_text(text.replace("stages:", "  late: {uri: clip.mp4, realtime: true}\nstages:"))
    process.send_signal(signal.SIGHUP)
    wait_for_line(process, ["stages.count.fixed cannot be changed while the graph runs"])
    wait_for_line(process, ["frame of late: third"])

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    rows = lines(tmp_path / "out.jsonl")
    seqs = [row["seq"] for row in rows if row["stream"] == "cam"]
    assert seqs == list(range(len(seqs)))  # nothing was lost, also not over the pause and the reload
    assert {row["stream"] for row in rows} == {"cam", "door", "late"}


def test_a_run_without_streams_waits_for_some(start: Start, make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip()
    (tmp_path / "g.yaml").write_text(
        (GRAPH % "first").replace("  cam: {uri: clip.mp4, loop: true, realtime: true}\n", "")
    )
    (tmp_path / "count.py").write_text(COUNT)
    process = start("run", "g.yaml", "--keep-alive", env={"CTL_TOKEN": TOKEN})
    url = wait_for_line(process, ["health, metrics"]).split()[-1]
    environment = {"STREAMKP_URL": url, "STREAMKP_TOKEN": TOKEN}
    added = CliRunner().invoke(app, ["ctl", "add", "cam", "clip.mp4"], env=os.environ | environment)
    assert added.exit_code == 0
    wait_for_line(process, ["frame of cam: first"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert [row["stream"] for row in lines(tmp_path / "out.jsonl")][:1] == ["cam"]


def test_everything_that_is_said_is_json(start: Start, make_clip: MakeClip, tmp_path: Path) -> None:
    make_clip()
    (tmp_path / "g.yaml").write_text(GRAPH % "first")
    (tmp_path / "count.py").write_text(
        COUNT.replace("print(", "self.context.log.warning(").split(", file=")[0]
        + ", extra={'stream': packet.stream, 'seq': packet.seq})\n        return packet\n"
    )
    process = start("--log-format", "json", "run", "g.yaml", env={"CTL_TOKEN": TOKEN})
    wait_for_line(process, ["frame of cam", '"stage": "count"', '"seq": 0'])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    found = [json.loads(line) for line in said.splitlines()]
    assert found[-1]["message"].startswith("cam: ")
    assert {row["logger"] for row in found} <= {"streamkp.run", "streamkp.count"}


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts connections as Linux lists them")
def test_a_camera_is_paused_and_comes_back(rtsp: None, start: Start, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(size=(320, 240), keyframes_every=10)
    (tmp_path / "count.py").write_text(COUNT)
    graph = GRAPH.replace("{uri: clip.mp4, loop: true, realtime: true}", '{uri: "%s", transport: tcp}')
    camera = RtspServer(clip)
    with ExitStack() as cleanup:
        cleanup.callback(camera.kill)
        (tmp_path / "g.yaml").write_text(graph % (camera.uri, "first"))
        process = start("run", "g.yaml", env={"CTL_TOKEN": TOKEN})
        client = Client(wait_for_line(process, ["health, metrics"]).split()[-1], TOKEN)

        def state() -> str:
            found: str = client.api("GET", "streams", "cam")["status"]["state"]
            return found

        wait_for_line(process, ["frame of cam: first"])
        assert connections(camera.port) == 1
        client.api("POST", "streams", "cam", "pause")
        while state() != "paused":  # the API answers when it has passed the order on
            assert process.poll() is None
        assert connections(camera.port) == 0
        client.api("POST", "streams", "cam", "resume")
        wait_for_line(process, ["frame of cam: first"])
        assert state() == "live"
        assert connections(camera.port) == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    rows = lines(tmp_path / "out.jsonl")
    assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows)
    assert {row["epoch"] for row in rows} == {0, 1}
    seqs = [row["seq"] for row in rows]
    assert seqs == sorted(set(seqs))


def connections(port: int) -> int:
    """How many TCP connections there are to a port of this machine (Linux)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[2].rpartition(":")[2], 16) == port and row[3] == "01" for row in rows)
