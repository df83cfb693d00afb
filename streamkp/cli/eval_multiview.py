"""`streamkp eval multiview`: live 3D of each camera alone, against what calibrated cameras see together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamkp.errors import UsageError


def multiview(
    calib: Annotated[Path, typer.Option(help="The cameras: .json, Qualisys .qca.txt or Pose2Sim .toml.")],
    videos: Annotated[
        list[Path], typer.Option(help="Synchronised videos named after the cameras, or a folder of them; may repeat.")
    ],
    more_videos: Annotated[list[Path] | None, typer.Argument(help="More of them.")] = None,
    model: Annotated[str, typer.Option(help="Lifter: catalog name or checkpoint file.")] = "tcn-streamkp",
    pose: Annotated[str, typer.Option(help="2D pose network of the live graph.")] = "blazepose-full",
    reference: Annotated[
        Path | None, typer.Option(help="Reference as .npz: xyz in metres, world axes. Made from the views without.")
    ] = None,
    reference_pose: Annotated[
        str | None, typer.Option(help="2D pose network for a reference made from the views; that of --pose without.")
    ] = None,
    lookahead: Annotated[int, typer.Option(min=0, help="Frames by which the lifter may be late.")] = 0,
    smooth_3d: Annotated[
        bool, typer.Option("--smooth-3d/--no-smooth-3d", help="Steady the 3D behind the lifter.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each network.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Error, jitter, bones and feet of each view's live 3D, beside BlazePose's world landmarks on the same frames."""
    from streamkp.evaluation.multi_camera import calibration
    from streamkp.evaluation.multi_camera.evaluate import evaluate, match_videos

    if reference is not None and reference_pose is not None:
        raise UsageError("--reference is given and --reference-pose would make another one: leave one of them out")
    cameras = calibration.read(calib)
    files = match_videos(cameras, [*videos, *(more_videos or [])])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(model, total=len(files))
        report = evaluate(
            cameras,
            files,
            model=model,
            pose=pose,
            given=reference,
            reference_pose=reference_pose,
            lookahead=lookahead,
            smooth_3d={} if smooth_3d else None,
            threads=threads,
            advance=lambda: progress.advance(task),
        )
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    from streamkp.evaluation.multi_camera.evaluate import FIGURES

    console = Console()
    reference = report["reference"]
    for camera, models in report["views"].items():  # figures in rows: as columns they do not fit a terminal
        table = Table(camera, *models, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for key in (*FIGURES, "frames", "rate_hz"):
            table.add_row(key.replace("_", " "), *(_number(row[key]) for row in models.values()))
        console.print(table)
    console.print(
        f"reference: {reference['origin']}; {reference['frames']} frames at {reference['rate_hz']:.3g} Hz; "
        f"reprojection {_number(reference['reprojection_px'])} px; jitter {_number(reference['jitter_mm'])} mm; "
        f"bones vary by {_number(reference['bone_spread_mm'])} mm",
        highlight=False,
        markup=False,
    )
    for key, meaning in FIGURES.items():
        console.print(f"{key:>25}: {meaning}", highlight=False, markup=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}"
