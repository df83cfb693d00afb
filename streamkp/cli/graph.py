"""`streamkp graph check` and `streamkp graph show`: look at a graph before it runs."""

from __future__ import annotations

from collections.abc import Sized
from typing import Annotated

import typer

from streamkp.graph.graph import Graph
from streamkp.graph.show import as_mermaid, as_text
from streamkp.graph.spec import GraphSpec

graph_app = typer.Typer(help="Check or show a graph file.", no_args_is_help=True, rich_markup_mode=None)

GraphFile = Annotated[str, typer.Argument(help="A graph file, or the name of a ready-made graph.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="stages.detect.every=5 (repeatable).")]
NoPlugins = Annotated[
    bool, typer.Option("--no-plugins", help="Run no code of plugins: their stages are not checked, and said so.")
]


@graph_app.command()
def check(graph: GraphFile, overrides: Overrides = None, no_plugins: NoPlugins = False) -> None:
    """Validate a graph file and report every error in it.

    Plugins that it names are imported to check their options; --no-plugins leaves them alone.
    """
    spec = _read(graph, overrides, no_plugins)
    for note in spec.notes():
        typer.echo(f"note: {note}", err=True)
    if spec.unchecked:
        typer.echo(f"not checked, being plugins: {', '.join(spec.unchecked)}", err=True)
    typer.echo(f"{graph} is a valid graph: {_count(spec.stages, 'stage')}, {_count(spec.streams, 'stream')}")


@graph_app.command()
def show(
    graph: GraphFile,
    overrides: Overrides = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid diagram.")] = False,
    no_plugins: NoPlugins = False,
) -> None:
    """Print the stages of a graph, how they are connected, and their options."""
    spec = _read(graph, overrides, no_plugins)
    typer.echo(as_mermaid(spec) if mermaid else as_text(spec))


def _read(graph: str, overrides: list[str] | None, no_plugins: bool) -> GraphSpec:
    return Graph.from_yaml(graph, overrides=overrides or ()).validate(plugins=not no_plugins)


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"
