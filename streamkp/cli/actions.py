"""`streamkp actions`: learn actions from recordings for the stage action-recognition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from streamkp.cli.output import console

actions_app = typer.Typer(help="Actions for the stage action-recognition.", no_args_is_help=True)


@actions_app.callback()
def _group() -> None:
    """Actions for the stage action-recognition."""


@actions_app.command()
def learn(
    source: Annotated[
        Path, typer.Argument(help="A folder with a folder of recordings for each action, or ML Kit's CSV of poses.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write, for `examples` of the stage.")],
    k: Annotated[int, typer.Option(min=1, help="Nearest examples that vote, in the figures printed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn from a few recordings of each action, and say how well they tell each other apart."""
    from streamkp_plugins import action_recognition as actions

    from streamkp.errors import OutputError

    examples = actions.learn(source)
    table = actions.leave_one_out(examples, k)
    try:
        examples.save(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
    accuracy = actions.share(table.values())
    recordings = len(set(examples.groups))
    if as_json:
        by_action = {label: {"right": right, "examples": count} for label, (right, count) in table.items()}
        typer.echo(json.dumps({"examples": len(examples.labels), "recordings": recordings, "k": k,
                               "leave_one_out": round(accuracy, 4), "actions": by_action}))  # fmt: skip
        return
    shown = Table("action", "examples", "told right")
    for label, (right, count) in table.items():
        shown.add_row(label, str(count), f"{right} ({100 * right / count:.1f} %)")
    screen = console()
    screen.print(shown)
    screen.print(f"leave-one-recording-out accuracy {100 * accuracy:.1f} %, {recordings} recordings; wrote {out}")
