"""`streamkp eval`: how accurate a model is on data of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamkp.cli.eval_multiview import multiview
from streamkp.cli.eval_reps import reps
from streamkp.cli.eval_steadiness import steadiness
from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog

eval_app = typer.Typer(help="Measure the accuracy of a model.", no_args_is_help=True, rich_markup_mode=None)
eval_app.command()(multiview)
eval_app.command()(reps)
eval_app.command()(steadiness)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DETECTOR = "efficientdet-lite0"
_LIVE = ("mpjpe_mm", "p_mpjpe_mm", "mpjve_mm")  # of the tables for lookahead and stride
_LONGEST_WAIT = 95  # frames of the longest window after its first
LEAST_SCORE = 0.05  # of a detection; AP wants the doubtful ones too, ranked by their score


@eval_app.command()
def lifter(
    model: Annotated[str, typer.Option(help="A lifter of the catalog.")],
    data: Annotated[
        Path,
        typer.Option(help="An .npz file: motion capture, VideoPose3D's Human3.6M files, or MPI-INF-3DHP's test set."),
    ],
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of one's own: .onnx, .safetensors or .pth.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the cameras and the noise.")] = 0,
    lookahead: Annotated[
        str, typer.Option(metavar="K,...", help="Also live, each pose after K more frames: 0,2,5,15.")
    ] = "",
    stride: Annotated[
        str,
        typer.Option(
            "--stride", "--hop", metavar="N,...", help="Also live, the network run in every N-th frame only: 1,2,4."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """3D error in mm of whole sequences, from the 2D poses of the data (clean) and from disturbed ones (noisy)."""
    from streamkp.evaluation.lift import datasets
    from streamkp.evaluation.lift.evaluate import PROTOCOLS, evaluate
    from streamkp.evaluation.lift.live import Live, evaluate_live
    from streamkp.models.lift.base import LifterOptions
    from streamkp.models.lift.sequence import open_sequence_lifter

    waits = Live(_numbers("--lookahead", lookahead, 0), _numbers("--stride", stride, 1))
    opened = open_sequence_lifter(model, LifterOptions(checkpoint=checkpoint))
    dataset = datasets.read(data, seed)
    with _progress() as progress:
        task = progress.add_task(model, total=2 * len(dataset.sequences) * (2 if waits else 1))
        live = evaluate_live(dataset, opened, seed, waits, lambda: progress.advance(task)) if waits else {}
        figures = evaluate(dataset, opened, opened.skeleton, seed, lambda: progress.advance(task))
    report = {
        "model": model,
        "checkpoint": str(checkpoint) if checkpoint else None,
        "data": dataset.name,
        "seed": seed,
        "protocol": dataset.protocol,
        "rate_hz": dataset.rate,
        "protocols": PROTOCOLS,
        **figures,
        **live,
        "published": _published(model),
    }
    if as_json:
        typer.echo(json.dumps(report))
        return
    console = Console()
    for column in ("clean", "noisy"):
        title = f"{model} on {dataset.name}, {column} 2D"
        table = Table("action", *map(_heading, PROTOCOLS), "frames", title=title, title_justify="left")
        for action, row in (*report[column]["actions"].items(), ("all", report[column])):
            if action == "all":
                table.add_section()
            table.add_row(action, *(_number(key, row[key]) for key in PROTOCOLS), str(row["frames"]))
        console.print(table)
    for what, rows in ((what, report[what]) for what in ("lookahead", "stride") if what in report):
        table = Table(what, *(f"{column} {_heading(key)}" for column in ("clean", "noisy") for key in _LIVE), "frames")
        table.title, table.title_justify = f"{model} on {dataset.name}, live", "left"
        for n, columns in rows.items():
            values = [_number(key, columns[column][key]) for column in ("clean", "noisy") for key in _LIVE]
            table.add_row(n, *values, str(columns["clean"]["frames"]))
        console.print(table)
    for n, columns in report.get("lookahead", {}).items():
        if "within_sigma" in columns["clean"]:
            shares = ", ".join(f"{columns[column]['within_sigma']:.0%} {column}" for column in ("clean", "noisy"))
            console.print(
                f"lookahead {n}: coordinates within one sigma of the truth: {shares} (68% if normally distributed)",
                highlight=False, markup=False,
            )  # fmt: skip
    console.print(f"{dataset.protocol}; velocity per frame at {dataset.rate:g} Hz", highlight=False, markup=False)
    for key, meaning in PROTOCOLS.items():
        console.print(f"{key:>12}: {meaning}", highlight=False, markup=False)
    _print_published(console, model, report["published"])


@eval_app.command()
def keypoints(
    model: Annotated[str, typer.Option(help="A 2D pose network: catalog name or file.")],
    data: Annotated[Path, typer.Option(help="Annotations in COCO's JSON, or a folder that holds one such file.")],
    images: Annotated[Path | None, typer.Option(help="The folder of the images, where it is another one.")] = None,
    boxes: Annotated[
        Literal["gt", "detector"], typer.Option(help="Where people are: as annotated, or as the detector finds them.")
    ] = "gt",
    detector: Annotated[str, typer.Option(help="The person detector for --boxes detector.")] = DETECTOR,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the networks.")] = 2,
    as_json: Json = False,
) -> None:
    """COCO's AP and AR (body, whole body); PCK, AUC and EPE of hands; NME of faces."""
    from streamkp.evaluation.keypoints_2d import annotations
    from streamkp.evaluation.keypoints_2d.evaluate import evaluate
    from streamkp.models.registry import open_detector, open_estimator

    truth = annotations.read(data)
    estimator = open_estimator(model, threads=threads)
    finder = open_detector(detector, threads=threads, score=LEAST_SCORE) if boxes == "detector" else None
    try:
        with _progress() as progress:
            task = progress.add_task(model, total=len(truth.images))
            figures = evaluate(truth, estimator, finder, images=images, advance=lambda: progress.advance(task))
    finally:
        estimator.close()
        if finder is not None:
            finder.close()
    report = {
        "model": model,
        "data": str(truth.path),
        "boxes": boxes,
        "detector": detector if finder is not None else None,
        "images": len(truth.images),
        **figures,
        "published": _published(model),
    }
    if as_json:
        typer.echo(json.dumps(report))
        return
    console = Console()
    where = "annotated boxes" if finder is None else f"boxes of {detector}"
    parts: dict[str, dict[str, float | None]] = report["figures"]
    names = list(next(iter(parts.values())))
    table = Table("part", *names, title=f"{model} on {truth.path.name}, {where}", title_justify="left")
    for part, row in parts.items():
        table.add_row(part, *(_number(name, row[name]) for name in names))
    console.print(table)
    people = f"{report['people']} people in {len(truth.images)} images, {len(report['joints'])} joints compared"
    console.print(f"{people}. AP and AR as COCO defines them; found: share of people with OKS of 0.5 or more,", end=" ")
    console.print(
        "oks_found: their mean OKS; oks_all: that of everybody, 0 for whom nothing was found", highlight=False
    )
    _print_published(console, model, report["published"])


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), transient=True)


def _numbers(option: str, text: str, least: int) -> list[int]:
    numbers = [int(part) if part.strip().isdecimal() else -1 for part in text.split(",")] if text else []
    if not all(least <= number <= _LONGEST_WAIT for number in numbers):
        raise UsageError(
            f"{option} is whole numbers from {least} to {_LONGEST_WAIT} with commas, such as 1,2,4: {text!r}"
        )
    return numbers


def _heading(key: str) -> str:
    """The name of a figure in words, so that a narrow terminal breaks it between them."""
    return key.replace("_", " ")


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name.endswith(("_mm", "_px")) else f"{value:.3f}"


def _published(model: str) -> dict[str, float]:
    """What the authors of a model give; {} for a file of one's own."""
    try:
        return dict(catalog.get(model).published)
    except ModelError:
        return {}


def _print_published(console: Console, model: str, figures: dict[str, Any]) -> None:
    if figures:
        console.print("Published by its authors, on their data; not measured here:", highlight=False, markup=False)
        for what, value in figures.items():
            console.print(f"  {what}: {value:g}", highlight=False, markup=False)
    else:
        console.print(f"The catalog has no published figures of {model}.", highlight=False, markup=False)
