"""Networks that give a pose for every frame of a window, over sequences: with all frames at hand, and as if live."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.models.whole_windows import WindowNetwork
from streamkp.models.window_lifters import Clip
from streamkp.motion.camera import Intrinsics
from streamkp.motion.tiling import Tile, cut, join, pad_edges

Floats = NDArray[np.floating[Any]]

BATCH = 16  # windows at once


def middles(frames: int, length: int, step: int) -> list[Tile]:
    """Windows of `length` frames every `step` frames; every frame is taken from that whose middle is nearest."""
    last = max(frames - length, 0)
    starts = [*range(0, last, step), last]
    bounds = [0, *((one + next_one + length) // 2 for one, next_one in pairwise(starts)), frames]
    return [Tile(start, *limits) for start, limits in zip(starts, pairwise(bounds), strict=True)]


def spread(
    network: WindowNetwork, points: Floats, size: tuple[int, int], lens: Intrinsics, tiles: Sequence[Tile]
) -> Floats:
    """Poses [T, 17, 3] of a sequence [T, 17, 3] (pixels, score), each frame from the window that `tiles` says."""
    clips = [_clip(window, size, lens) for window in cut(points, tiles, network.frames)]
    batches = [network.rows(clips[i : i + BATCH], 0, network.frames)[0] for i in range(0, len(clips), BATCH)]
    return join(np.concatenate(batches), tiles)


def live(
    network: WindowNetwork, points: Floats, size: tuple[int, int], lens: Intrinsics, lookaheads: Sequence[int]
) -> dict[int, Floats]:
    """Poses [T, 17, 3] of a sequence by lookahead k, from windows that end k frames after the frame.

    What lies before the sequence repeats its first frame, as in a live window. The last k poses, which would need
    frames after its end, are NaN.
    """
    length, furthest = network.frames, max(lookaheads)
    padded = pad_edges(points, length - 1, 0)
    out = {k: np.full((len(points), 17, 3), np.nan) for k in lookaheads}
    for first in range(0, len(points), BATCH):
        ends = np.arange(first, min(first + BATCH, len(points)))
        clips = [_clip(padded[end : end + length], size, lens) for end in ends]
        rows, _ = network.rows(clips, length - 1 - furthest, length)
        for k in lookaheads:
            seen = ends >= k
            out[k][ends[seen] - k] = rows[seen, furthest - k]
    return out


def hopped(poses: dict[int, Floats], hop: int) -> Floats:
    """Of `live` poses at lookaheads 0 to `hop` - 1: those that runs of the network in every `hop`-th frame give."""
    # A frame waits until the network runs.
    return np.stack([poses[-frame % hop][frame] for frame in range(len(poses[0]))])


def _clip(window: Floats, size: tuple[int, int], lens: Intrinsics) -> Clip:
    return Clip(window[..., :2].astype(np.float64), window[..., 2], size, lens, ("", 0), np.arange(len(window)))
