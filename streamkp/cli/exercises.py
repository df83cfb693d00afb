"""`streamkp exercises`: what the repetition counter knows, and whether a file of one's own is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from streamkp.cli.output import console

exercises_app = typer.Typer(help="Exercises that rep-counter counts.", no_args_is_help=True)


@exercises_app.command("list")
def list_exercises(
    path: Annotated[bool, typer.Option("--path", help="Also the files, to start one's own from.")] = False,
) -> None:
    """List the exercises that come with the counter, each with its signals."""
    from streamkp_plugins.rep_counter.spec import FOLDER, shipped

    table = Table("exercise", "what it is", "signals", "partial from", "whole from")
    for name, exercise in shipped().items():
        signals = ", ".join(f"{signal} {each.rest:g} to {each.full:g}" for signal, each in exercise.signals.items())
        table.add_row(name, exercise.about, signals, f"{exercise.partial:g}", f"{exercise.full:g}")
    out = console()
    out.print(table)
    if path:
        out.print(str(FOLDER), highlight=False, soft_wrap=True)


@exercises_app.command()
def check(file: Annotated[Path, typer.Argument(help="A YAML file of one exercise.")]) -> None:
    """Validate an exercise and report every error in it."""
    from streamkp_plugins.rep_counter.spec import load

    exercise = load(file)
    signals, gates = len(exercise.signals), len(exercise.gates)
    typer.echo(f"{file} is a valid exercise: {exercise.name}, {signals} signals, {gates} gates")
