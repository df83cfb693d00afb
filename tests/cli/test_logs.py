"""The log as people and programs read it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from streamkp.cli import logs
from streamkp.graph.context_log import ContextLog
from streamkp.graph.stage import StageContext
from streamkp.testing import make_packet


@pytest.fixture(params=["text", "json"])
def handler(request: pytest.FixtureRequest) -> Iterator[logs.Handler]:
    handler = logs.Handler()
    handler.setFormatter(logs.JsonFormatter() if request.param == "json" else logs.TextFormatter())
    root = logging.getLogger("streamkp")
    root.addHandler(handler)
    before, root.level = root.level, logging.INFO
    yield handler
    root.level = before
    root.removeHandler(handler)


def as_json(handler: logging.Handler) -> bool:
    return isinstance(handler.formatter, logs.JsonFormatter)


def say(text: str, at: float, level: int = logging.WARNING, **extra: object) -> logging.LogRecord:
    record = logging.LogRecord("streamkp.source", level, __file__, 1, text, (), None)
    record.created = at
    record.__dict__.update(extra)
    return record


def test_fields_and_masks(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    log = ContextLog("streamkp.detect", stage="detect")
    log.warning("lost rtsp://u:secret@cam/", extra={"stream": "cam", "seq": 7})
    try:
        raise ValueError("rtsp://u:secret@cam/")
    except ValueError:
        log.exception("broke")
    said = capsys.readouterr().err
    assert "secret" not in said
    first, *rest = said.splitlines()
    if as_json(handler):
        found = json.loads(first)
        assert found.pop("time").endswith("Z")
        assert found == {
            "level": "warning", "logger": "streamkp.detect", "message": "lost rtsp://***@cam/",
            "stream": "cam", "stage": "detect", "seq": 7,
        }  # fmt: skip
        assert "ValueError" in json.loads(rest[0])["exception"]
        assert len(rest) == 1
    else:
        assert first == "WARNING streamkp.detect: lost rtsp://***@cam/"
        assert rest[0] == "ERROR streamkp.detect: broke"


def test_lines_that_say_the_same_are_counted(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    for second in range(30):
        handler.handle(say(f"away; trying again in {second}.5 s", second, stream="a"))
    handler.handle(say("away; trying again in 0.5 s", 30, stream="b"))
    assert len(capsys.readouterr().err.splitlines()) == 2
    handler.handle(say("something else", 61))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    if as_json(handler):
        assert json.loads(lines[0])["repeated"] == 29
    else:
        assert lines[0] == "WARNING streamkp.source: a: away; trying again in 29.5 s (29 more like it since then)"
    handler.handle(say("away; trying again in 3.5 s", 62, stream="a"))
    assert len(capsys.readouterr().err.splitlines()) == 1
    handler.handle(say("away; trying again in 4.5 s", 63, stream="a"))
    handler.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_numbers_matter_below_warnings(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        handler.handle(say(f"frame {n}", 0, logging.INFO))
        handler.handle(say("the same", 0, logging.INFO))
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_what_is_remembered_is_bounded(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3 * logs.MOST):
        handler.handle(say(f"line {n}", 0, logging.INFO))
    assert len(handler._seen) == logs.MOST
    assert len(capsys.readouterr().err.splitlines()) == 3 * logs.MOST


def test_stages_say_which_stream_and_frame(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    StageContext("lift").failed(make_packet("cam", 4), ValueError("no pose"))
    line = capsys.readouterr().err.strip()
    if as_json(handler):
        found = json.loads(line)
        assert (found["stage"], found["stream"], found["seq"]) == ("lift", "cam", 4)
    else:
        assert line == "ERROR streamkp.lift: frame 4 of stream cam: no pose"


def test_what_a_command_says_is_json_too(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(logs, "_format", "json")
    caplog.set_level(logging.INFO, "streamkp.run")
    logs.console(quiet=False).print("the page is at [http://x]", highlight=False, markup=False)
    logs.console(quiet=True).print("nothing")
    assert [record.getMessage() for record in caplog.records] == ["the page is at [http://x]"]


@pytest.mark.parametrize("handler", ["text"], indirect=True)
def test_a_line_for_people_names_its_stream_once(handler: logs.Handler, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(
        ("sample:walk: stalled", "frame 4 of stream door-1: no pose", "rtsp://door-10/ away")
    ):
        handler.emit(say(text, 1000.0 + number, stream="door-1"))
    assert capsys.readouterr().err.splitlines() == [
        "WARNING streamkp.source: door-1: sample:walk: stalled",
        "WARNING streamkp.source: frame 4 of stream door-1: no pose",
        "WARNING streamkp.source: door-1: rtsp://door-10/ away",
    ]
