"""`streamkp infer`: a task on many files, one JSON each; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import streamkp
from streamkp.cli.output import printable
from streamkp.errors import OutputError, SourceError, StreamkpError, UsageError
from streamkp.graph.outputs import refuse_inputs
from streamkp.sources.decode import Decode
from streamkp.uris import expand_argument, mask, mask_address

_DEFAULTS = {"pose2d": "blazepose-full", "detector": "efficientdet-lite0", "tiles": 1}
DECIMALS = 4  # tenths of a millimetre, and far less than a pixel


def infer(
    task: Annotated[str, typer.Argument(help="body-3d-keypoints, body-2d-keypoints, human-wholebody-keypoint, ...")],
    files: Annotated[list[str], typer.Argument(help="Videos, images or addresses.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for NAME.json of each file.")] = Path("results"),
    model: Annotated[str | None, typer.Option(help="Catalog name, ModelScope's or MMPose's name, or a file.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Weights for the network that --model names.")] = None,
    pose2d: Annotated[str, typer.Option(help="2D network below a 3D, hand or face network.")] = "blazepose-full",
    video: Annotated[bool, typer.Option("--video", help="Also NAME.mp4, with the results drawn in.")] = False,
    persons: Annotated[
        Literal["main", "prominent", "all"] | None,
        typer.Option(
            help="Who is in the result: the main person over all frames, the most prominent one of each frame, or all; "
            "by default main for 3D and all for 2D."
        ),
    ] = None,
    all_persons: Annotated[bool, typer.Option("--all-persons", help="As --persons all.")] = False,
    detector: Annotated[str, typer.Option(help="Who finds the people: catalog name or file.")] = "efficientdet-lite0",
    score: Annotated[float | None, typer.Option(min=0, max=1, help="Least score of a person for the detector.")] = None,
    max_persons: Annotated[int | None, typer.Option(min=1, help="People found and followed at most.")] = None,
    tiles: Annotated[
        int, typer.Option(min=1, max=8, help="Also look in N x N overlapping parts, for small people in a crowd.")
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Find keypoints in files and write one JSON for each; files whose result is there already are skipped.

    A file that fails is reported, and the others go on; the exit code is then that of the first error. A file that is
    there and not the result of the same task, model, input and options is left alone, unless --overwrite is given.
    """
    who = persons or ("all" if all_persons else None)
    detection = {"detector": detector, "score": score, "max_persons": max_persons, "tiles": tiles}
    run = streamkp.pipeline(
        task, model, checkpoint=checkpoint, pose2d=pose2d, persons=who, detector=detector, score=score,
        max_persons=max_persons, tiles=tiles,
    )  # fmt: skip
    settings = {"checkpoint": checkpoint, "pose2d": pose2d, "persons": who, **detection}
    options = {name: value for name, value in settings.items() if value not in (None, _DEFAULTS.get(name))}
    files = [expand_argument(file, os.environ) for file in files]
    jobs = _jobs(files, out, video)
    console, errors = Console(stderr=True, quiet=quiet), Console(stderr=True, soft_wrap=True)
    failures: list[StreamkpError] = []
    skipped = cut = 0
    with run, _progress(console) as progress:
        overall = progress.add_task("files", total=len(jobs))
        for source, target in jobs:
            about = {"task": run.task, "model": run.model, "input": mask_address(source), "options": options}
            try:
                if not overwrite and _finished(about, target, video):
                    skipped += 1
                else:
                    reason = _one(run, about, source, target, video, progress)
                    if reason is not None:
                        cut += 1
                        errors.print(
                            f"streamkp: {mask_address(source)}: only a part: {mask(reason)}",
                            style="red", markup=False, highlight=False,
                        )  # fmt: skip
            except StreamkpError as error:
                failures.append(error)
                errors.print(
                    f"streamkp: {mask_address(source)}: {mask(str(error))}", style="red", markup=False, highlight=False
                )
            progress.advance(overall)
    done = len(jobs) - skipped - len(failures)
    console.print(
        f"{done} done{f' ({cut} of them in part)' if cut else ''}, {skipped} there already, {len(failures)} failed; "
        f"results in {out}",
        highlight=False,
        markup=False,
    )
    if failures or cut:
        raise typer.Exit(failures[0].exit_code if failures else SourceError.exit_code)


def _jobs(files: Sequence[str], out: Path, video: bool) -> list[tuple[str, Path]]:
    """Each input and the JSON file for it; inputs of one name keep apart by a digest of their addresses.

    Raises:
        UsageError: a result would have the name of an input.
        OutputError: the folder cannot be made.
    """
    files = list(dict.fromkeys(files))
    stems = [_stem(file) for file in files]
    jobs = [
        (file, out / f"{stem if stems.count(stem) == 1 else f'{stem}-{_digest(file)}'}.json")
        for file, stem in zip(files, stems, strict=True)
    ]
    inputs = {f"the input {mask_address(file)}": path for file in files if (path := Decode.file_of(file)) is not None}
    for _, target in jobs:
        refuse_inputs("infer", [target, *([target.with_suffix(".mp4")] if video else [])], inputs)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {out} cannot be made: {error.strerror}") from None
    return jobs


def _stem(file: str) -> str:
    """A name for the result: of the file, or of the last part of an address without its credentials."""
    if "://" in file:
        try:
            address = urlsplit(mask_address(file))
            name = Path(address.path).stem or address.hostname or "result"
        except ValueError:  # such as a bracket without its pair; opening it will say so
            name = "result"
        return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:100] or "result"
    return Path(file.removeprefix("sample:")).stem


def _digest(file: str) -> str:
    address = file if "://" in file else os.path.abspath(file)
    return hashlib.sha256(address.encode()).hexdigest()[:8]


def _finished(about: dict[str, Any], target: Path, video: bool) -> bool:
    """Whether the result is there. Raises `UsageError` where a file that has its name is something else."""
    drawn = target.with_suffix(".mp4")
    if not target.exists():
        if video and drawn.exists():
            raise UsageError(f"{drawn} is there, and no result beside it: choose another --out, or --overwrite")
        return False
    try:
        there = json.loads(target.read_text("utf-8"))
        there.setdefault("options", {})
        same = {name: there.get(name) for name in about} == about
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise UsageError(
            f"{target} is there, and not the result of this task, model, input and options: choose another --out, "
            "or --overwrite"
        )
    return "incomplete" not in there and (not video or drawn.exists())


def _one(run: Any, about: dict[str, Any], source: str, target: Path, video: bool, progress: Progress) -> str | None:
    """Work on one file. The JSON comes last: where it is, the video is too. Returns why it is not all of the file."""
    row = progress.add_task(printable(target.stem), total=None)

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
    incomplete: str | None = result.get("incomplete")
    return incomplete


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
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        return value
    if np.issubdtype(value.dtype, np.floating):
        rounded = np.round(value.astype(np.float64), DECIMALS)
        return [row.tolist() if np.isfinite(row).all() else None for row in rounded]
    return value.tolist()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
