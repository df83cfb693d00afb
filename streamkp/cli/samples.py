"""`streamkp samples`: clips to try things on."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from streamkp.cli.models import From, Json, Names, as_dict, on_disk, pull
from streamkp.cli.output import console
from streamkp.hub import store

WIDE = 122  # columns of a terminal that has room for a sample on one line

samples_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Sample clips: list, fetch.")


@samples_app.command("list")
def list_samples(as_json: Json = False) -> None:
    """Every sample clip."""
    cache = store.default()
    if as_json:
        typer.echo(json.dumps([as_dict(cache, sample) for sample in cache.table.sample], indent=2))
        return
    out = console()
    wide = out.width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1 if wide else 0), pad_edge=wide)
    for heading in ("name", "what", *(["video"] if wide else []), "licence", "on disk"):
        table.add_column(heading)
    for sample in cache.table.sample:
        what = (sample.title, sample.video) if wide else (f"{sample.title}\n{sample.video}",)
        table.add_row(sample.name, *what, sample.licence, on_disk(cache, sample) or "no")
    out.print(table)


@samples_app.command("pull")
def pull_samples(names: Names, source: From = None) -> None:
    """Fetch sample clips into the cache."""
    cache = store.default()
    pull(cache, [cache.table.get_sample(name) for name in names], source)


@samples_app.command("path")
def sample_path(name: Annotated[str, typer.Argument(help="Name of the clip.")]) -> None:
    """Print the path of a sample clip, fetching it if it is not in the cache."""
    typer.echo(store.sample(name))
