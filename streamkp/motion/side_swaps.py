"""The left/right swap filter: puts left and right right where a 2D network exchanges them for a while.

Seen from behind, in profile or blurred, networks take a person's left for the right: a leg, an arm or all limbs jump
across the body from one frame to the next, and back some frames later. No body moves like that, so the jump gives it
away. Who is right in the end is a matter of time: a network that insists is believed.

A limb is exchanged as a whole or not at all. Joints that were exchanged one by one would bend limbs where none bend:
a wrist that comes near the other one would be taken for it, and the forearms would cross.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Float64 = NDArray[np.float64]

JUMP = 0.04  # of the person's size: joints that are farther from where they were going, or nearer when exchanged, tell
NEARER = 0.5  # of that distance: how near the exchanged limb must be
LONGEST_GAP = 0.2  # seconds between frames, or that a limb is somewhere else altogether: after more it starts anew
BELIEVED = 1.0  # seconds for which a network's word counts at most, against later ones
INSISTS = 0.5  # seconds beyond that
STEADINESS = 0.5  # weight of a velocity against the ones before

# Joints are exchanged in these groups: limbs from the elbow and the knee on, and their roots, which a network may
# have right while it has the limbs wrong. What is in none of them (the face) stays as it is.
_GROUPS: Final = (
    re.compile(r"elbow|wrist|hand|palm|thumb|index|forefinger|middle|ring|pinky"),
    re.compile(r"knee|ankle|heel|foot|toe"),
    re.compile(r"shoulder"),
    re.compile(r"hip"),
)


class SwapFilter:
    """The limbs of one person, each with its pairs of joints, left and right."""

    def __init__(self) -> None:
        self._skeleton: str | None = None
        self._pts = 0
        self._pairs: NDArray[np.intp]  # [P, 2]: left and right
        self._member: NDArray[np.bool_]  # [G, P]: the pairs of each group
        self._exchanged: NDArray[np.bool_]  # [G]
        self._trust: Float64  # [G] seconds for which the network has said what is held to be true, less the others
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
        pairs = self._pairs[self._of_pairs(self._exchanged)]
        out[pairs] = points[pairs[:, ::-1]]
        return out

    def _start(self, skeleton: str, points: NDArray[Any]) -> None:
        layout = skeletons.get(skeleton)
        left = [i for i, other in enumerate(layout.mirror) if i < other]
        member = np.array([[bool(group.search(layout.joints[i])) for i in left] for group in _GROUPS], bool)
        member = member.reshape(len(_GROUPS), len(left))
        known: NDArray[np.bool_] = np.asarray(member.any(0))
        self._skeleton = skeleton
        self._pairs = np.array([(i, layout.mirror[i]) for i in left], np.intp).reshape(-1, 2)[known]
        self._member = member[:, known]
        self._exchanged, self._trust = np.zeros(len(_GROUPS), bool), np.zeros(len(_GROUPS))
        self._lost = np.zeros(len(self._pairs))
        self._last = points[self._pairs, :2].astype(np.float64)
        self._velocity = np.zeros_like(self._last)

    def _of_pairs(self, groups: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """What holds for each group, for each pair."""
        out: NDArray[np.bool_] = np.asarray((self._member & groups[:, None]).any(0))
        return out

    def _decide(self, said: Float64, gap: float, size: float) -> None:
        expected = self._last + gap * self._velocity
        other, was = said[:, ::-1], self._of_pairs(self._exchanged)
        self._lost += gap
        as_said, exchanged = (
            np.fmin(_distance(to, expected), _distance(to, self._last)) / size for to in (said, other)
        )
        stays = np.where(was, exchanged, as_said)
        changes = np.where(was, as_said, exchanged)
        exchange = np.array([_is_exchange(stays[group], changes[group]) for group in self._member], bool)
        self._exchanged ^= exchange
        self._trust = np.minimum(BELIEVED, self._trust + np.where(self._exchanged, -gap, gap))
        # Half way between two opinions both joints of a pair are in one place: what was there before still counts.
        jumps = (stays > JUMP) & ~self._of_pairs(exchange) & (self._lost < LONGEST_GAP)
        found = np.isfinite(said).all((1, 2)) & ~jumps
        is_exchanged = self._of_pairs(self._exchanged)
        now = np.where(is_exchanged[:, None, None], other, said)[found]
        velocity = (now - self._last[found]) / self._lost[found, None, None]
        self._velocity[found] += STEADINESS * (np.nan_to_num(velocity) - self._velocity[found])
        self._velocity[~found] = 0.0
        self._last[found], self._lost[found] = now, 0.0
        self._believe(self._trust < -INSISTS, said)

    def _believe(self, groups: NDArray[np.bool_], said: Float64) -> None:
        """Take the network's word for these groups."""
        pairs = self._of_pairs(groups)
        self._exchanged[groups], self._trust[groups] = False, 0.0
        self._lost[pairs], self._last[pairs], self._velocity[pairs] = 0.0, said[pairs], 0.0


def _is_exchange(stays: Float64, changes: Float64) -> bool:
    """Whether a group's pairs, at these distances [P] from where they were going, have changed sides: all together
    they are much nearer when exchanged, and none of them is farther."""
    seen = np.isfinite(stays) & np.isfinite(changes)
    if not seen.any():
        return False
    stays, changes = stays[seen], changes[seen]
    far, near = float(stays.mean()), float(changes.mean())
    return far - near > JUMP and near < NEARER * far and bool((changes <= stays + JUMP / 2).all())


def _distance(pairs: Float64, expected: Float64) -> Float64:
    """[P]: the mean of both joints; NaN, which is never larger nor smaller, if one is not seen."""
    out: Float64 = np.linalg.norm(pairs - expected, axis=2).mean(1)
    return out
