"""The commands. Each does one thing with the library and says what happened in words."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import streamkp
from streamkp.cli.actions import actions_app
from streamkp.cli.bench import bench_app
from streamkp.cli.eval import eval_app
from streamkp.cli.exercises import exercises_app
from streamkp.cli.infer import infer
from streamkp.cli.listen import listen, schema
from streamkp.cli.models import models_app, samples_app
from streamkp.cli.run import run
from streamkp.errors import StreamkpError
from streamkp.graph import registry
from streamkp.graph.graph import Graph
from streamkp.graph.show import as_mermaid, as_text

EXIT_CODES = """
Exit codes: 0 done; 1 other error; 2 wrong graph, option or set-up; 3 a video source failed; 4 a model is unknown or
cannot be fetched; 5 a result could not be written or published; 130 and 143 interrupted before the end.
"""

app = typer.Typer(
    name="streamkp",
    help="Live video into human keypoints, 2D and 3D, for many cameras at once.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
graph_app = typer.Typer(help="Look at a graph file.", no_args_is_help=True)

app.command()(run)
app.command()(infer)
app.add_typer(graph_app, name="graph")
app.add_typer(models_app, name="models")
app.add_typer(samples_app, name="samples")
app.command()(listen)
app.command()(schema)
app.add_typer(bench_app, name="bench")
app.add_typer(eval_app, name="eval")
app.add_typer(exercises_app, name="exercises")
app.add_typer(actions_app, name="actions")

GraphFile = Annotated[str, typer.Argument(help="A graph file, or the name of a ready-made graph.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(streamkp.__version__)
        raise typer.Exit


@app.callback()
def common(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    version: Annotated[
        bool,  # eager: before the parser misses a command
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options of every command."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise typer.BadParameter(f"{log_level} is not a log level", param_hint="--log-level")
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


@graph_app.command()
def check(graph: GraphFile, overrides: Overrides = None) -> None:
    """Validate a graph file and say everything that is wrong with it."""
    spec = Graph.from_yaml(graph, overrides=overrides or ()).validate()
    typer.echo(f"{graph} is a valid graph: {len(spec.stages)} stages, {len(spec.streams)} streams")


@graph_app.command()
def show(
    graph: GraphFile,
    overrides: Overrides = None,
    mermaid: Annotated[bool, typer.Option(help="Print a Mermaid diagram.")] = False,
) -> None:
    """Print the stages of a graph, how they are connected, and their options."""
    spec = Graph.from_yaml(graph, overrides=overrides or ()).validate()
    typer.echo(as_mermaid(spec) if mermaid else as_text(spec))


@app.command()
def stages(name: Annotated[str | None, typer.Argument(help="Only this stage.")] = None) -> None:
    """List the stages that a graph may use, each with its options."""
    console = Console()
    for use in [name] if name else registry.names():
        cls = registry.stage_class(use, Path.cwd())
        summary = (cls.__doc__ or "").strip().splitlines()[0] if cls.__doc__ else ""
        table = Table(title=f"{use} ({cls.kind}): {summary}", title_justify="left", expand=True)
        for heading in ("option", "type", "default", "what it does"):
            table.add_column(heading, overflow="fold")
        for field, info in cls.Options.model_fields.items():
            kind = getattr(info.annotation, "__name__", None) if not str(info.annotation).count("|") else None
            default = "required" if info.is_required() else str(info.get_default(call_default_factory=True))
            kind = kind or str(info.annotation).replace("typing.", "")
            table.add_row(info.alias or field, kind, default, info.description or "")
        console.print(table)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that nothing on the way takes it for a failure of its own."""


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def main() -> None:
    """The program `streamkp`: runs a command, and turns errors into one message and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except StreamkpError as error:
        Console(stderr=True, soft_wrap=True).print(f"streamkp: {error}", style="red", markup=False, highlight=False)
        sys.exit(error.exit_code)
    except Interrupted as interrupted:
        print("streamkp: interrupted", file=sys.stderr)
        sys.exit(128 + interrupted.args[0])
