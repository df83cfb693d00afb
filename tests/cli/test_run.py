"""The program's entry point: exit codes, runs without networks, and the names that sources get."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import streamkp
from streamkp.cli import main as cli
from streamkp.cli.run import _stream_names
from streamkp.errors import ModelError, OutputError, SourceError, StreamkpError, UsageError
from streamkp.sources import replay
from tests.sources.videos import write_clip

Program = Callable[..., tuple[int, str, str]]

GRAPH = """\
version: 1
streams:
  door: {uri: "rtsp://viewer:hunter2@10.0.0.5/live"}
stages:
  decode: {use: decode}
  out: {use: record, path: out.jsonl}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "door.yaml").write_text(GRAPH)
    return tmp_path


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Program]:
    """`main` with these arguments: exit code, output, complaint."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def start(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamkp", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capfd.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, captured.out, captured.err

    yield start
    for number, handler in handlers.items():
        signal.signal(number, handler)


class TestExitCodes:
    def test_version_needs_no_command(self, program: Program) -> None:
        assert program("--version") == (0, f"{streamkp.__version__}\n", "")

    def test_help_names_them(self, program: Program) -> None:
        code, out, _ = program("--help")
        assert code == 0
        assert "Exit codes" in out

    @pytest.mark.parametrize("arguments", [["nope"], ["graph", "check"], ["run", "--grace", "soon"], []])
    def test_what_cannot_be_parsed(self, program: Program, arguments: list[str]) -> None:
        code, out, err = program(*arguments)
        assert code == 2
        assert "Usage:" in out + err

    @pytest.mark.parametrize(
        ("kind", "code"),
        [(StreamkpError, 1), (UsageError, 2), (SourceError, 3), (ModelError, 4), (OutputError, 5)],
    )
    def test_every_kind_of_error_has_its_own(
        self, program: Program, monkeypatch: pytest.MonkeyPatch, kind: type[StreamkpError], code: int
    ) -> None:
        def fail() -> None:
            raise kind("[bold]wrong[/bold] in this and that way, " + 20 * "at length, ")

        monkeypatch.setattr(cli, "app", fail)
        got, out, err = program()
        assert (got, out) == (code, "")
        assert "streamkp: [bold]wrong[/bold]" in err, "the text must not be read as markup"
        assert len(err.splitlines()) == 1

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signals(
        self, program: Program, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
    ) -> None:
        monkeypatch.setattr(cli, "app", lambda: signal.raise_signal(number))
        assert program() == (code, "", "streamkp: interrupted\n")


class TestRun:
    def test_a_file(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=5)
        code, out, err = program("run", "door.yaml", "-s", "clip.mp4", "--record", "also.jsonl")
        assert (code, out) == (0, "")
        assert "clip: 5 frames, 0 dropped, ended" in err
        assert len((folder / "out.jsonl").read_text().splitlines()) == 5
        assert len((folder / "also.jsonl").read_text().splitlines()) == 5

    def test_several_recordings(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=3)
        records = ("--record", "a.jsonl", "--record", "b.mcap", "--record", "c.jsonl")
        code, _, err = program("run", "door.yaml", "-q", "-s", "clip.mp4", *records)
        assert (code, err) == (0, "")
        for name in ("out.jsonl", "a.jsonl", "b.mcap", "c.jsonl"):
            assert len(list(replay.packets(replay.Recording(folder / name)))) == 3

    @pytest.mark.parametrize(
        ("path", "better"),
        [("a.csv", "--add-sink 'record-csv{path: FILE}'"), ("a.BVH", "record-bvh"), ("a.mp4", "for a video, --render")],
    )
    def test_a_recording_of_another_kind(self, program: Program, folder: Path, path: str, better: str) -> None:
        code, _, err = program("run", "door.yaml", "-q", "-s", "clip.mp4", "--record", path)
        assert code == 2
        assert err.startswith(f"streamkp: --record: stages.record: {path}: a recording is JSON Lines")
        assert better in err
        assert not (folder / path).exists()

    def test_a_wrong_path_leaves_the_way_free(self, program: Program, folder: Path) -> None:
        run = ("run", "door.yaml", "-q", "--record", "a.jsonl", "--record", "a.mcap")
        assert program(*run, "-s", "nothing.mp4")[0] == 3
        assert not list(folder.glob("*.jsonl")) + list(folder.glob("*.mcap"))
        write_clip(folder / "clip.mp4", frames=3)
        assert program(*run, "-s", "clip.mp4")[0] == 0

    def test_a_recording_as_a_video(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=3)
        assert program("run", "door.yaml", "-q", "-s", "clip.mp4", "--record", "a.mcap")[0] == 0
        for name in ("out.jsonl", "a.mcap"):
            code, _, err = program(
                "run", "door.yaml", "-q", "--overwrite", "-s", name, "--set", f"stages.out.path=new{name}"
            )
            assert code == 3
            assert f"{name} is a recording, not a video: play it with --source replay://{name}" in err

    def test_a_wrong_graph(self, program: Program, folder: Path) -> None:
        (folder / "bad.yaml").write_text(GRAPH.replace("path", "paht").replace("use: decode", "use: decoed"))
        code, _, err = program("run", "bad.yaml")
        assert code == 2
        assert "bad.yaml:5: stages.decode.use: there is no stage named decoed; did you mean decode?" in err
        assert "bad.yaml:6: stages.out.paht: unknown option; did you mean path?" in err
        assert "Traceback" not in err

    def test_a_graph_without_streams(self, program: Program, folder: Path) -> None:
        (folder / "none.yaml").write_text(GRAPH.replace("door:", "#"))
        code, _, err = program("run", "none.yaml")
        assert code == 2
        assert "none.yaml names no streams: give one with --source" in err

    def test_all_failed_sources_are_named(self, program: Program) -> None:
        code, _, err = program("run", "door.yaml", "-q", "-s", "nothing.mp4", "-s", "nowhere.mp4")
        assert code == 3
        assert "there is no file nothing.mp4" in err
        assert "there is no file nowhere.mp4" in err

    @pytest.mark.parametrize("host", ["[10.0.0.5", "cam\u2100"])
    def test_an_address_that_is_none(self, program: Program, host: str) -> None:
        code, _, err = program("run", "door.yaml", "-q", "--source", f"rtsp://viewer:hunter2@{host}/live")
        assert code == 2
        assert "has a malformed host or port" in err
        assert "Traceback" not in err
        assert "hunter2" not in err

    def test_an_output_that_cannot_be_opened(self, program: Program) -> None:
        code, _, err = program("run", "door.yaml", "-q", "-s", "clip.mp4", "--record", "no/such/folder.jsonl")
        assert code == 2
        assert "there is no folder no/such" in err

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_an_output_that_cannot_be_written(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=2)
        code, _, err = program("run", "door.yaml", "-q", "-s", "clip.mp4", "--record", "/dev/full")
        assert code == 5
        assert "/dev/full: No space left on device" in err


class TestStreamNames:
    @pytest.mark.parametrize(
        ("uri", "name"),
        [
            ("clips/walking home.mp4", "walking-home"),
            ("0", "webcam0"),
            ("/dev/video1", "video1"),
            ("sample:walk", "walk"),
            ("rtsp://10.0.0.5:554/live", "10.0.0.5"),
            ("rtsp://[fe80::1]/live", "fe80-1"),
            ("rtsp://[fe80::1/live", "stream"),
            ("file:///clips/a.mp4", "stream"),
            ("...", "stream"),
            ("x" * 200 + ".mp4", "x" * 48),
        ],
    )
    def test_are_short(self, uri: str, name: str) -> None:
        assert _stream_names([uri]) == {name: uri}

    def test_duplicates_are_numbered(self) -> None:
        uris = ["a/clip.mp4", "b/clip.mp4", "clip-2.mp4", "a/clip.mp4"]
        assert _stream_names(uris) == dict(zip(["clip", "clip-2", "clip-2-2", "clip-3"], uris, strict=True))

    @pytest.mark.parametrize(
        ("uri", "name"),
        [
            ("rtsp://viewer:hunter2@10.0.0.5/live", "10.0.0.5"),
            ("rtsp://viewer:hun@ter2/x@10.0.0.5/live", "10.0.0.5"),
            ("rtsp://viewer:hunter2/x@10.0.0.5/live", "10.0.0.5"),
            ("rtsp://viewer:hunter2#x@10.0.0.5/live", "10.0.0.5"),
            ("https://cam.local/list.m3u8?token=hunter2", "cam.local"),
            ("rtsp://viewer:hunter2@/live", "stream"),
        ],
    )
    def test_hold_no_credential(self, uri: str, name: str) -> None:
        assert list(_stream_names([uri])) == [name]

    def test_every_run_says_where_its_health_is(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=2)
        code, _, err = program("run", "door.yaml", "-s", "clip.mp4", "--control", "0")
        assert code == 0
        assert "health, metrics and statistics are at http://127.0.0.1:" in err
        (folder / "out.jsonl").unlink()
        code, _, err = program("run", "door.yaml", "-s", "clip.mp4", "--control", "off")
        assert code == 0
        assert "health" not in err


class TestOutputs:
    def test_an_existing_file_is_replaced_only_when_told_to(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=5)
        run = ("run", "door.yaml", "-s", "clip.mp4", "--record", "also.jsonl", "--control", "off")
        for name in ("out.jsonl", "also.jsonl"):  # of the graph file, of the command line
            (folder / name).write_text("mine")
            code, _, err = program(*run)
            assert code == 2
            assert f"{name} exists" in err
            assert (folder / name).read_text() == "mine"
            (folder / name).unlink()
            (folder / "out.jsonl").unlink(missing_ok=True)
        (folder / "also.jsonl").write_text("mine")
        (folder / "out.jsonl").write_text("mine")
        assert program(*run, "--overwrite")[0] == 0
        for name in ("out.jsonl", "also.jsonl"):
            assert len((folder / name).read_text().splitlines()) == 5

    @pytest.mark.parametrize("option", ["--record", "--render"])
    def test_an_output_that_is_the_source(self, program: Program, folder: Path, option: str) -> None:
        before = write_clip(folder / "clip.mp4", frames=5).read_bytes()
        (folder / "link.mp4").symlink_to("clip.mp4")
        code, _, err = program("run", "door.yaml", "-s", "clip.mp4", option, "link.mp4", "--overwrite")
        assert code == 2
        assert "link.mp4, which is the source of stream clip itself" in err
        assert (folder / "clip.mp4").read_bytes() == before
        assert not (folder / "out.jsonl").exists(), "nothing was opened"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
    def test_a_pipe_that_nobody_reads(self, program: Program, folder: Path) -> None:
        write_clip(folder / "clip.mp4", frames=5)
        os.mkfifo(folder / "pipe")
        code, _, err = program("run", "door.yaml", "-s", "clip.mp4", "--record", "pipe")
        assert code == 5
        assert "nobody reads the pipe pipe" in err


class TestThePage:
    @pytest.fixture
    def taken(self, folder: Path) -> Iterator[int]:
        """A port that is in use, which the page of `page.yaml` is to have."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port: int = other.getsockname()[1]
            (folder / "page.yaml").write_text(
                f"version: 1\nstages: {{decode: {{use: decode}}, publish: {{use: publish-websocket, port: {port}}}}}\n"
            )
            write_clip(folder / "clip.mp4", frames=5)
            yield port

    def test_files_do_not_need_it(self, program: Program, folder: Path, taken: int) -> None:
        code, _, err = program("run", "page.yaml", "-s", "clip.mp4", "--record", "a.jsonl")
        assert code == 0
        assert f"(port {taken} is in use)" in err
        assert len((folder / "a.jsonl").read_text().splitlines()) == 5
        code, _, err = program("run", "page.yaml", "-s", "clip.mp4", "--record", "b.jsonl", "--no-page")
        assert code == 0
        assert "page" not in err
        assert len((folder / "b.jsonl").read_text().splitlines()) == 5

    def test_a_port_that_was_asked_for_is_refused(self, program: Program, taken: int) -> None:
        code, _, err = program("run", "page.yaml", "-s", "clip.mp4", "--set", f"stages.publish.port={taken}")
        assert code == 5
        assert f"port {taken}" in err

    def test_live_graphs_keep_theirs(self, program: Program, taken: int) -> None:
        code, _, err = program("run", "page.yaml", "-s", "rtsp://127.0.0.1:1/x")
        assert code == 5
        assert f"cannot listen on 127.0.0.1 port {taken}" in err


