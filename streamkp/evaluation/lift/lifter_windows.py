"""Networks that give a pose for every frame of a window, over sequences: with all frames at hand, and as if live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.models.lift.whole_windows import WindowNetwork
from streamkp.models.lift.window_lifters import Clip
from streamkp.motion.camera import Intrinsics
from streamkp.motion.sliding_window import Tile, cut, join, pad_edges

Floats = NDArray[np.floating[Any]]

BATCH = 16  # windows at once


def spread(
    network: WindowNetwork, points: Floats, size: tuple[int, int], lens: Intrinsics, tiles: Sequence[Tile]
) -> Floats:
    """Poses [T, 17, 3] of a sequence [T, 17, 3] (pixels, score), each frame from the window that `tiles` says."""
    return join(_rows(network, cut(points, tiles, network.frames), size, lens), tiles)


def blend(network: WindowNetwork, points: Floats, size: tuple[int, int], lens: Intrinsics, step: int) -> Floats:
    """Poses [T, 17, 3] of a sequence [T, 17, 3] from windows every `step` frames: of each frame the mean of what the
    windows around it give, weighted by how far it is from their ends.
    """
    length = network.frames
    last = max(len(points) - length, 0)
    tiles = [Tile(start, 0, length) for start in (*range(0, last, step), last)]
    weights = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None, None]
    poses, total = np.zeros((last + length, 17, 3)), np.zeros((last + length, 1, 1))
    for tile, window in zip(tiles, _rows(network, cut(points, tiles, length), size, lens), strict=True):
        poses[tile.start : tile.start + length] += weights * window
        total[tile.start : tile.start + length] += weights
    return (poses / total)[: len(points)]


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


def _rows(network: WindowNetwork, windows: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
    """[N, length, 17, 3] -> the same shape."""
    clips = [_clip(window, size, lens) for window in windows]
    batches = [network.rows(clips[i : i + BATCH], 0, network.frames)[0] for i in range(0, len(clips), BATCH)]
    return np.concatenate(batches)


def _clip(window: Floats, size: tuple[int, int], lens: Intrinsics) -> Clip:
    return Clip(window[..., :2].astype(np.float64), window[..., 2], size, lens, ("", 0), np.arange(len(window)))
