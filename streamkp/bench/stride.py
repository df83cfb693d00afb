"""What a frame costs with the shipped lifter, whose network reads whole windows, by how often it runs."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from streamkp.errors import UsageError
from streamkp.models.lift.base import LIVE_BUCKETS, Clip, LifterOptions, WindowNetwork
from streamkp.models.lift.hdformer.windows import StridedWindows
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import PoseWindow
from streamkp.runtimes.base import RunOptions

MODEL = "hdformer-streamkp"
STRIDES = (1, 2, 4)
SIZE = (1280, 720)


def run(model: str, people: int, threads: int, rounds: int) -> dict[str, Any]:
    """Figures of `hdformer-streamkp`, or of another such file, on the CPU; the strides take turns in every frame.

    `ms`: by number of people and stride, the mean time per person and frame over `4 * rounds` frames at the lifter's
    own rate. `stride_ratio`: that of stride 1 to that of the longest stride, for `people`.
    """
    options = LifterOptions(run=RunOptions(device="cpu", runtime="openvino", threads=threads, buckets=LIVE_BUCKETS))
    windows = open_sequence_lifter(model, options).windows
    if windows is None:
        raise UsageError(f"{model} is not a network that reads whole windows")
    ms = {n: _measure(windows, n, 4 * rounds) for n in sorted({1, people})}
    return {
        "frames": windows.frames,
        "rate_hz": windows.rate,
        "people": people,
        "threads": threads,
        "ms": ms,
        "stride_ratio": ms[people][1] / ms[people][STRIDES[-1]],
    }


def _measure(windows: WindowNetwork, people: int, frames: int) -> dict[int, float]:
    length, warm_up = windows.frames, STRIDES[-1]
    live = {stride: StridedWindows(windows, lookahead=0, stride=stride, memory={}) for stride in STRIDES}
    random = np.random.default_rng(0)
    points = random.uniform(0, 700, (people, length + warm_up + frames, 17, 3)).astype(np.float32)
    points[..., 2] = 1.0
    pts = np.round(np.arange(points.shape[1]) * 1e9 / windows.rate).astype(np.int64)
    taken: dict[int, list[float]] = {stride: [] for stride in STRIDES}
    for first in range(warm_up + frames):
        now = slice(first, first + length)
        clips = [
            Clip(
                PoseWindow("h36m17", points[i, now], pts[now], np.arange(length), length, *SIZE, first, windows.rate),
                Intrinsics.assumed(*SIZE),
                ("bench", i),
            )
            for i in range(people)
        ]
        for stride, network in live.items():
            before = time.perf_counter()
            network.poses(clips)
            taken[stride].append((time.perf_counter() - before) * 1e3 / people)
    return {stride: statistics.fmean(times[warm_up:]) for stride, times in taken.items()}
