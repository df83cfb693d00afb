"""`streamkp gestures`: learn gestures of one's own from recordings for the stage gestures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from streamkp.cli.output import console

if TYPE_CHECKING:
    from streamkp.models.gestures import Examples, Hand

gestures_app = typer.Typer(help="Gestures for the stage gestures.", no_args_is_help=True)

FILES = (".jsonl", ".jsonl.gz", ".mcap")
_STEP_NS = 100_000_000  # one example of each hand in this time: neighbouring frames say the same


@gestures_app.callback()
def _group() -> None:
    """Gestures for the stage gestures."""


@gestures_app.command()
def learn(
    source: Annotated[
        Path, typer.Argument(help="A folder with a folder of recordings (of the graph hands-face) for each gesture.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write, for `examples` of the stage.")],
    k: Annotated[int, typer.Option(min=1, help="Nearest examples that vote, in the figures printed.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Learn gestures from a few seconds of each, and say how well the recordings tell each other apart."""
    from streamkp.errors import OutputError
    from streamkp.models import gestures

    examples = _examples(source)
    table = gestures.leave_one_out(examples, k)
    try:
        examples.save(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
    accuracy = sum(right for right, _ in table.values()) / sum(count for _, count in table.values())
    recordings = len(set(examples.groups))
    if as_json:
        by_name = {label: {"right": right, "examples": count} for label, (right, count) in table.items()}
        typer.echo(json.dumps({"examples": len(examples.labels), "recordings": recordings, "k": k,
                               "reach": round(examples.reach, 4), "leave_one_out": round(accuracy, 4),
                               "gestures": by_name}))  # fmt: skip
        return
    shown = Table("gesture", "examples", "told right by other recordings")
    for label, (right, count) in table.items():
        shown.add_row(label, str(count), f"{right} ({100 * right / count:.1f} %)")
    screen = console()
    screen.print(shown)
    screen.print(f"leave-one-recording-out accuracy {100 * accuracy:.1f} %, {recordings} recordings; wrote {out}")
    if recordings == len(examples.gestures):
        screen.print("With two recordings of each gesture the figures above would say something: each has only one.")


def _examples(source: Path) -> Examples:
    """The hands of all recordings, embedded. Raises `UsageError` where there is nothing to learn from."""
    from streamkp.errors import UsageError
    from streamkp.models import gestures, registry

    if not source.is_dir():
        raise UsageError(f"{source} is not a folder with a folder of recordings for each gesture")
    hands: list[Hand] = []
    labels: list[str] = []
    groups: list[str] = []
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        for file in sorted(path for path in folder.iterdir() if path.name.endswith(FILES)):
            found = _hands(file)
            hands += found
            labels += [folder.name] * len(found)
            groups += [f"{folder.name}/{file.name}"] * len(found)
    if not hands:
        raise UsageError(
            f"{source}: found no hands; it should hold one folder for each gesture, with recordings "
            f"({', '.join(FILES)}) of the graph hands-face"
        )
    network = registry.open_gestures("gesture-recognizer")
    try:
        return gestures.Examples(network.embed(hands), labels, groups)
    finally:
        network.close()


def _hands(file: Path) -> list[Hand]:
    """The hands in a recording, both of the person if both show themselves, ten times a second."""
    from streamkp.errors import SourceError, UsageError
    from streamkp.sources import replay
    from streamkp.stages.gestures import hands_of

    found: list[Hand] = []
    next_at: dict[tuple[int, str], int] = {}
    try:
        for packet in replay.packets(replay.Recording(file)):
            for person in packet.persons:
                for side, hand in hands_of(person):
                    if packet.pts >= next_at.get((person.track, side), packet.pts):
                        next_at[person.track, side] = packet.pts + _STEP_NS
                        found.append(hand)
    except SourceError as error:
        raise UsageError(str(error)) from None
    return found
