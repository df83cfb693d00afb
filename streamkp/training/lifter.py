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
from typing import Annotated, Any, TypeVar

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamkp.errors import StreamkpError, UsageError
from streamkp.evaluation.lift import datasets
from streamkp.models.networks.tcn import TemporalNetwork
from streamkp.models.networks.tcn_shape import LOOKAHEADS
from streamkp.motion import track_view
from streamkp.training import check, clips
from streamkp.training.losses import loss
from streamkp.training.optimiser import Optimiser
from streamkp.training.randomness import Random
from streamkp.training.synthesis import Examples, make

WARM_UP = 200  # steps
AVERAGING = 0.999  # of the weights that are kept, from step to step
HEADS = (1.0, 0.2, 0.2)  # weights of the poses that wait for so many rows as `LOOKAHEADS` says
SETTLING, UNSETTLED = 40, 0.3  # rows after a person comes, and their weight beside that of later rows
WEIGHTS = "lifter.safetensors"  # the file of the averaged weights
LOG_EVERY = 50  # steps
SHOWN_EVERY = 5.0  # seconds
ALIKE = 0.3  # of a step: how far off its recording may be, for sums are not rounded alike
UNRECORDED = 3  # steps before one is recorded: what is made once is made in them

Made = TypeVar("Made")


def train(
    data: Annotated[
        list[str], typer.Option(help="Motion capture, .npz; FILE=WEIGHT for one whose frames are drawn less often.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint and the log.")],
    checks: Annotated[list[Path] | None, typer.Option("--check", help="Motion capture of other people.")] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train, all sittings together.")] = 120.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Train for so many steps instead.")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="Windows per step; 512 on a GPU, 32 on a CPU.")] = None,
    frames: Annotated[int, typer.Option(min=8, help="Rows of a window.")] = 128,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 5e-3,
    channels: Annotated[int, typer.Option(min=8, help="Width of the network.")] = 256,
    hidden: Annotated[int, typer.Option(min=8, help="Width within its layers.")] = 320,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    save_every: Annotated[float, typer.Option(min=0.0, help="Minutes between checkpoints.")] = 1.0,
    compiled: Annotated[
        bool,
        typer.Option(help="On a GPU, compile and record what a step does: faster where it works, which it may not."),
    ] = False,
) -> None:
    """Train the lifter on motion capture seen by random cameras."""
    began = time.monotonic()
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpu = device.type == "cuda"
    batch = batch or (512 if gpu else 32)
    random = Random(seed, device)
    examples = Source(_clips(data, device), batch, frames, random, graph=gpu and compiled)
    network = TemporalNetwork(channels, hidden).to(device)
    training = Training(network, examples, gpu=gpu, compiled=gpu and compiled)
    state = _resume(out / "checkpoint.pt", training, random)
    out.mkdir(parents=True, exist_ok=True)
    step, before, saved, shown = int(state["step"]), float(state["seconds"]), time.monotonic(), began
    first, count = step, 0

    def seconds() -> float:
        return before + time.monotonic() - began

    def save() -> None:
        _save(out, training, random, {"step": step, "seconds": seconds()})

    with (out / "log.jsonl").open("a") as log:
        while (progress := step / steps if steps else seconds() / (60 * minutes)) < 1:
            if step == first + UNRECORDED and gpu and compiled:
                training.record()
            training.step(step, learning_rate(step, progress, rate))
            step, count = step + 1, count + 1
            if step % LOG_EVERY == 0:
                line = {"step": step, "loss": round(training.mean_loss(count), 5), "seconds": round(seconds(), 1)}
                print(json.dumps(line), file=log, flush=True)
                if time.monotonic() - shown > SHOWN_EVERY:
                    typer.echo(f"step {step}, loss {line['loss']}, {line['seconds']} s")
                    shown = time.monotonic()
                count = 0
                if time.monotonic() - saved > 60 * save_every:
                    save()
                    saved = time.monotonic()
        save()
        for path in checks or []:
            figures = check.measure(averaged(network, training.average), datasets.read(path, 0), device)
            typer.echo(f"{path.stem}: {json.dumps(figures)}")
            print(json.dumps({"step": step, path.stem: figures}), file=log, flush=True)
    typer.echo(f"{out / WEIGHTS}: weights after {step} steps")


def learning_rate(step: int, progress: float, highest: float) -> float:
    """A linear rise, and a cosine that falls to 0 at a `progress` of 1."""
    return highest * min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


class Source:
    """Batches of examples; with `graph` made by a recorded CUDA graph, for they are hundreds of small kernels."""

    def __init__(self, motions: clips.Clips, batch: int, frames: int, random: Random, *, graph: bool) -> None:
        self.next: Callable[[], Examples] = lambda: make(motions, batch, frames, random)
        """The next batch; those of the last call may be overwritten, once the device has used them."""
        self.in_place = False  # whether every batch lies where the last one did
        if graph:
            state = random.state()
            for _ in range(2):  # what is made once is made outside
                self.next()
            replay = recorded(self.next, random.generator)
            if replay is not None:
                self.next, self.in_place = replay, True
            random.restore(state)


