"""Training examples, made as they are needed: motion, body, layout, camera, and what an estimator sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from streamkp.training import bodies, conventions, estimators, invented, views
from streamkp.training.clips import Clips
from streamkp.training.randomness import Random

INVENTED = 0.25  # share of motions that nobody recorded
BEFORE = 8  # frames before a window, for filters and losses that began before it


@dataclass(frozen=True)
class Examples:
    """`points` [B, T, 17, 2]: (pixel - centre) / assumed focal length, and `scores` [B, T, 17], as an estimator gives
    them; `poses` [B, T, 17, 3]: the truth, relative to the hip, metres, camera axes.
    """

    points: Tensor
    scores: Tensor
    poses: Tensor


@torch.no_grad()
def make(clips: Clips, batch: int, frames: int, random: Random) -> Examples:
    """A batch of windows."""
    new, frames = round(INVENTED * batch), BEFORE + frames
    motion = torch.cat([clips.sample(batch - new, frames, random), invented.invent(new, frames, random)])
    motion = bodies.turn_over(bodies.vary(motion, random), random)
    view = views.look(conventions.vary(motion, random), random)
    points, scores = estimators.disturb(view.canonical, view.pixel, random)
    return Examples(points[:, BEFORE:], scores[:, BEFORE:], view.poses[:, BEFORE:])
