"""`streamkp eval steadiness`: what smoothing, constant bones and standing feet gain and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamkp.motion.steady import Settings

_DEFAULTS = Settings()


def steadiness(
    model: Annotated[str, typer.Option(help="A lifter of the catalog.")],
    data: Annotated[Path, typer.Option(help="An .npz file as `eval lifter` reads it.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of one's own, .safetensors or .pth.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cameras and the noise.")] = 0,
    lookahead: Annotated[
        int | None,
        typer.Option(
            min=0, help="Live: each pose from a window that ends so many frames after it. Without: whole sequences."
        ),
    ] = None,
    min_cutoff: Annotated[
        float, typer.Option(min=0.001, help="Of smooth-3d: cut-off in Hz at rest.")
    ] = _DEFAULTS.min_cutoff,
    beta: Annotated[float, typer.Option(min=0, help="Of smooth-3d: cut-off gained per m/s, in Hz.")] = _DEFAULTS.beta,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Jitter, lag, foot slide, bones and error of lifted poses with each part of smooth-3d, from noisy 2D."""
    from streamkp.evaluation.lift import datasets
    from streamkp.evaluation.lift.steadiness import FIGURES, evaluate, live_lift, rows
    from streamkp.models.lift.base import LifterOptions
    from streamkp.models.lift.sequence import open_sequence_lifter

    opened = open_sequence_lifter(model, LifterOptions(checkpoint=checkpoint))
    lift = opened if lookahead is None else live_lift(opened, lookahead)
    dataset = datasets.read(data, seed)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(model, total=len(dataset.sequences))
        table = rows(min_cutoff, beta)
        figures = evaluate(dataset, lift, opened.skeleton, seed, table, lambda: progress.advance(task))
    if as_json:
        report = {
            "model": model,
            "checkpoint": str(checkpoint) if checkpoint else None,
            "data": dataset.name,
            "seed": seed,
            "protocol": dataset.protocol,
            "rate_hz": dataset.rate,
            "lookahead": lookahead,
            "min_cutoff": min_cutoff,
            "beta": beta,
            "figures": FIGURES,
            **figures,
        }
        typer.echo(json.dumps(report))
        return
    console = Console()
    how = "whole sequences" if lookahead is None else f"live with lookahead {lookahead}"
    title = f"{model} on {dataset.name}, noisy 2D, {how}; One-Euro with min_cutoff {min_cutoff:g}, beta {beta:g}"
    # Figures in rows: as columns they do not fit a terminal.
    shown = Table(
        "smooth-3d", title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in figures:
        shown.add_column(name.replace("+", "\n+ "), justify="right")
    for key in FIGURES:
        values = (row[key] for row in figures.values())
        shown.add_row(key, *("-" if value is None else f"{value:.1f}" for value in values))
    console.print(shown)
    console.print(f"{dataset.protocol}; frames at {dataset.rate:g} Hz", highlight=False, markup=False)
    for key, meaning in FIGURES.items():
        console.print(f"{key:>16}: {meaning}", highlight=False, markup=False)
