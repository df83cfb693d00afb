"""Train the incremental lifter: `python -m streamkp.training.lifter --data cmu17_train.npz --out runs/lifter`.

The folder holds the newest checkpoint and the curve (`log.jsonl`); the same command again goes on from there, with the
random numbers that would have come next. The learning rate falls to nothing over `--minutes`, or over `--steps`.

All that a step needs happens on the device: the motion capture lies there, and the examples are made there, so that a
GPU sees in eight minutes what two CPU cores see in days.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from streamkp.errors import StreamkpError, UsageError
from streamkp.evaluation.lift import datasets
from streamkp.models.lift.tcn import LOOKAHEADS
from streamkp.models.networks.tcn import TemporalNetwork
from streamkp.motion import track_view
from streamkp.training import check, clips
from streamkp.training.losses import loss
from streamkp.training.randomness import Random
from streamkp.training.synthesis import Examples, make

WARM_UP = 200  # steps
AVERAGING = 0.999  # of the weights that are kept, from step to step
LARGEST_GRADIENT = 1.0
HEADS = (1.0, 0.2, 0.2)  # weights of the poses that wait for so many rows as `LOOKAHEADS` says
SETTLING, UNSETTLED = 40, 0.3  # rows after a person comes, and their weight beside that of later rows
WEIGHTS = "lifter.safetensors"  # the file of the averaged weights
LOG_EVERY = 50  # steps


def train(
    data: Annotated[
        list[str], typer.Option(help="Motion capture, .npz; FILE=WEIGHT for one whose frames are drawn less often.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint and the log.")],
    checks: Annotated[list[Path] | None, typer.Option("--check", help="Motion capture of other people.")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, all sittings together.")] = 120.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Train for so many steps instead.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Windows per step; 768 on a GPU, 32 on a CPU.")] = None,
    frames: Annotated[int, typer.Option(min=8, help="Rows of a window.")] = 128,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    channels: Annotated[int, typer.Option(min=8, help="Width of the network.")] = 256,
    hidden: Annotated[int, typer.Option(min=8, help="Width within its layers.")] = 320,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    save_every: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 1.0,
    compiled: Annotated[bool, typer.Option(help="On a GPU, compile and record what a step does.")] = True,
) -> None:
    """Train the lifter on motion capture seen by random cameras."""
    began = time.monotonic()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    batch = batch or (768 if gpu else 32)
    random = Random(seed, device)
    examples = Source(_clips(data, device), batch, frames, random, graph=gpu and compiled)
    network = TemporalNetwork(channels, hidden).to(device)
    average = [weight.detach().clone() for weight in network.parameters()]
    optimisers = _optimisers(network, rate)
    state = _resume(out / "checkpoint.pt", network, average, optimisers, random)
    objective = _objective(network, gpu)
    if gpu and compiled:
        objective = torch.compile(objective)
    out.mkdir(parents=True, exist_ok=True)
    step, before, saved = int(state["step"]), float(state["seconds"]), time.monotonic()
    total, count = torch.zeros((), device=device), 0

    def seconds() -> float:
        return before + time.monotonic() - began

    def save() -> None:
        _save(out, network, average, optimisers, random, {"step": step, "seconds": seconds()})

    with (out / "log.jsonl").open("a") as log:
        while (progress := step / steps if steps else seconds() / (60 * minutes)) < 1:
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(step, progress, rate)
            made = examples.next()
            value = objective(made.points, made.scores, made.poses)
            torch.autograd.backward(value)
            nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            keep = min(AVERAGING, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, [weight.detach() for weight in network.parameters()], 1 - keep)
            total += value.detach()
            step, count = step + 1, count + 1
            if step % LOG_EVERY == 0:
                line = {"step": step, "loss": round(float(total) / count, 5), "seconds": round(seconds(), 1)}
                print(json.dumps(line), file=log, flush=True)
                typer.echo(f"step {step}, loss {line['loss']}, {line['seconds']} s")
                total.zero_()
                count = 0
                if time.monotonic() - saved > 60 * save_every:
                    save()
                    saved = time.monotonic()
        save()
        for path in checks or []:
            figures = check.measure(averaged(network, average), datasets.read(path, 0), device)
            typer.echo(f"{path.stem}: {json.dumps(figures)}")
            print(json.dumps({"step": step, path.stem: figures}), file=log, flush=True)
    typer.echo(f"{out / WEIGHTS}: weights after {step} steps")


def learning_rate(step: int, progress: float, highest: float) -> float:
    """A linear rise, and a cosine that falls to 0 at a `progress` of 1."""
    return highest * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


class Source:
    """Batches of examples; with `graph` made by a recorded CUDA graph, for they are hundreds of small kernels."""

    def __init__(self, motions: clips.Clips, batch: int, frames: int, random: Random, *, graph: bool) -> None:
        self._make: Callable[[], Examples] = lambda: make(motions, batch, frames, random)
        self._graph: torch.cuda.CUDAGraph | None = None
        if graph:
            state = random.state()
            for _ in range(2):  # what is made once is made outside
                self._make()
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            self._graph.register_generator_state(random.generator)
            with torch.cuda.graph(self._graph):
                self._made = self._make()
            random.restore(state)

    def next(self) -> Examples:
        """Those of the last call are overwritten, once the device has used them."""
        if self._graph is None:
            return self._make()
        self._graph.replay()
        return self._made


def _objective(network: TemporalNetwork, gpu: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss of examples."""

    def objective(points: Tensor, scores: Tensor, poses: Tensor) -> Tensor:
        mean = track_view.trailing_mean(track_view.summary(points, scores, torch), torch)
        rows, turns = track_view.see(points, scores, mean, torch)
        with torch.autocast(rows.device.type, torch.bfloat16, enabled=gpu):
            out = network(rows)
        batch, frames = poses.shape[:2]
        weight = torch.where(torch.arange(frames, device=rows.device) < SETTLING, UNSETTLED, 1.0)
        value = torch.zeros((), device=rows.device)
        for i, (lookahead, share) in enumerate(zip(LOOKAHEADS, HEADS, strict=True)):
            shown = out[:, lookahead:, i].float()
            pose = track_view.turn_back(turns[:, lookahead:], shown[..., :3])
            counts = weight[lookahead:].expand(batch, -1)
            value = value + share * loss(pose, shown[..., 3], poses[:, : frames - lookahead], counts)
        return value

    return objective


