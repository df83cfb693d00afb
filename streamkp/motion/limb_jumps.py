"""The limb jump filter: tells elbows, wrists, knees and ankles that leave the body from those that move fast.

Where a limb is hidden or dazzled, 2D networks put it somewhere else for some frames, often with a good score. A limb
moves from where it was, or goes on as it went; in the motion capture of cartwheels, kicks and dances one joint in
sixty thousand is farther from both than `JUMP` at 30 frames a second. What jumps farther is not believed until it
comes back, or for as long as the network insists: a network that keeps saying so is right in the end, the sooner the
surer it is and the less it was before.

A joint that jumps to where its opposite is has not left the body. Networks exchange legs that pass each other, and
knowing where the legs are is worth more than knowing which is which: that is left as it is.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Float64 = NDArray[np.float64]

JUMP = 0.12  # of the person's size: how far a joint may be from where it was, and from where it was going
RATE = 30.0  # frames a second for which `JUMP` is; what is between frames that are farther apart may be farther
GROWTH = 1.3  # exponent of that: between going on (1) and speeding up (2)
LONGEST_GAP = 0.15  # seconds between frames; after more nothing is known
REACH = 0.7  # sizes of the person a second by which a limb may move on while it is not believed
RETURN = 0.5  # of the distance before: a second jump that leaves less is one back
REMEMBERS = 1.5  # seconds for which a limb may come back to where it was before it jumped
INSISTS = 0.5  # seconds, at most, until a network that is equally sure of both is believed
SHRINKS = 2.0  # seconds in which a person's size may fall to a third
EARLIER = 0.2  # seconds after which that is noted again
FORGETS = 0.1  # seconds in which it learns that a network is not sure any more
LEARNS = 0.25  # seconds in which the filter learns how sure a network is
STEADINESS = 0.5  # weight of a velocity against the ones before
REFUSED = 0.1  # score, at most, of what is not believed: below what is drawn or counted

_LIMBS: Final = (("shoulder", ("elbow", "wrist")), ("hip", ("knee", "ankle")))
_FOLLOWERS: Final = {
    "wrist": re.compile("hand|palm|thumb|(?<!foot_)index|forefinger|middle|ring|pinky"),
    "ankle": re.compile("heel|foot|toe"),
}


class LimbFilter:
    """The limbs of one person."""

    def __init__(self) -> None:
        self._skeleton: str | None = None
        self._pts = 0
        self._size = 0.0  # pixels: of late, so that who bends down keeps the own size for a while
        self._joints: NDArray[np.intp]  # [J]
        self._roots: NDArray[np.intp]  # [J]: the shoulder or hip of each
        self._opposite: NDArray[np.intp]  # [J], in `joints`
        self._moved: list[list[int]]  # of each of J: what is refused together with it, itself included
        self._last: Float64  # [2, J, 2]: where each was last believed to be, in the image and from its root
        self._velocity: Float64
        self._said: Float64  # [2, J, 2]: of the last frame, believed or not
        self._lost: Float64  # [J] seconds since then
        self._away: Float64  # [J] sizes of the person from where it was, if lost
        self._earlier: Float64  # [2, J, 2]: where each was in the last frame of ease, at `then`, at times
        self._then = 0
        self._origin: Float64  # [2, J, 2]: where each was before it was last doubted
        self._since: Float64  # [J] seconds: when that was
        self._trust: Float64  # [J] seconds, times score, that the network must insist for

    def __call__(self, skeleton: str, points: NDArray[Any], pts: int, size: float) -> NDArray[Any]:
        """Points [K, 3] (pixels and score) of a layout, with low scores where a limb has jumped; a new array then.

        `pts` is the frame's time in nanoseconds, `size` the person's in pixels (> 0).
        """
        gap = (pts - self._pts) * 1e-9
        if skeleton != self._skeleton or gap > LONGEST_GAP:
            self._pts, self._size = pts, size
            self._start(skeleton, points)
            return points
        if gap <= 0 or not len(self._joints):
            return points
        self._pts = pts
        self._size = max(size, self._size * (1 - gap / SHRINKS))
        refused = self._decide(points, gap, self._size)
        if refused is None:
            return points
        out = points.copy()
        for j in np.flatnonzero(refused):
            moved, joint = self._moved[j], self._joints[j]
            out[moved, :2] += self._last[1, j] + points[self._roots[j], :2] - points[joint, :2]
            out[moved, 2] = np.minimum(out[moved, 2], REFUSED)
        return out

    def _start(self, skeleton: str, points: NDArray[Any]) -> None:
        if skeleton != self._skeleton:
            self._skeleton = skeleton
            self._lay_out(skeletons.get(skeleton))
        self._last = self._said = self._places(points)
        self._velocity = np.zeros_like(self._last)
        self._origin, self._earlier, self._then = self._last.copy(), self._last, self._pts
        self._lost, self._away, self._trust = np.zeros((3, len(self._joints)))
        self._since = np.full(len(self._joints), -np.inf)

    def _lay_out(self, layout: skeletons.Skeleton) -> None:
        at = {name: i for i, name in enumerate(layout.joints)}
        limbs = [
            (f"{side}_{joint}", at[f"{side}_{root}"])
            for side in ("left", "right")
            for root, joints in _LIMBS
            for joint in joints
            if {f"{side}_{root}", f"left_{joint}", f"right_{joint}"} <= at.keys()
        ]
        names = [name for name, _ in limbs]
        self._joints = np.array([at[name] for name in names], np.intp)
        self._roots = np.array([root for _, root in limbs], np.intp)
        self._opposite = np.array([int(np.flatnonzero(self._joints == layout.mirror[i])[0]) for i in self._joints], np.intp)
        self._moved = []
        for name in names:
            side, joint = name.split("_")
            words = _FOLLOWERS.get(joint)
            others = [at[n] for n in layout.joints if n.startswith(side) and words and words.search(n)]
            self._moved.append([at[name], *others])

    def _places(self, points: NDArray[Any]) -> Float64:
        """[2, J, 2]: in the image, and from the limbs' roots."""
        out = np.empty((2, len(self._joints), 2))
        out[0] = points[self._joints, :2]
        np.subtract(out[0], points[self._roots, :2], out[1])
        return out

    def _decide(self, points: NDArray[Any], gap: float, size: float) -> NDArray[np.bool_] | None:
        """[J]: which joints are not believed; None if all are."""
        said = self._places(points)
        limit = JUMP * max(1.0, gap * RATE) ** GROWTH
        going = self._last + gap * self._velocity
        stray = _nearest(np.concatenate([said - self._last, said - going])) / size
        lost = self._lost.any()
        scores = points[self._joints, 2].astype(np.float64)
        if lost or not (stray <= limit).all():
            believed = self._sort_out(said, going, stray, limit, scores, gap, size)
        else:
            believed = None
        moved = said - self._last
        if believed is None:
            self._velocity += STEADINESS * (moved / gap - self._velocity)
            self._last = said
            if self._pts - self._then > EARLIER * 1e9:
                self._earlier, self._then = said, self._pts
            self._learn(slice(None), scores, gap)
        self._said = said
        return None if believed is None or believed.all() else ~believed

    def _sort_out(
        self, said: Float64, going: Float64, stray: Float64, limit: float, scores: Float64, gap: float, size: float
    ) -> NDArray[np.bool_]:
        seen, known = np.isfinite(said).all((0, 2)), np.isfinite(self._last).all((0, 2))
        was_lost = self._lost > 0
        reach = limit + REACH * self._lost
        near = (stray <= reach) | ~known
        # From one frame to the next but farther than it may move, and most of the way back.
        back = was_lost & (_nearest(said - self._said) > limit * size) & (stray < RETURN * self._away)
        there = self._last[:, self._opposite]
        across = ~near & (_length(said[0] - there[0]) <= (limit + REACH * self._lost[self._opposite]) * size)
        age = self._pts * 1e-9 - self._since
        from_origin = _nearest(said - self._origin) / size
        home = (from_origin <= limit + REACH * age) & (age < REMEMBERS)
        earlier = _nearest(said - self._earlier) / size
        back |= earlier <= limit
        refused = seen & ~(near | back | across | home)
        self._trust[refused] -= gap * scores[refused]
        insisted = refused & (self._trust < 0)
        refused &= ~insisted
        begins = seen & ~near & (age >= REMEMBERS)
        self._origin[:, begins], self._since[begins] = self._last[:, begins], self._pts * 1e-9
        # Where one of a pair has gone to the other's place, that one's is free if it is not there any more.
        both = across & ~home & (across | refused)[self._opposite]
        changed = both | both[self._opposite]
        self._last[:, changed] = self._last[:, self._opposite[changed]]
        stands = seen & (near | back | home | insisted | both)
        steady = stands & near & ~was_lost & known
        self._velocity[:, steady] += STEADINESS * ((said - self._last)[:, steady] / gap - self._velocity[:, steady])
        self._velocity[:, ~steady] = 0.0
        self._last[:, stands] = said[:, stands]
        sure = stands & ~insisted
        self._learn(sure, scores[sure], gap)
        self._trust[insisted] = 0.0
        self._lost = np.where(stands | ~known, 0.0, self._lost + gap)
        self._away = np.where(refused, stray, 0.0)
        self._since[stands & (back | home & ~near | (from_origin <= limit)) & ~begins] = -np.inf
        return ~refused

    def _learn(self, which: Any, scores: Float64, gap: float) -> None:
        """How sure the network is of joints that are believed; what it loses is known the sooner."""
        change = INSISTS * scores - self._trust[which]
        self._trust[which] += np.where(change < 0, min(1.0, gap / FORGETS), min(1.0, gap / LEARNS)) * change


def _nearest(ways: Float64) -> Float64:
    """[J]: the least length of the vectors [N, J, 2]."""
    out: Float64 = np.fmin.reduce(_length(ways), 0)
    return out


def _length(ways: Float64) -> Float64:
    out: Float64 = np.sqrt(ways[..., 0] ** 2 + ways[..., 1] ** 2)
    return out
