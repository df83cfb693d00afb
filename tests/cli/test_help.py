"""The help of every command, as it is typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from streamkp.cli.main import app


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


EVERY = list(commands(typer.main.get_command(app)))


def test_there_are_some() -> None:
    assert {("listen",), ("graph", "check"), ("models", "list"), ("samples", "pull"), ("bench", "engine")} <= set(EVERY)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*path, "--help"])
    assert (done.exit_code, done.exception) == (0, None), done.output
    assert "Usage: " in done.output
    assert len(done.output.splitlines()) > 3


def test_brackets_in_a_help_text_are_text() -> None:
    assert "[/PREFIX]" in CliRunner().invoke(app, ["listen", "--help"]).output
