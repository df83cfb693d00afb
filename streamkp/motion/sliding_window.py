"""Long sequences through networks that read a fixed number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Tile:
    """A window that begins at frame `start`; frames `first` up to `stop` of the result are taken from it."""

    start: int
    first: int
    stop: int


def pad_edges(sequence: Floats, before: int, after: int) -> Floats:
    """[T, ...] -> [before + T + after, ...], the first and the last frame repeated."""
    padding = [(before, after)] + [(0, 0)] * (sequence.ndim - 1)
    return np.pad(sequence, padding, mode="edge")


def plan_tiles(frames: int, length: int, step: int) -> list[Tile]:
    """Windows of `length` frames every `step` frames, such that every frame is taken from exactly one.

    Each window gives its first `step` frames and the last whole one also the rest of its frames (the scheme of
    ModelScope's HDFormer); where that leaves frames over, or for a sequence shorter than a window, one more window
    that ends with the last frame gives them. `cut` repeats the last frame of a short sequence.

    Raises ValueError unless frames >= 1 and 1 <= step <= length.
    """
    if frames < 1 or not 1 <= step <= length:
        raise ValueError(f"cannot cover {frames} frames with windows of {length} every {step}")
    starts = range(0, frames - length + 1, step)
    tiles = [Tile(start, start, start + step) for start in starts[:-1]]
    if starts:
        tiles.append(Tile(starts[-1], starts[-1], starts[-1] + length))
    covered = tiles[-1].stop if tiles else 0
    if covered < frames:
        tiles.append(Tile(max(0, frames - length), covered, frames))
    return tiles


def cut(sequence: Floats, tiles: Sequence[Tile], length: int) -> Floats:
    """[T, ...] -> [len(tiles), length, ...]; a sequence shorter than a window is continued with its last frame."""
    frames = np.minimum(np.arange(length) + np.array([[tile.start] for tile in tiles]), len(sequence) - 1)
    out: Floats = sequence[frames]
    return out


def join(windows: Floats, tiles: Sequence[Tile]) -> Floats:
    """[len(tiles), length, ...] -> [T, ...]: of every window the frames that its tile asks for."""
    pairs = zip(windows, tiles, strict=True)
    return np.concatenate([window[tile.first - tile.start : tile.stop - tile.start] for window, tile in pairs])
