"""`streamkp exercises`, `streamkp actions` and `streamkp eval reps`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamkp_plugins import action_recognition
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import StreamkpError
from streamkp.graph.stage import StageContext
from streamkp.sinks.record import Record
from tests.plugins.figure import packets, person, repetitions, squatter


def run(*args: str | Path) -> str:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if isinstance(result.exception, StreamkpError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def record(path: Path, progress: list[float], scale: float = 100.0) -> None:
    sink = Record(Record.Options(path=path), StageContext("record"))
    sink.open()
    for packet in packets([[person(squatter(p, scale=scale))] for p in progress]):
        sink.process(packet)
    sink.close()


def test_exercises_are_listed_and_checked(tmp_path: Path) -> None:
    shown = run("exercises", "list", "--path")
    assert "jumping-jack" in shown
    folder = Path(shown.strip().splitlines()[-1])
    assert "squat, 2 signals" in run("exercises", "check", folder / "squat.yaml")
    (tmp_path / "bad.yaml").write_text("name: bad\nabout: x\nout: sideways\n")
    with pytest.raises(StreamkpError, match="signals") as error:
        run("exercises", "check", tmp_path / "bad.yaml")
    assert error.value.exit_code == 2
    with pytest.raises(StreamkpError, match="cannot be read"):
        run("exercises", "check", tmp_path / "missing.yaml")


def test_repetitions_are_evaluated(tmp_path: Path) -> None:
    record(tmp_path / "three.jsonl", repetitions(3))
    record(tmp_path / "one.mcap", repetitions(1))
    record(tmp_path / "none.jsonl", [0.0] * 90)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps([
        {"file": "three.jsonl", "exercise": "Squats", "count": 3},
        {"file": "one.mcap", "exercise": "squat", "count": 2},
        {"file": "none.jsonl", "exercise": None},
    ]))  # fmt: skip
    report = json.loads(run("eval", "reps", "--data", tmp_path, "--truth", truth, "--json"))
    assert report["all"] == {"clips": 2, "reps": 5, "mae": 0.25, "obo": 1.0, "exact": 0.5}
    assert (report["mae"], report["obo"], report["exact"]) == (0.25, 1.0, 0.5)
    assert report["exercises"]["squat"] == report["all"]
    assert (report["clips_without_exercise"], report["false_counts"]) == (1, 0)
    assert [clip["counted"] for clip in report["clips"]] == [3, 1, 0]
    assert "as something else" in run("eval", "reps", "--data", tmp_path, "--truth", truth, "--exercise", "auto")


@pytest.mark.parametrize(
    ("text", "message"),
    [("[]", "expected a list"), ("{", "not JSON"), ('[{"exercise": "squat"}]', "entry 1"),
     ('[{"file": "x", "exercise": "squat", "count": -1}]', "whole number"),
     ('[{"file": "x", "exercise": "plank", "count": 1}]', "no exercise 'plank'")],
)  # fmt: skip
def test_a_wrong_truth_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(StreamkpError, match=message):
        run("eval", "reps", "--data", tmp_path, "--truth", tmp_path / "truth.json")


def test_actions_are_learned(tmp_path: Path) -> None:
    for action, progress in (("squat", repetitions(4, period=1.8)), ("stand", [0.0] * 200)):
        (tmp_path / "in" / action).mkdir(parents=True)
        for scale, kind in ((80, "jsonl"), (110, "mcap")):
            record(tmp_path / "in" / action / f"{scale}.{kind}", progress, scale)
    out = tmp_path / "actions.npz"
    report = json.loads(run("actions", "learn", tmp_path / "in", "--out", out, "--json"))
    assert report["recordings"] == 4
    assert report["leave_one_out"] > 0.9
    assert set(action_recognition.load(out).labels) == {"squat", "stand"}
    with pytest.raises(StreamkpError, match="neither a folder"):
        run("actions", "learn", tmp_path / "no", "--out", out)
