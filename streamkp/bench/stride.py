"""What a frame costs with the shipped lifters: one row at a time, or by a window every so many rows. Without torch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from streamkp.errors import UsageError
from streamkp.models.lift.base import LIVE_BUCKETS, Clip, LifterOptions, LiveNetwork
from streamkp.models.lift.hdformer.windows import StridedWindows
from streamkp.models.lift.lifters import resolve
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.models.registry import family_of
from streamkp.motion.camera import Intrinsics
from streamkp.packet import PoseWindow
from streamkp.runtimes.base import RunOptions

MODELS = ("tcn-streamkp", "hdformer-streamkp")
STRIDES = (1, 2, 4)
SIZE = (1280, 720)


def run(
    model: str, people: int, threads: int, rounds: int, advance: Callable[[float], None] = lambda share: None
) -> dict[str, Any]:
    """Figures of one of `MODELS`, or of a file like theirs, on the CPU; the strides take turns in every frame.

    `ms`: by number of people and stride, the mean time per person and frame over `4 * rounds` frames at the lifter's
    own rate. `core_ms`: the same in time of one core, of all threads. `stride_ratio`: of `ms`, that of stride 1 to that
    of the longest stride, for `people`; 1 for a lifter that reads one row at a time and has no other stride.
    `advance` is called after each frame, outside of what is timed, with its share of the work.
    """
    options = LifterOptions(run=RunOptions(device="cpu", runtime="openvino", threads=threads, buckets=LIVE_BUCKETS))
    networks = _open(model, options)
    numbers = sorted({1, people})
    measured = {n: _measure(networks(), n, 4 * rounds, lambda share: advance(share / len(numbers))) for n in numbers}
    ms, core_ms = ({n: times[i] for n, times in measured.items()} for i in range(2))
    network = networks()[1]
    return {
        "frames": network.frames,
        "rate_hz": network.rate,
        "people": people,
        "threads": threads,
        "ms": ms,
        "core_ms": core_ms,
        "stride_ratio": ms[people][1] / ms[people][max(ms[people])],
    }


def _open(model: str, options: LifterOptions) -> Callable[[], dict[int, LiveNetwork]]:
    """Makes the live forms of a lifter by stride, each with a memory of its own; what compiles is compiled once."""
    opened = open_sequence_lifter(model, options)
    if opened.rows is not None:
        name, row, path = resolve(model, None)
        return lambda: {1: family_of(row).open_live(name, row, path, options, {})}
    windows = opened.windows
    if windows is None:
        raise UsageError(f"{model} reads neither whole windows nor one row at a time")
    return lambda: {stride: StridedWindows(windows, lookahead=0, stride=stride, memory={}) for stride in STRIDES}


def _measure(
    live: dict[int, LiveNetwork], people: int, frames: int, advance: Callable[[float], None]
) -> tuple[dict[int, float], dict[int, float]]:
    """Milliseconds per person and frame by stride: on the clock, and of CPU time."""
    length, rate, warm_up = live[1].frames, live[1].rate, STRIDES[-1]
    random = np.random.default_rng(0)
    points = random.uniform(0, 700, (people, length + warm_up + frames, 17, 3)).astype(np.float32)
    points[..., 2] = 1.0
    pts = np.round(np.arange(points.shape[1]) * 1e9 / rate).astype(np.int64)
    taken: dict[int, list[tuple[float, float]]] = {stride: [] for stride in live}
    for first in range(warm_up + frames):
        now = slice(first, first + length)
        clips = [
            Clip(
                PoseWindow("h36m17", points[i, now], pts[now], np.arange(length), length, *SIZE, first, rate),
                Intrinsics.assumed(*SIZE),
                ("bench", i),
            )
            for i in range(people)
        ]
        for stride, network in live.items():
            before = time.perf_counter(), time.process_time()
            network.poses(clips)
            after = time.perf_counter(), time.process_time()
            taken[stride].append((after[0] - before[0], after[1] - before[1]))
        advance(1 / (warm_up + frames))
    wall, core = (
        {stride: statistics.fmean(t[i] for t in times[warm_up:]) * 1e3 / people for stride, times in taken.items()}
        for i in range(2)
    )
    return wall, core
