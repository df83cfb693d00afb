"""The left/right swap filter: puts left and right right where a 2D network exchanges them for a while.

Seen from behind, bent or blurred, networks take a person's left for the right: shoulders, arms, hips and legs jump
across the body from one frame to the next, and back some frames later. No body moves like that, so the jump gives it
away. Who is right in the end is a matter of time: a network that insists is believed.

The body is exchanged as a whole or not at all. Joints or limbs that were exchanged by themselves would cross the
forearms, the thighs or the trunk of people whom the network has right: a wrist that comes near the other one would be
taken for it. Measured with `streamkp bench swaps`, limb by limb is worse than no filter on three clips of ten, the body
as a whole on none.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Float64 = NDArray[np.float64]

JUMP = 0.04  # of the person's size: joints that are farther from where they were going, or nearer when exchanged, tell
NEARER = 0.5  # of that distance: how near the exchanged body must be
LONGEST_GAP = 0.2  # seconds between frames, or that a pair is somewhere else altogether: after more it starts anew
BELIEVED = 1.0  # seconds for which a network's word counts at most, against later ones
INSISTS = 0.5  # seconds beyond that
STEADINESS = 0.5  # weight of a velocity against the ones before

# The joints of trunk and limbs; those of the face stay as they are.
_BODY: Final = re.compile(
    "shoulder|elbow|wrist|hand|palm|thumb|index|forefinger|middle|ring|pinky|hip|knee|ankle|heel|foot|toe"
)


class SwapFilter:
    """The sides of one person."""

    def __init__(self) -> None:
        self._skeleton: str | None = None
        self._pts = 0
        self._pairs: NDArray[np.intp]  # [P, 2]: left and right
        self._exchanged = False
        self._trust = 0.0  # seconds for which the network has said what is held to be true, less the others
        self._lost: Float64  # [P] seconds since a pair was last where it could be
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
        if self._exchanged:
            out[self._pairs] = points[self._pairs[:, ::-1]]
        return out

    def _start(self, skeleton: str, points: NDArray[Any]) -> None:
        layout = skeletons.get(skeleton)
        left = [i for i, other in enumerate(layout.mirror) if i < other and _BODY.search(layout.joints[i])]
        self._skeleton = skeleton
        self._pairs = np.array([(i, layout.mirror[i]) for i in left], np.intp).reshape(-1, 2)
        self._take_over(points[self._pairs, :2].astype(np.float64))

    def _take_over(self, said: Float64) -> None:
        """Believe the network, and know nothing of before."""
        self._exchanged, self._trust = False, 0.0
        self._lost, self._last, self._velocity = np.zeros(len(said)), said, np.zeros_like(said)

    def _decide(self, said: Float64, gap: float, size: float) -> None:
        expected = self._last + gap * self._velocity
        self._lost += gap
        as_before, other = (said[:, ::-1], said) if self._exchanged else (said, said[:, ::-1])
        stays = self._strayed(as_before, expected) / size
        steady = bool((stays <= JUMP).all())  # all pairs are seen where they were going: they need no second look
        changed = not steady and _is_exchange(stays, self._strayed(other, expected) / size)
        self._exchanged ^= changed
        self._trust = min(BELIEVED, self._trust + (-gap if self._exchanged else gap))
        if self._trust < -INSISTS:
            self._take_over(said)
            return
        if steady:
            self._velocity += STEADINESS * ((as_before - self._last) / self._lost[:, None, None] - self._velocity)
            self._last, self._lost = as_before, np.zeros(len(said))
            return
        # Half way between two opinions both joints of a pair are in one place: what was there before still counts.
        astray = (stays > JUMP) & (self._lost < LONGEST_GAP) & (not changed)
        found = np.isfinite(said).all((1, 2)) & ~astray
        now = (said[:, ::-1] if self._exchanged else said)[found]
        velocity = (now - self._last[found]) / self._lost[found, None, None]
        self._velocity[found] += STEADINESS * (np.nan_to_num(velocity) - self._velocity[found])
        self._velocity[~found] = 0.0
        self._last[found], self._lost[found] = now, 0.0

    def _strayed(self, pairs: Float64, expected: Float64) -> Float64:
        """[P]: how far pairs are from where they were going, or from where they were."""
        return np.fmin(_distance(pairs, expected), _distance(pairs, self._last))


def _is_exchange(stays: Float64, changes: Float64) -> bool:
    """Whether pairs of joints at these distances [P] from where they were going, in sizes of the person, have changed
    sides: all together they are much nearer when exchanged, and none of them is farther.
    """
    seen = np.isfinite(stays) & np.isfinite(changes)
    if not seen.any():
        return False
    stays, changes = stays[seen], changes[seen]
    far, near = float(stays.mean()), float(changes.mean())
    return far - near > JUMP and near < NEARER * far and bool((changes <= stays + JUMP / 2).all())


def _distance(pairs: Float64, expected: Float64) -> Float64:
    """[P]: the mean of both joints; NaN, which is never larger nor smaller, if one is not seen."""
    away = pairs - expected
    lengths = np.sqrt((away * away).sum(2))
    out: Float64 = (lengths[:, 0] + lengths[:, 1]) / 2  # a third of the time of `mean`
    return out
