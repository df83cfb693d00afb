"""Left and right put right where a 2D network exchanges them for a while.

Seen from behind, in profile or blurred, networks take a person's left for the right: knees, shoulders or all pairs
of joints jump across the body from one frame to the next, and back some frames later. No body moves like that, so the
jump gives it away. Who is right in the end is a matter of time: a network that insists is believed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Float64 = NDArray[np.float64]

JUMP = 0.04  # of the person's size: a pair that is farther from where it was going, or nearer when exchanged, tells
NEARER = 0.5  # of that distance: how near the exchanged pair must be
LONGEST_GAP = 0.2  # seconds between frames, or that a pair is somewhere else altogether: after more it starts anew
BELIEVED = 1.0  # seconds for which a network's word counts at most, against later ones
INSISTS = 0.5  # seconds beyond that
STEADINESS = 0.5  # weight of a velocity against the ones before

_LEG = {"hip", "knee", "ankle", "heel", "foot", "toe"}


class Sides:
    """The sides of one person. Every pair of joints decides for itself, or goes with its half of the body when its
    joints are too near to each other to tell.
    """

    def __init__(self) -> None:
        self._skeleton: str | None = None
        self._pts = 0
        self._pairs: NDArray[np.intp]  # [P, 2]: left and right
        self._leg: NDArray[np.bool_]
        self._exchanged: NDArray[np.bool_]
        self._trust: Float64  # seconds for which the network has said what is held to be true, less the others
        self._lost: Float64  # seconds since a pair was last where it could be
        self._last: Float64  # [P, 2, 2]
        self._velocity: Float64

    def __call__(self, skeleton: str, points: NDArray[Any], pts: int, size: float) -> NDArray[Any]:
        """Points [K, 3] (pixels and score) of a layout with the sides of the frames before; a new array.

        `pts` is the frame's time in nanoseconds, `size` the person's in pixels (> 0).
        """
        gap = (pts - self._pts) * 1e-9
        if skeleton != self._skeleton or gap > LONGEST_GAP:
            self._start(skeleton, points)
        elif gap > 0:
            self._decide(points[self._pairs, :2].astype(np.float64), gap, size)
        self._pts = max(pts, self._pts)
        out = points.copy()
        pairs = self._pairs[self._exchanged]
        out[pairs] = points[pairs[:, ::-1]]
        return out

    def _start(self, skeleton: str, points: NDArray[Any]) -> None:
        layout = skeletons.get(skeleton)
        left = [i for i, other in enumerate(layout.mirror) if i < other]
        self._skeleton = skeleton
        self._pairs = np.array([(i, layout.mirror[i]) for i in left], np.intp).reshape(-1, 2)
        self._leg = np.array([bool(_LEG & set(layout.joints[i].split("_"))) for i in left], bool)
        self._exchanged, self._trust, self._lost = np.zeros(len(left), bool), np.zeros(len(left)), np.zeros(len(left))
        self._last = points[self._pairs, :2].astype(np.float64)
        self._velocity = np.zeros_like(self._last)

    def _decide(self, said: Float64, gap: float, size: float) -> None:
        expected = self._last + gap * self._velocity
        other = said[:, ::-1]
        self._lost += gap
        as_said, exchanged = (
            np.fmin(_distance(to, expected), _distance(to, self._last)) / size for to in (said, other)
        )
        stays = np.where(self._exchanged, exchanged, as_said)
        changes = np.where(self._exchanged, as_said, exchanged)
        jumps = stays > JUMP
        exchange = (stays - changes > JUMP) & (changes < NEARER * stays)
        self._exchanged ^= exchange
        tells = np.abs(stays - changes) > JUMP
        for half in (self._leg, ~self._leg):
            if (half & tells).any():
                self._exchanged[half & ~tells] = self._exchanged[half & tells].mean() > 0.5
        self._trust = np.minimum(BELIEVED, self._trust + np.where(self._exchanged, -gap, gap))
        # Half way between two opinions both joints of a pair are in one place: what was there before still counts.
        found = np.isfinite(said).all((1, 2)) & ~(jumps & ~exchange & (self._lost < LONGEST_GAP))
        now = np.where(self._exchanged[:, None, None], other, said)[found]
        velocity = (now - self._last[found]) / self._lost[found, None, None]
        self._velocity[found] += STEADINESS * (np.nan_to_num(velocity) - self._velocity[found])
        self._velocity[~found] = 0.0
        self._last[found], self._lost[found] = now, 0.0
        believed = self._trust < -INSISTS
        self._exchanged[believed], self._trust[believed], self._lost[believed] = False, 0.0, 0.0
        self._last[believed], self._velocity[believed] = said[believed], 0.0


def _distance(pairs: Float64, expected: Float64) -> Float64:
    """[P]: the mean of both joints; NaN, which is never larger nor smaller, if one is not seen."""
    out: Float64 = np.linalg.norm(pairs - expected, axis=2).mean(1)
    return out
