"""Tables are whole where the output is no terminal, and fit one that is."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from typer.testing import CliRunner

from streamkp.cli import ctl, output
from streamkp.cli.fleet import show_status
from streamkp.cli.main import app

LONG = "north-entrance-of-building-seventeen-ground-floor-camera-left-hand"
SOURCE = f"rtsp://10.20.30.40/live/{LONG}/high-resolution"
STATUS = {"state": "live", "picture": None, "reason": None}


def stats(*names: str) -> dict[str, Any]:
    return {"stages": {}, "streams": {name: {"status": STATUS, "frames": 1, "source": SOURCE} for name in names}}


def drawn(width: int | None, *names: str) -> str:
    """The table of streams, on a terminal of that width or in a pipe."""
    file = io.StringIO()
    out = Console(file=file, width=width or output.NO_EDGE, force_terminal=width is not None, color_system=None)
    out.print(ctl._streams(stats(*names), out))
    return file.getvalue()


def test_a_pipe_gets_names_and_sources_whole() -> None:
    lines = drawn(None, LONG, "b").splitlines()
    assert lines[1].split() == [LONG, "live", "0.0", "1", "0", SOURCE]
    assert len(lines) == 3


def test_a_terminal_gives_names_the_room_that_it_has() -> None:
    for width in (80, 120, 200):
        lines = drawn(width, LONG, "b").splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) == 3
    assert LONG in drawn(200, LONG)
    assert "left-hand" not in drawn(80, LONG)
    assert "cam-12 " in drawn(80, "cam-12"), "no name takes more than it needs"


def test_an_error_is_told_once() -> None:
    figures = stats("a") | {"errors": ["there is no file a.mp4", "stage lift: no memory"]}
    figures["streams"]["a"]["status"] = STATUS | {"reason": "there is no file a.mp4"}
    assert ctl._reasons(figures) == ["a: there is no file a.mp4", "stage lift: no memory"]


def test_no_command_cuts_in_a_pipe() -> None:
    for words in (["stages", "detect-person"], ["exercises", "list"], ["models", "list"]):
        done = CliRunner().invoke(app, words, env={"COLUMNS": "40"}, catch_exceptions=False)
        assert "…" not in done.output
        assert max(map(len, done.output.splitlines())) > 60


def test_the_nodes_of_a_fleet_are_whole_in_a_pipe() -> None:
    file = io.StringIO()
    node = {"name": LONG, "state": "ready", "problem": None, "streams": 1, "capacity": 64.0, "load": None}
    status = {"nodes": [node | {"labels": {"site": LONG}}], "placed": 1, "streams": 1, "moves": 1, "failures": 0}
    show_status(status | {"waiting": {}}, Console(file=file, width=output.NO_EDGE))
    assert f"{LONG}  ready" in file.getvalue()
    assert f"site={LONG}" in file.getvalue()
