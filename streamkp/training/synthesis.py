"""Training examples, made as they are needed: motion, body, layout, camera, and what an estimator sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.models.lift.hdformer import person_view
from streamkp.training import bodies, clips, conventions, estimators, invented, views

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

INVENTED = 0.3  # share of motions that nobody recorded
BEFORE = 12  # frames before a window, for filters and losses that began before it
STARTS_LATE = 0.15  # share of windows in which the person has just come


@dataclass(frozen=True)
class Examples:
    """`inputs` [B, 4, T, 17] and `poses` [B, 3, T, 17] (metres, virtual camera) as in `person_view`; `known` [B, T]:
    the rows that count.
    """

    inputs: Float32
    poses: Float32
    known: Float32


class Synthesis:
    """Batch i is the same whenever it is asked for: it depends on the seed and i alone."""

    def __init__(self, motions: Sequence[Floats], seed: int, batch: int, frames: int = person_view.FRAMES) -> None:
        self._motions, self._seed, self._batch, self._frames = motions, seed, batch, frames

    def __getitem__(self, index: int) -> Examples:
        random = np.random.default_rng((self._seed, index))
        new, frames = round(INVENTED * self._batch), BEFORE + self._frames
        recorded = clips.sample(self._motions, self._batch - new, frames, random)
        motion = np.concatenate([recorded, invented.invent(new, frames, random)])
        motion = bodies.turn_over(bodies.vary(motion, random), random)
        view = views.look(conventions.vary(motion, random), random)
        points, scores = estimators.disturb(view.canonical, view.pixel, random)
        points, scores = points[:, BEFORE:], scores[:, BEFORE:]
        points, scores, known = estimators.start_late(points, scores, STARTS_LATE, random)
        inputs, turns = person_view.network_inputs(points, scores)
        poses = np.einsum("bij,btkj->bitk", turns, view.poses[:, BEFORE:])
        return Examples(inputs, poses.astype(np.float32), known.astype(np.float32))
