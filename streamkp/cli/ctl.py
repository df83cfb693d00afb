"""`streamkp ctl`: a run that goes on, seen and changed from another terminal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamkp.cli.output import console, printable
from streamkp.control.client import Client, find
from streamkp.errors import UsageError
from streamkp.uris import expand_argument, mask

ctl_app = typer.Typer(help="See and change a run that goes on.", no_args_is_help=True)
T = TypeVar("T")

Url = Annotated[
    str | None,
    typer.Option(
        envvar="STREAMKP_URL", help="Where the control server is; by default this machine's usual ports are tried."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="STREAMKP_TOKEN", help="The server's token; in the variable it shows in no list of processes.",
        show_envvar=True,
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The stream's id.")]


@ctl_app.callback()
def _group() -> None:
    """See and change a run that goes on."""


def connect(url: str | None, token: str | None) -> Client:
    """The run that is meant."""
    return Client(url, token) if url else find(token)


@ctl_app.command()
def status(url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Show the streams, and what goes on with each."""
    client = connect(url, token)
    stats, graph = client.stats(), client.api("GET", "graph")
    if as_json:
        streams = client.api("GET", "streams")["streams"]
        typer.echo(json.dumps({"url": client.url, "stats": stats, "graph": graph, "streams": streams}))
        return
    out = console()
    out.print(_headline(client, stats, graph), highlight=False, markup=False)
    out.print(_streams(stats, out))
    for line in _reasons(stats):
        out.print(line, highlight=False, markup=False)


@ctl_app.command()
def add(
    name: Name,
    uri: Annotated[str, typer.Argument(help="A file, a camera or an address; ${NAME} stands for a variable.")],
    options: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="max_fps=10, rotate=90, ... (repeatable).")
    ] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", "-l", help="site=gym (repeatable).")] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Add a stream."""
    body: dict[str, Any] = {"name": name, "uri": expand_argument(uri, os.environ)}
    body |= dict(_pair(text, "--option max_fps=10", _value) for text in options or ())
    if labels:
        body["labels"] = dict(_pair(text, "--label site=gym", str) for text in labels)
    view = connect(url, token).api("POST", "streams", body=body)
    _say(view, as_json, f"added {name}: {view['source']}")