class Training:
    """The network, its averaged weights and its optimiser, and what a step does with them."""

    def __init__(self, network: TemporalNetwork, examples: Source, *, gpu: bool, compiled: bool) -> None:
        self.network = network
        self.average = [weight.detach().clone() for weight in network.parameters()]
        matrices = [weight for weight in network.layers.parameters() if weight.ndim == 2]
        others = [weight for weight in network.parameters() if not any(weight is matrix for matrix in matrices)]
        self.optimiser = Optimiser(matrices, others)
        self._examples = examples
        self._plain = _objective(network, gpu)
        self._objective = torch.compile(self._plain) if compiled else self._plain
        device = self.average[0].device
        self._rate, self._share, self._loss = (torch.zeros((), device=device) for _ in range(3))
        self._replay: Callable[[], None] | None = None

    def step(self, step: int, rate: float) -> None:
        """One step on new examples at a learning rate; the device may still be at work after it."""
        self._rate.fill_(rate)
        self._share.fill_(1 - min(AVERAGING, (1 + step) / (10 + step)))
        self._made = self._examples.next()
        if self._replay:
            self._replay()
            return
        try:
            self._update()
        except Exception as error:
            if self._objective is self._plain:
                raise
            if isinstance(error, torch.AcceleratorError):  # after that nothing runs on the device in this process
                raise UsageError(
                    f"the compiled steps broke the device: run it again with --no-compiled ({error})"
                ) from None
            typer.echo(f"compiled steps fail, so that training goes on without, more slowly: {error}")
            self._objective = self._plain
            self._update()

    def record(self) -> None:
        """Let the following steps be one CUDA graph, where it can be recorded and does what a step did before."""
        replay = recorded(self._update) if self._examples.in_place else None
        if replay is None:
            return
        weights = [weight.detach() for weight in self.network.parameters()]
        changed = [*weights, *self.average, *self.optimiser.state(), self._loss]
        before = [each.clone() for each in changed]
        ends = []
        for update in (self._update, replay):
            update()
            ends.append([weight.clone() for weight in weights])
            for each, value in zip(changed, before, strict=True):
                each.copy_(value)
        moved = sum(float((end - start).norm()) for end, start in zip(ends[0], before, strict=False))
        apart = sum(float((end - other).norm()) for end, other in zip(*ends, strict=True))
        if apart < ALIKE * moved:
            self._replay = replay
        else:
            typer.echo(f"the CUDA graph of a step is {apart / moved:.2g} of a step off, so that it is not used")

    def mean_loss(self, steps: int) -> float:
        """Of the steps since the last call, as many as `steps`."""
        loss = float(self._loss) / steps
        self._loss.zero_()
        return loss

    def _update(self) -> None:
        value = self._objective(self._made.points, self._made.scores, self._made.poses)
        self.optimiser.step(torch.autograd.grad(value, self.optimiser.weights), self._rate)
        with torch.no_grad():
            change = torch._foreach_sub(list(self.network.parameters()), self.average)
            torch._foreach_mul_(change, self._share)
            torch._foreach_add_(self.average, change)
            self._loss += value.detach()


def recorded(function: Callable[[], Made], generator: torch.Generator | None = None) -> Callable[[], Made] | None:
    """A CUDA graph of what `function`, which has run before, does on the device; None, and said, where it fails.

    The graph returns the same tensors with new content each time.
    """
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            made = function()
    except Exception as error:
        typer.echo(f"no CUDA graph can be recorded, so that steps take longer: {error}")
        return None

    def replay() -> Made:
        graph.replay()
        return made

    return replay


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


def _resume(path: Path, training: Training, random: Random) -> dict[str, Any]:
    """Where to begin."""
    if not path.exists():
        return {"step": 0, "seconds": 0.0}
    saved: dict[str, Any] = torch.load(path, map_location=random.device, weights_only=True)
    training.network.load_state_dict(saved["network"])
    averages = load_file(path.with_name(WEIGHTS))
    for (name, _), weight in zip(training.network.named_parameters(), training.average, strict=True):
        weight.copy_(averages[name])
    training.optimiser.restore(saved["optimiser"])
    random.restore(saved["random"])
    return saved


def _save(out: Path, training: Training, random: Random, state: dict[str, float]) -> None:
    """The averaged weights, and what else it takes to go on; an interruption leaves whole files."""
    parts = {
        "network": training.network.state_dict(),
        "optimiser": training.optimiser.state(),
        "random": random.state(),
    }
    weights = averaged(training.network, training.average).state_dict()
    beside = out / "writing"
    save_file({name: value.contiguous() for name, value in weights.items()}, beside)
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
