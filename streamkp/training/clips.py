"""Windows of recorded motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.evaluation import npz

Floats = NDArray[np.floating[Any]]

SPEED = (0.6, 1.6)  # of playing a clip, against its own


def read(path: Path) -> list[NDArray[np.float32]]:
    """The clips of an .npz of motion capture: [T, 17, 3] in metres, y up, 30 frames a second.

    Raises `UsageError` for a file that holds anything else.
    """
    clips = []
    for name, clip in npz.read(path).items():
        if not isinstance(clip, np.ndarray) or clip.ndim != 3 or clip.shape[1:] != (17, 3) or len(clip) < 2:
            raise UsageError(f"{path}: {name} is not a motion of two or more frames, [T, 17, 3]")
        if not np.isfinite(clip).all():
            raise UsageError(f"{path}: {name} has values that are not finite")
        clips.append(clip.astype(np.float32))
    if not clips:
        raise UsageError(f"{path} holds no motion")
    return clips


def sample(clips: Sequence[Floats], count: int, frames: int, random: np.random.Generator) -> Floats:
    """`count` windows [count, frames, 17, 3] from anywhere in the clips, at random speed, forwards or backwards.

    A clip that is too short goes back and forth.
    """
    lengths = np.array([len(clip) for clip in clips])
    which = random.choice(len(clips), count, p=lengths / lengths.sum())
    low, high = np.log(SPEED)
    speed = np.exp(random.uniform(low, high, count))
    return np.stack([_window(clips[i], frames, s, random) for i, s in zip(which, speed, strict=True)])


def _window(clip: Floats, frames: int, speed: float, random: np.random.Generator) -> Floats:
    last = len(clip) - 1
    at = random.uniform(0, max(last - (frames - 1) * speed, 2 * last)) + np.arange(frames) * speed
    at %= 2 * last  # there and back
    at = np.where(at > last, 2 * last - at, at)
    before = np.minimum(at.astype(int), last - 1)
    share = (at - before)[:, None, None]
    out: Floats = clip[before] * (1 - share) + clip[before + 1] * share
    return out
