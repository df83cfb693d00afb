"""`streamkp infer`: a task on many files, one JSON each; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import streamkp
from streamkp.errors import OutputError, StreamkpError, UsageError
from streamkp.uris import mask

DECIMALS = 4  # tenths of a millimetre, and far less than a pixel


def infer(
    task: Annotated[str, typer.Argument(help="body-3d-keypoints, body-2d-keypoints, human-wholebody-keypoint, ...")],
    files: Annotated[list[str], typer.Argument(help="Films, images or addresses.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME.json of each file.")] = Path("results"),
    model: Annotated[str | None, typer.Option(help="Catalog name, ModelScope's or MMPose's name, or a file.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Weights for the network that --model names.")] = None,
    pose2d: Annotated[str, typer.Option(help="2D network below a 3D, hand or face network.")] = "blazepose-full",
    video: Annotated[bool, typer.Option("--video", help="Also NAME.mp4, with the results drawn in.")] = False,
    all_persons: Annotated[bool, typer.Option("--all-persons", help="Everybody, not the main person (3D).")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find keypoints in files and write one JSON for each; files whose result is there already are skipped.

    A file that fails is reported, and the others go on; the exit code is then that of the first error.
    """
    run = streamkp.pipeline(task, model, checkpoint=checkpoint, pose2d=pose2d, persons="all" if all_persons else None)
    jobs = _jobs(files, out)
    console, errors = Console(stderr=True, quiet=quiet), Console(stderr=True, soft_wrap=True)
    failures: list[StreamkpError] = []
    skipped = 0
    with run, _progress(console) as progress:
        overall = progress.add_task("files", total=len(jobs))
        for source, target in jobs:
            about = {"task": run.task, "model": run.model, "input": mask(source)}
            try:
                if _finished(about, target, video):
                    skipped += 1
                else:
                    _one(run, about, source, target, video, progress)
            except StreamkpError as error:
                failures.append(error)
                errors.print(f"streamkp: {mask(source)}: {error}", style="red", markup=False, highlight=False)
            progress.advance(overall)
    done = len(jobs) - skipped - len(failures)
    console.print(f"{done} done, {skipped} there already, {len(failures)} failed; results in {out}", highlight=False)
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _jobs(files: Sequence[str], out: Path) -> list[tuple[str, Path]]:
    """Each input and the JSON file for it; inputs of one name keep apart by a digest of their addresses."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {out} cannot be made: {error.strerror}") from None
    files = list(dict.fromkeys(files))
    stems = [_stem(file) for file in files]
    return [
        (file, out / f"{stem if stems.count(stem) == 1 else f'{stem}-{_digest(file)}'}.json")
        for file, stem in zip(files, stems, strict=True)
    ]


def _stem(file: str) -> str:
    if "://" in file:
        address = urlsplit(file)
        return Path(address.path).stem or address.hostname or "result"
    return Path(file.removeprefix("sample:")).stem


def _digest(file: str) -> str:
    address = file if "://" in file else os.path.abspath(file)
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def _finished(about: dict[str, str], target: Path, video: bool) -> bool:
    """Whether the result is there. Raises `UsageError` where the file that has its name is something else."""
    if not target.exists():
        return False
    try:
        there = json.loads(target.read_text("utf-8"))
        same = {name: there.get(name) for name in about} == about
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise UsageError(f"{target} is there, and not the result of this task, model and input: choose another --out")
    return not video or target.with_suffix(".mp4").exists()


def _one(run: Any, about: dict[str, str], source: str, target: Path, video: bool, progress: Progress) -> None:
    """Work on one file. The JSON comes last: where it is, the video is too."""
    row = progress.add_task(target.stem, total=None)

    def show(done: int, total: int | None) -> None:
        progress.update(row, completed=done, total=total)

    try:
        if not video:
            result = run(source, progress=show)
        else:
            with _replacing(target.with_suffix(".mp4")) as drawn:
                result = run(source, output_video=drawn, progress=show)
            result["output_video"] = target.with_suffix(".mp4").name
        with _replacing(target) as file:
            file.write_text(json.dumps(about | {name: _plain(value) for name, value in result.items()}), "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to {target.parent}: {error.strerror}") from None
    finally:
        progress.remove_task(row)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which gets its own name if all went well; otherwise nothing is left."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Arrays as nested lists; a frame in which the person is not seen (NaN) is null."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, np.ndarray):
        return value
    if np.issubdtype(value.dtype, np.floating):
        rounded = np.round(value.astype(np.float64), DECIMALS)
        return [row.tolist() if np.isfinite(row).all() else None for row in rounded]
    return value.tolist()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
