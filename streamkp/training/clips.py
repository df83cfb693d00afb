"""Windows of recorded motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamkp.errors import UsageError
from streamkp.evaluation import npz
from streamkp.training.randomness import Random

SPEED = (0.6, 1.6)  # of playing a clip, against its own
WARP = 0.15  # standard deviation of the logarithm of a speed that changes within a window
BACKWARDS = 0.25  # share of the windows


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


class Clips:
    """Clips as one tensor on a device, from which windows are drawn."""

    def __init__(self, clips: Sequence[NDArray[np.float32]], device: torch.device, weights: Sequence[float]) -> None:
        """`weights`: how often a frame of each clip is drawn, against one of the others."""
        middles = [clip - clip[:, :1].mean(0, keepdims=True) * (1, 0, 1) for clip in clips]  # exact far off the origin
        self._poses = torch.from_numpy(np.concatenate(middles).astype(np.float32)).to(device)
        lengths = torch.tensor([len(clip) for clip in clips], device=device)
        self._last = lengths - 1
        self._first = lengths.cumsum(0) - lengths
        self._share = lengths * torch.tensor(weights, device=device, dtype=torch.float32)

    def sample(self, count: int, frames: int, random: Random) -> Tensor:
        """Windows [count, frames, 17, 3] from anywhere in the clips, at random speed, forwards or backwards.

        A clip that is too short goes back and forth.
        """
        clip = random.drawn(self._share, count)
        last, first = self._last[clip][:, None], self._first[clip][:, None]
        low, high = np.log(SPEED)
        speed = torch.exp(random.uniform(low, high, count, 1) + WARP * random.wander((count,), frames, 24.0))
        speed = torch.where(random.chance(BACKWARDS, count, 1), -speed, speed)
        at = random.uniform(0, 1, count, 1) * last + speed.cumsum(1) - speed[:, frames // 2, None] * (frames / 2)
        at = at.remainder(2 * last)  # there and back
        at = torch.where(at > last, 2 * last - at, at)
        before = at.long().clamp(max=last - 1)
        share = (at - before)[..., None, None]
        row = first + before
        return self._poses[row] * (1 - share) + self._poses[row + 1] * share
