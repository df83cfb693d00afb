"""Train the shipped lifter: `python -m streamkp.training.lifter --data cmu17_train.npz --out runs/lifter`.

The folder holds the newest checkpoint and the curve (`log.jsonl`); the same command again goes on from there. The
examples of step i depend on the seed and i alone, so a run that was interrupted has seen what it would have seen. The
learning rate rises, stays, and falls over the last part of the steps: with other `--steps` a run can be ended early
or go on for longer.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from streamkp.errors import StreamkpError, UsageError
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import evaluate
from streamkp.models import zoo
from streamkp.models.lift.hdformer import person_view
from streamkp.models.lift.hdformer.windows import SequenceOfWindows
from streamkp.models.lift.sequence import SequenceLifter
from streamkp.models.networks.hdformer import HDFormer
from streamkp.training import clips
from streamkp.training.losses import loss
from streamkp.training.synthesis import Synthesis

CHANNELS = (16, 32, 64, 96, 128)
WARM_UP, COOL_DOWN = 300, 0.25  # steps; share of the steps
AVERAGING = 0.998  # of the weights that are kept, from step to step
LARGEST_GRADIENT = 1.0
CHECK_EVERY = 1000  # steps


class Batches(Dataset[tuple[torch.Tensor, ...]]):
    """Examples of the steps from `first` on."""

    def __init__(self, synthesis: Synthesis, first: int, steps: int) -> None:
        self._synthesis, self._first, self._steps = synthesis, first, steps

    def __len__(self) -> int:
        return self._steps - self._first

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        made = self._synthesis[self._first + index]
        return tuple(map(torch.from_numpy, (made.inputs, made.poses, made.known)))


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Of a step: linear rise, constant, linear fall to a hundredth."""
    rise = min(1.0, (step + 1) / WARM_UP)
    fall = min(1.0, (steps - step) / max(1.0, COOL_DOWN * steps))
    return highest * rise * max(fall, 0.01)


def train(
    data: Annotated[list[Path], typer.Option(help="Motion capture, .npz of [T, 17, 3] in metres; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the log.")],
    check: Annotated[Path | None, typer.Option(help="Motion capture of other people, to see how well it does.")] = None,
    start: Annotated[Path | None, typer.Option(help="Weights to begin with, such as the shipped .onnx.")] = None,
    steps: Annotated[int, typer.Option(min=1)] = 10000,
    batch: Annotated[int, typer.Option(min=2, help="Windows in a step.")] = 48,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 1.5e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the network.")] = 2,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
) -> None:
    """Train HDFormer on motion capture seen by random cameras; two hours on two CPU cores, minutes on a GPU."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    motions = [clip for path in data for clip in clips.read(path)]
    unseen = None if check is None else datasets.read(check, seed)
    out.mkdir(parents=True, exist_ok=True)
    network = _network(start).to(device).train()
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING), use_buffers=True)  # type: ignore[no-untyped-call]
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01, fused=True)
    parts: dict[str, Any] = {"network": network, "average": average, "optimiser": optimiser}
    first = _resume(out / "checkpoint.pt", parts, device)
    examples = Batches(Synthesis(motions, seed, batch), first, steps)
    batches = DataLoader(examples, batch_size=None, num_workers=1, prefetch_factor=8)
    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with bar, (out / "log.jsonl").open("a") as log:
        task = bar.add_task("training", total=steps, completed=first, loss="")
        recent, began = [], time.monotonic()
        for step, (inputs, poses, known) in enumerate(batches, first):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, rate)
            value = loss(network(inputs.to(device)), poses.to(device), known.to(device))
            optimiser.zero_grad()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            optimiser.step()
            average.update_parameters(network)
            recent.append(float(value.detach()))
            done = step + 1
            bar.update(task, completed=done, loss=f"loss {np.mean(recent[-50:]):.4f}")
            if done % save_every == 0 or done == steps:
                _save(out / "checkpoint.pt", parts, done)
                line = {"step": done, "loss": float(np.mean(recent)), "seconds": round(time.monotonic() - began, 1)}
                if unseen is not None and (done % CHECK_EVERY == 0 or done == steps):
                    line |= _check(average.module, unseen, device)
                print(json.dumps(line), file=log, flush=True)
                recent.clear()
    torch.save(average.module.state_dict(), out / "lifter.pt")
    typer.echo(f"{out / 'lifter.pt'}: weights after {steps} steps; python -m streamkp.training.export writes the ONNX")


def _network(start: Path | None) -> HDFormer:
    if start is None:
        return HDFormer(person_view.CHANNELS, CHANNELS, dropout=0.0)
    network = cast(HDFormer, zoo.load("hdformer", start, dropout=0.0))
    if network.in_channels != person_view.CHANNELS:
        raise UsageError(
            f"{start} reads {network.in_channels} channels, and this training makes {person_view.CHANNELS}"
        )
    return network


def _resume(path: Path, parts: dict[str, Any], device: torch.device) -> int:
    """The step to begin with."""
    if not path.exists():
        return 0
    saved = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return int(saved["step"])


def _save(path: Path, parts: dict[str, Any], step: int) -> None:
    beside = path.with_suffix(".writing")
    torch.save({"step": step, **{name: part.state_dict() for name, part in parts.items()}}, beside)
    os.replace(beside, path)  # an interruption leaves the old checkpoint or the new one


def _check(network: torch.nn.Module, unseen: datasets.Dataset, device: torch.device) -> dict[str, float]:
    """Errors in mm on people that it has not seen, as `streamkp eval lifter` measures them."""

    def run(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return cast("NDArray[np.float32]", network(torch.from_numpy(inputs).to(device)).cpu().numpy())

    network.eval()
    windows = person_view.PersonViewNetwork(run)
    lift = SequenceLifter("the network", "h36m17", SequenceOfWindows(windows, person_view.FRAMES // 2))
    report = evaluate(unseen, lift, lift.skeleton, seed=0)
    keys = ("mpjpe_mm", "p_mpjpe_mm", "mpjve_mm")
    return {f"{column}_{key}": round(report[column][key], 2) for column in ("clean", "noisy") for key in keys}


def main() -> None:
    """The command; what is wrong with the data is said without a traceback."""
    try:
        typer.run(train)
    except StreamkpError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
