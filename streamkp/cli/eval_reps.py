"""`streamkp eval reps`: the repetition counter over recordings or clips whose counts are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table


def reps(
    data: Annotated[Path, typer.Option(help="Folder of the recordings (.jsonl, .jsonl.gz) or clips.")],
    truth: Annotated[Path, typer.Option(help='JSON list of {"file", "exercise", "count"}; exercise null: none.')],
    exercise: Annotated[
        str,
        typer.Option(help="given: tell the counter what the truth file says; auto: do not; or one exercise for all."),
    ] = "given",
    person: Annotated[str, typer.Option(help="main or all, as in the stage.")] = "main",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count repetitions live and compare: MAE, OBO (share within one) and the exact share, by exercise."""
    from streamkp_plugins.rep_counter.spec import named

    from streamkp.evaluation import reps as evaluation

    clips = evaluation.read_truth(truth, lambda name: known.name if (known := named(name)) else None)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("counting", total=len(clips))
        rows = evaluation.evaluate(data, clips, exercise, person, lambda: progress.advance(task))
    found = evaluation.figures(rows)
    if as_json:
        listed = [
            {
                "file": row.clip.file, "exercise": row.clip.exercise, "true": row.clip.count, "counted": row.count,
                "partial": row.partial, "reps": row.reps,
            }
            for row in rows
        ]  # fmt: skip
        typer.echo(json.dumps({"exercise": exercise, "person": person, **found["all"], **found, "clips": listed}))
        return
    console = Console()
    shown = Table("clip", "exercise", "true", "counted", "partial", "as something else", title=f"exercise: {exercise}")
    for row in rows:
        others = ", ".join(f"{name} {n}" for name, n in sorted(row.reps.items()) if name != row.clip.exercise)
        style = None if not row.error else "yellow" if abs(row.error) == 1 else "red"
        shown.add_row(
            row.clip.file, row.clip.exercise or "-", str(row.clip.count), str(row.count), str(row.partial or "-"),
            others or "-", style=style,
        )  # fmt: skip
    console.print(shown)
    table = Table("exercise", "clips", "reps", "MAE", "OBO", "exact")
    for name, line in [*found["exercises"].items(), ("all", found["all"])]:
        table.add_row(name, *("-" if value is None else f"{value:g}" for value in line.values()))
    console.print(table)
    if found["clips_without_exercise"]:
        console.print(
            f"{found['false_counts']} false counts in {found['clips_without_exercise']} clips without exercise"
        )