def test_a_source_with_a_variable(program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(folder / "clip.mp4", frames=5)
    monkeypatch.setenv("FOLDER", str(folder))
    assert program("run", "door.yaml", "-s", "${FOLDER}/clip.mp4")[0] == 0
    code, _, err = program("run", "door.yaml", "-s", "rtsp://u:s3cret${NOPE}@h/")
    assert code == 2
    assert "NOPE is not set" in err
    assert "s3cret" not in err


def test_a_plugin_that_ends_the_program(program: Program, folder: Path) -> None:
    (folder / "leave.py").write_text("print('ran')\nraise SystemExit(0)\n")
    (folder / "g.yaml").write_text(GRAPH + "  mine: {use: 'leave.py:Leave'}\n")
    code, _, err = program("graph", "check", "g.yaml")
    assert code == 2
    assert "leave.py cannot be imported: SystemExit(0)" in err
    code, out, err = program("graph", "check", "g.yaml", "--no-plugins")
    assert code == 0
    assert "ran" not in out
    assert "not checked, being plugins: mine" in err


def test_without_the_page_something_must_take_the_results(program: Program, folder: Path) -> None:
    (folder / "page.yaml").write_text(GRAPH.replace("record, path: out.jsonl", "publish-websocket"))
    code, _, err = program("run", "page.yaml", "--no-page")
    assert code == 2
    assert "add --record FILE or --render FILE" in err


class TestAdditions:
    """`--add-stage` and `--add-sink`."""

    STAGE = """\
from streamkp.plugin import MapStage, Sink, StageOptions
from pydantic import Field


class CountFrames(MapStage):
    class Options(StageOptions):
        step: int = Field(1, description="Added to each count.")

    def open(self):
        self.count = 0

    def process(self, packet):
        self.count += self.options.step
        packet.events.append({"type": "count", "count": self.count})
        return packet


class Told(Sink):
    def open(self):
        self.file = open("told.txt", "w")

    def process(self, packet):
        self.file.write(f"{packet.seq} {[event['count'] for event in packet.events]}\\n")

    def close(self):
        self.file.close()
"""

    @pytest.fixture(autouse=True)
    def files(self, folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "count.py").write_text(self.STAGE)
        write_clip(folder / "clip.mp4", frames=3)

    def test_a_stage_and_a_sink_of_a_file(self, folder: Path, program: Program) -> None:
        added = ("--add-stage", "sub/count.py:CountFrames{step: 2}", "--add-sink", "sub/count.py:Told")
        assert program("run", "door.yaml", "-q", "--control", "off", "--source", "clip.mp4", *added)[0] == 0
        assert (folder / "told.txt").read_text() == "0 [2]\n1 [4]\n2 [6]\n"
        rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
        assert [row["events"] for row in rows] == [[{"type": "count", "count": n}] for n in (2, 4, 6)]

    def test_sinks_that_name_the_last_stage_read_the_added_one(self, folder: Path, program: Program) -> None:
        (folder / "door.yaml").write_text(GRAPH.replace("use: record,", "use: record, from: [decode],"))
        added = ("--add-stage", "sub/count.py:CountFrames", "--add-stage", "sub/count.py:CountFrames")
        assert program("run", "door.yaml", "-q", "--control", "off", "--source", "clip.mp4", *added)[0] == 0
        rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
        assert [len(row["events"]) for row in rows] == [2, 2, 2]

    @pytest.mark.parametrize(
        ("added", "words"),
        [
            (("--add-stage", "sub/count.py:Told"), "this is a sink; add it with --add-sink"),
            (("--add-sink", "sub/count.py:CountFrames"), "this is a map; add it with --add-stage"),
            (("--add-sink", "record-csv"), "streamkp: --add-sink record-csv: stages.record-csv.path: is required"),
            (("--add-stage", "decode"), "this is a source; add it with --source"),
            (("--add-stage", "rep-conter"), "did you mean rep-counter?"),
            (("--add-stage", "sub/none.py:A"), "does not exist"),
            (("--add-stage", "sub/count.py:CountFrames{step: [}"), "not YAML"),
            (("--add-stage", "sub/count.py:CountFrames{stop: 2}"), "did you mean step"),
        ],
    )
    def test_what_is_wrong_is_told(self, program: Program, added: tuple[str, str], words: str) -> None:
        code, _, said = program("run", "door.yaml", "-q", "--source", "clip.mp4", *added)
        assert code == 2
        assert words in said


def test_a_source_that_fails_is_told_once(program: Program) -> None:
    code, _, said = program("run", "door.yaml", "-q", "--control", "off", "--source", "none.mp4")
    assert code == 3
    assert said.count("none.mp4") == 1


def test_what_cannot_be_fetched_is_told_once_for_all_of_it(
    folder: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMKP_HOME", str(folder / "cache"))
    for name, value in {
        "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(folder), "PIP_EXTRA_INDEX_URL": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    code, _, said = program("run", "demo", "-q")
    assert code == 4
    assert said.count("cannot be fetched") == 1
    assert said.count("streamkp: ") == 1
    for command in ("models pull efficientdet-lite0", "models pull blazepose-full", "samples pull walk"):
        assert f"streamkp {command} --from FILE" in said
    assert len(said.splitlines()) == 6, "with the line that says what is being fetched"