@ctl_app.command()
def remove(name: Name, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Remove a stream; the run goes on, also without any."""
    _say(connect(url, token).api("DELETE", "streams", name), as_json, f"removed {name}")


@ctl_app.command()
def pause(name: Name, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Close the connection of a camera, or hold a file where it is."""
    _say(connect(url, token).api("POST", "streams", name, "pause"), as_json, f"paused {name}")


@ctl_app.command()
def resume(name: Name, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Go on after a pause."""
    _say(connect(url, token).api("POST", "streams", name, "resume"), as_json, f"resumed {name}")


@ctl_app.command()
def restart(name: Name, url: Url = None, token: Token = None, as_json: AsJson = False) -> None:
    """Open a stream anew, also one that has ended or failed."""
    _say(connect(url, token).api("POST", "streams", name, "restart"), as_json, f"restarted {name}")


@ctl_app.command("set")
def change(
    settings: Annotated[list[str], typer.Argument(help="STAGE.OPTION=VALUE, such as detect.every=5.")],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Change options of stages; which ones can be changed, `ctl status --json` and `streamkp stages` say."""
    by_stage: dict[str, dict[str, Any]] = {}
    for text in settings:
        where, value = _pair(text, "detect.every=5", _value)
        stage, dot, option = where.removeprefix("stages.").rpartition(".")
        if not dot or not stage:
            raise UsageError(f"{mask(text)}: write it as STAGE.OPTION=VALUE, for example detect.every=5")
        by_stage.setdefault(stage, {})[option] = value
    client = connect(url, token)
    for stage, changes in by_stage.items():
        view = client.api("PATCH", "stages", stage, body=changes)
        now = ", ".join(f"{option}={json.dumps(view['options'].get(option))}" for option in changes)
        _say(view, as_json, f"{stage}: {now}")


@ctl_app.command()
def top(
    url: Url = None,
    token: Token = None,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch streams and stages until Ctrl-C."""
    client, out = connect(url, token), console()
    if as_json or once or not out.is_terminal:
        while True:
            stats = client.stats()
            if as_json:
                typer.echo(json.dumps(stats))
            else:
                out.print(_everything(client, stats, out))
            if once or not as_json:
                return
            time.sleep(every)
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_everything(client, client.stats(), out), refresh=True)
            time.sleep(every)


def _say(view: Any, as_json: bool, text: str) -> None:
    typer.echo(json.dumps(view) if as_json else printable(text))


def _pair(text: str, example: str, read: Callable[[str], T]) -> tuple[str, T]:
    key, sep, value = text.partition("=")
    if not sep or not key:
        raise UsageError(f"{mask(text)}: write it as {example}")
    return key, read(value)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _headline(client: Client, stats: dict[str, Any], graph: dict[str, Any]) -> str:
    return f"{printable(graph['origin'])} at {client.url}: {stats['state']} for {_seconds(stats['uptime_s'])}"


def _everything(client: Client, stats: dict[str, Any], out: Console) -> RenderableType:
    state = f"{client.url}: {stats['state']} for {_seconds(stats['uptime_s'])}"
    reasons = [Text(line) for line in _reasons(stats)]
    return Group(Text(state), _streams(stats, out), *reasons, _stages(stats))


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, number in columns:
        table.add_column(heading, justify="right" if number else "left", no_wrap=True, overflow="ellipsis")
    return table


def _streams(stats: dict[str, Any], out: Console) -> Table:
    table = _table(
        ("STREAM", False), ("STATE", False), ("FPS", True), ("FRAMES", True), ("DROPPED", True), ("P95 MS", True),
        ("SOURCE", False),
    )  # fmt: skip
    if out.is_terminal:  # figures are whole; what names leave of the line is the source's
        longest = max(map(len, stats["streams"]), default=0)
        names = min(longest, max(_NAME, out.width - _FIGURES - _SOURCE))
        source = max(_SOURCE // 4, out.width - _FIGURES - names)
        for column, most in zip(table.columns, (names, 12, 6, 9, 7, 6, source), strict=True):
            column.max_width = most
    for name, row in stats["streams"].items():
        rows = [stage[name] for stage in stats["stages"].values() if name in stage]
        latency = [found["latency_ms"]["p95"] for found in rows if "latency_ms" in found]
        table.add_row(
            Text(printable(name)),
            Text(row["status"]["picture"] or row["status"]["state"], style=_COLOURS.get(row["status"]["state"], "")),
            f"{rows[0]['fps']:.1f}" if rows else "0.0",
            str(row["frames"]),
            str(sum(sum(found["dropped"].values()) for found in rows)),
            f"{max(latency):.0f}" if latency else "",
            Text(printable(row["source"])),
        )
    return table


_FIGURES, _NAME, _SOURCE = 54, 16, 40  # columns: of the figures; of the longest name and of a source, if there is room
_COLOURS = {"live": "green", "failed": "red", "reconnecting": "yellow", "stalled": "yellow", "paused": "cyan"}


def _stages(stats: dict[str, Any]) -> Table:
    table = _table(
        ("STAGE", False), ("FPS", True), ("QUEUE", True), ("BUSY P50 MS", True), ("DROPPED", True), ("ERRORS", True)
    )
    for name, streams in stats["stages"].items():
        rows = list(streams.values())
        table.add_row(
            Text(printable(name)),
            f"{sum(row['fps'] for row in rows):.1f}",
            str(sum(row["queue"] for row in rows)),
            f"{max((row['busy_ms']['p50'] for row in rows), default=0.0):.2f}",
            str(sum(sum(row["dropped"].values()) for row in rows)),
            str(sum(row["errors"] for row in rows)),
        )
    return table


def _reasons(stats: dict[str, Any]) -> list[str]:
    found = []
    for name, row in stats["streams"].items():
        if row["status"]["reason"]:
            found.append(printable(f"{name}: {row['status']['reason']}"))
    errors = map(printable, stats["errors"])
    return found + [error for error in errors if not any(error in line for line in found)]


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")) if n]
    return " ".join(parts[:2]) or "0 s"
