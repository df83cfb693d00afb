"""Time of a new frame for convolution lifters: incremental, and by evaluating the window again.

Speed does not depend on the weights: they are random, with a seed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from streamkp.models import zoo
from streamkp.models.lift.incremental import IncrementalNetwork, Track
from streamkp.models.networks.tpnet import TPNet
from streamkp.models.networks.videopose3d import VideoPose3D
from streamkp.runtimes.torch import open_run


def run(
    models: Sequence[str],
    people: int,
    threads: int,
    rounds: int,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, dict[str, Any]]:
    """Figures by model, for one person and for `people` at once, on the CPU; the forms take turns in every round.

    `frames`: the receptive field.
    `ms`: by number of people and form, the median of the time per person and frame. The forms are `window`, the
        dilated network over the whole window; `strided`, the window in the form that computes but one pose; `newest`
        and `middle`, incremental for the newest frame's pose (lookahead 0) and for the middle one (the most).
    `window_over_incremental`, `strided_over_incremental`: ratios to `newest` for `people`; with `_one_person`, for
        one; with `_middle`, of the window to `middle`.
    `difference`: the largest between a window's pose and the incremental one.

    `advance` is called after each round, outside of what is timed, with its share of one model's work.
    """
    numbers = sorted({1, people})
    figures: dict[str, dict[str, Any]] = {}
    for name in models:
        forms = _Forms(name, threads)
        ms = {n: forms.measure(n, rounds, lambda share: advance(share / len(numbers))) for n in numbers}
        many, one = ms[people], ms[1]
        figures[name] = {
            "frames": forms.frames,
            "people": people,
            "threads": threads,
            "ms": ms,
            "window_over_incremental": many["window"] / many["newest"],
            "window_over_incremental_middle": many["window"] / many["middle"],
            "window_over_incremental_one_person": one["window"] / one["newest"],
            "strided_over_incremental": many["strided"] / many["newest"],
            "strided_over_incremental_one_person": one["strided"] / one["newest"],
            "difference": forms.difference(),
        }
    return figures


class _Forms:
    """One network in its four forms."""

    def __init__(self, name: str, threads: int) -> None:
        torch.manual_seed(0)
        created = zoo.create(name)
        network = (created.model_pos if isinstance(created, TPNet) else cast(VideoPose3D, created)).eval()
        self.frames = network.receptive_field
        strided = VideoPose3D(network.filter_widths, strided=True).eval()
        strided.load_state_dict(network.state_dict())
        opened = partial(open_run, device="cpu", threads=threads)
        self._window = np.random.default_rng(0).uniform(-1, 1, (1, self.frames, 17, 2)).astype(np.float32)
        self._whole = {"window": opened(network, [self._window]), "strided": opened(strided, [self._window])}
        lookaheads = {"newest": 0, "middle": network.padding[1]}
        self._steps = {
            form: IncrementalNetwork(network, lookahead=lookahead, open_run=opened)
            for form, lookahead in lookaheads.items()
        }

    def difference(self) -> float:
        """Between the one pose of a window, and the one after all of its frames."""
        (whole,) = self._whole["window"](self._window)
        return float(np.abs(self._steps["middle"].step([Track()], list(self._window)) - whole[:, 0]).max())

    def measure(self, people: int, rounds: int, advance: Callable[[float], None]) -> dict[str, float]:
        """Milliseconds per person and frame of each form."""
        windows = np.repeat(self._window, people, axis=0)
        work: dict[str, Callable[[], object]] = {form: partial(whole, windows) for form, whole in self._whole.items()}
        for form, step in self._steps.items():
            work[form] = partial(step.step, [Track() for _ in range(people)], list(windows[:, -1:]))
        taken: dict[str, list[float]] = {form: [] for form in work}
        for _ in range(rounds + 1):  # the first is for warming up
            for form, call in work.items():
                before = time.perf_counter()
                call()
                taken[form].append((time.perf_counter() - before) * 1e3 / people)
            advance(1 / (rounds + 1))
        return {form: statistics.median(times[1:]) for form, times in taken.items()}