def _optimisers(network: TemporalNetwork, rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices of the layers, AdamW for all others."""
    matrices = [weight for weight in network.layers.parameters() if weight.ndim == 2]
    others = [weight for weight in network.parameters() if not any(weight is matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, weight_decay=0.0, fused=True),
    ]


def _clips(data: list[str], device: torch.device) -> clips.Clips:
    motions, weights = [], []
    for entry in data:
        name, _, weight = entry.partition("=")
        try:
            share = float(weight or 1)
        except ValueError:
            raise UsageError(f"--data {entry}: {weight!r} is not a number") from None
        found = clips.read(Path(name))
        motions += found
        weights += [share] * len(found)
    return clips.Clips(motions, device, weights)


def averaged(network: TemporalNetwork, average: list[Tensor]) -> TemporalNetwork:
    """A network of the same shape with the averaged weights."""
    first = network.layers[0].enter
    out = TemporalNetwork(first.in_features, first.out_features).to(average[0].device)  # type: ignore[arg-type,union-attr]
    with torch.no_grad():
        for weight, value in zip(out.parameters(), average, strict=True):
            weight.copy_(value)
    return out.eval()


def _resume(
    path: Path, network: nn.Module, average: list[Tensor], optimisers: list[torch.optim.Optimizer], random: Random
) -> dict[str, Any]:
    """Where to begin."""
    if not path.exists():
        return {"step": 0, "seconds": 0.0}
    saved: dict[str, Any] = torch.load(path, map_location=random.device, weights_only=True)
    network.load_state_dict(saved["network"])
    averages = load_file(path.with_name(WEIGHTS))
    for (name, _), weight in zip(network.named_parameters(), average, strict=True):
        weight.copy_(averages[name])
    for optimiser, content in zip(optimisers, saved["optimisers"], strict=True):
        optimiser.load_state_dict(content)
    random.restore(saved["random"])
    return saved


def _save(
    out: Path,
    network: TemporalNetwork,
    average: list[Tensor],
    optimisers: list[torch.optim.Optimizer],
    random: Random,
    state: dict[str, float],
) -> None:
    """The averaged weights, and what else it takes to go on; an interruption leaves whole files."""
    parts = {
        "network": network.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "random": random.state(),
    }
    beside = out / "writing"
    save_file({name: value.contiguous() for name, value in averaged(network, average).state_dict().items()}, beside)
    os.replace(beside, out / WEIGHTS)
    torch.save(state | parts, beside)
    os.replace(beside, out / "checkpoint.pt")


def main() -> None:
    """The command; what is wrong with the data is said without a traceback."""
    try:
        typer.run(train)
    except StreamkpError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
