"""`streamkp cameras`: the cameras that are attached to this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from streamkp.cli.output import printable
from streamkp.sources.webcams import NONE, webcams, why_not


def cameras(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the cameras of this machine: the number to open each by, its name, and whether it is free."""
    found = webcams()
    if as_json:
        typer.echo(json.dumps([asdict(camera) for camera in found]))
        return
    if not found:
        typer.echo(NONE)
    for camera in found:
        typer.echo(printable(f"{camera.index}  {camera.name}  {camera.state}{camera.detail}"))
        if camera.state != "free":
            typer.echo(printable(f"   {why_not(camera.index)}"))
    if any(camera.state == "free" for camera in found):
        typer.echo("open one by its number: streamkp run webcam --source NUMBER")
