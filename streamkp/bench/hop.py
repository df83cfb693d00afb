"""What a frame costs with the shipped lifter, whose network reads whole windows: by how often it runs."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from streamkp.hub import store
from streamkp.models.lift import onnx_lifters
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.whole_windows import WholeWindows, WindowNetwork
from streamkp.models.lift.window_lifters import Clip
from streamkp.motion.camera import Intrinsics

MODEL = "hdformer-streamkp"
HOPS = (1, 2, 4)
SIZE = (1280, 720)


def run(model: str, people: int, threads: int, rounds: int) -> dict[str, Any]:
    """Figures of `hdformer-streamkp`, or of another such file, on the CPU; the hops take turns in every frame.

    `ms`: by number of people and hop, the mean time per person and frame over `4 * rounds` frames at the lifter's
    own rate. `hop_ratio`: that of hop 1 to that of the longest hop, for `people`.
    """
    windows = onnx_lifters.open_windows(store.path(model), Choices(threads=threads))
    ms = {n: _measure(windows, n, 4 * rounds) for n in sorted({1, people})}
    return {
        "frames": windows.frames,
        "rate_hz": windows.rate,
        "people": people,
        "threads": threads,
        "ms": ms,
        "hop_ratio": ms[people][1] / ms[people][HOPS[-1]],
    }


def _measure(windows: WindowNetwork, people: int, frames: int) -> dict[int, float]:
    length, warm_up = windows.frames, HOPS[-1]
    methods = {hop: WholeWindows(windows, lookahead=0, hop=hop, memory={}) for hop in HOPS}
    random = np.random.default_rng(0)
    points = random.uniform(0, 700, (people, length + warm_up + frames, 17, 2))
    scores = np.ones(points.shape[:3])
    pts = np.round(np.arange(points.shape[1]) * 1e9 / windows.rate).astype(np.int64)
    taken: dict[int, list[float]] = {hop: [] for hop in HOPS}
    for first in range(warm_up + frames):
        now = slice(first, first + length)
        clips = [
            Clip(points[i, now], scores[i, now], SIZE, Intrinsics.assumed(*SIZE), ("bench", i), pts[now])
            for i in range(people)
        ]
        for hop, method in methods.items():
            before = time.perf_counter()
            method.poses(clips)
            taken[hop].append((time.perf_counter() - before) * 1e3 / people)
    return {hop: statistics.fmean(times[warm_up:]) for hop, times in taken.items()}
