"""`streamkp probe`: what a video source is, or why it cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from streamkp.cli.output import printable
from streamkp.errors import SourceError, UsageError
from streamkp.sources.probe import Probe
from streamkp.sources.probe import probe as look
from streamkp.uris import expand_argument


def probe(
    uri: Annotated[
        str, typer.Argument(metavar="URI", help="A file, a webcam number, or an address such as rtsp://...")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    seconds: Annotated[
        float, typer.Option(min=0.0, max=600.0, help="Seconds to read for, from the first frame on.")
    ] = 3.0,
    transport: Annotated[str, typer.Option(help="RTSP over tcp or udp.")] = "tcp",
    timeout: Annotated[
        float, typer.Option(min=0.1, max=30.0, help="Seconds of silence after which the source counts as lost.")
    ] = 5.0,
) -> None:
    """Tell what a video source is (codec, size, frame rate, keyframes), or why it cannot be read and what to try.

    ${NAME} in the address stands for a variable of the environment. The exit code is 0 when a frame came, 3 otherwise.
    """
    if transport not in ("tcp", "udp"):
        raise UsageError(f"--transport {transport}: is not tcp or udp")
    found = look(
        expand_argument(uri, os.environ),
        seconds=seconds,
        transport="tcp" if transport == "tcp" else "udp",
        timeout=timeout,
    )
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        if not found.frames:
            raise typer.Exit(SourceError.exit_code)
        return
    problem = [] if found.problem is None else [found.problem, *(["  try:"] if found.hints else [])]
    problem += [f"  {hint}" if hint.startswith(" ") else f"  - {hint}" for hint in found.hints]
    if not found.frames:
        raise SourceError("\n".join(map(printable, problem)) or f"{printable(found.address)}: no frame came")
    typer.echo(printable(found.address))
    for name, text in describe(found):
        typer.echo(f"  {name:<12}{printable(text)}")
    for line in problem:
        typer.echo(printable(line), err=True)


def describe(found: Probe) -> Iterator[tuple[str, str]]:
    """What was found, as lines of a name and a text."""
    over = f" over {found.transport}" if found.transport else ""
    yield "container", f"{found.container}{over}, {'live' if found.live else 'with an end'}"
    details = ", ".join(filter(None, [found.profile, found.pixel_format]))
    yield "video", f"{found.codec}{f' ({details})' if details else ''}"
    yield "audio", ", ".join(found.audio or ()) or "none"
    yield "size", _size(found)
    if found.duration_seconds is not None:
        yield "duration", f"{found.duration_seconds:.2f} s"
    if found.frames > 1 or found.live:
        yield from _rates(found)
    times = [("connected", found.connect_seconds), ("opened", found.open_seconds)]
    said = [f"{word} after {_time(after)}" for word, after in times if after is not None]
    yield "start", ", ".join([*said, f"first frame after {_time(found.first_frame_seconds or 0.0)}"])


def _size(found: Probe) -> str:
    parts = []
    if (found.stored_width, found.stored_height) != (found.width, found.height):
        parts.append(f"stored as {found.stored_width}x{found.stored_height}")
    if found.rotation:
        parts.append(f"turned by {found.rotation} degrees")
    if found.mirrored:
        parts.append("mirrored")
    if found.pixel_aspect is not None:
        parts.append(f"pixels {found.pixel_aspect:g} times as wide as high")
    return f"{found.width}x{found.height}" + (f" ({', '.join(parts)})" if parts else "")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _rates(found: Probe) -> Iterator[tuple[str, str]]:
    announced = "unknown" if found.announced_fps is None else f"{found.announced_fps:g}"
    measured = "unknown" if found.measured_fps is None else f"{found.measured_fps:.2f}"
    yield "frames/s", f"announced {announced}, measured {measured}"
    whole = ", all there are" if found.complete else ""
    yield "frames", f"{found.frames} over {found.frames_seconds:.2f} s{whole}; {found.damaged} damaged"
    if found.keyframe_interval_frames is not None:
        lasts = "" if found.keyframe_interval_seconds is None else f" ({found.keyframe_interval_seconds:.2f} s)"
        each = "frame" if found.keyframe_interval_frames == 1 else f"{found.keyframe_interval_frames} frames"
        yield "keyframes", f"every {each}{lasts}"
    elif found.container != "webcam" and found.frames > 1:
        yield "keyframes", f"no second one in {found.frames} frames; a longer --seconds may see it"
