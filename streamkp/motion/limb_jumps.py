"""The limb jump filter: holds elbows, wrists, knees and ankles that the network throws off the body for some frames.

Where a limb is hidden or dazzled, 2D networks put it somewhere else for a frame or some, often with a good score. True
limbs are continuous: they are near where they were, or near where they were going, in the image or as seen from the
shoulder or hip. Of the motion capture of cartwheels, kicks and dances at 30 frames a second, one joint in ten thousand
is not (`JUMP`). What is not is refused until it comes back, or until the network has insisted: one that goes on saying
so is right in the end, the sooner the surer it is now and the less sure it was before.

A joint that is refused stays where it was as seen from its shoulder or hip, and gets a low score, so that it is
neither drawn nor counted. Left in its wrong place with the low score, it would still pull the lifter: in simulated
glitches of 1 to 8 frames the 3D error of the joint is 288 mm without the filter, 258 mm if only the score is lowered,
and 153 mm if it is held as well.

A joint that jumps to where the opposite one is has not left the body. Networks exchange legs that pass each other; that
is for `side_swaps`, and left as it is here.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Float64 = NDArray[np.float64]
Places = NDArray[np.complex128]  # x + iy
Mask = NDArray[np.bool_]

JUMP = 0.12  # of the person's size: the farthest that a joint is from where it may be, at `RATE`
RATE = 30.0  # frames per second; if fewer are seen, limbs may be farther away
GROWTH = 1.3  # exponent of the time between frames: between constant speed (1) and constant acceleration (2)
LONGEST_GAP = 0.15  # seconds between frames; after more nothing is known
REACH = 0.7  # sizes of the person per second by which a limb may move on while it is refused
INSISTS = 0.5  # seconds until a network that is equally sure of both places is believed
LEARNS, FORGETS = 0.25, 0.1  # seconds in which the filter learns that a network is sure, and that it is not any more
REMEMBERS = 0.6  # seconds in which a limb may come back to where it was before it jumped
EARLIER = 0.2  # seconds after which the places of a frame without jumps are noted again, also to come back to
SHRINKS = 2.0  # time constant in seconds of the person's size when it falls: limbs do not get slower when bending down
STEADINESS = 0.5  # weight of a velocity against the ones before
REFUSED = 0.1  # highest score of a refused joint: below what is drawn or counted

_LIMBS: Final = (("shoulder", ("elbow", "wrist")), ("hip", ("knee", "ankle")))
# What goes with the end of a limb.
_FOLLOWERS: Final = {
    "wrist": re.compile("hand|palm|thumb|(?<!foot_)index|forefinger|middle|ring|pinky"),
    "ankle": re.compile("heel|foot|toe"),
}


class LimbFilter:
    """The limbs of one person.

    Places are [2, J], x + iy in pixels: of J joints in the image, and as seen from their shoulder or hip.
    """

    def __init__(self) -> None:
        self._skeleton: str | None = None
        self._pts = 0
        self._size = 0.0  # pixels
        self._joints: NDArray[np.intp]  # [J], in the layout
        self._roots: NDArray[np.intp]  # [J]: shoulders and hips
        self._both: NDArray[np.intp]  # [2, J]: these and those
        self._opposite: NDArray[np.intp]  # [J], in `joints`
        self._moved: list[list[int]]  # J lists, in the layout: what is refused with each joint, itself included
        self._last: Places  # places where the joints were last believed to be
        self._velocity: Places  # pixels per second, likewise
        self._lost: Float64  # [J] seconds since then
        self._trust: Float64  # [J] seconds, times score, for which the network must insist
        self._before: Places  # places before the joints last jumped
        self._jumped: Float64  # [J] seconds: when that was; -inf once they have come back
        self._earlier: Places  # places in an earlier frame, at `noted`, in which none jumped
        self._noted = 0

    def __call__(self, skeleton: str, points: NDArray[Any], pts: int, size: float) -> NDArray[Any]:
        """Points [K, 3] (pixels and score) of a layout, with the limbs held that jump; a new array if there are any.

        `pts` is the frame's time in nanoseconds, `size` the person's in pixels (> 0).
        """
        gap = (pts - self._pts) * 1e-9
        if skeleton != self._skeleton or gap > LONGEST_GAP:
            self._start(skeleton, points, pts, size)
            return points
        if gap <= 0 or not len(self._joints):
            return points
        self._pts, self._size = pts, max(size, self._size * (1 - gap / SHRINKS))
        refused = self._refused(points, gap)
        if refused is None or not refused.any():
            return points
        out = points.copy()
        for j in np.flatnonzero(refused):
            held = self._last[1, j]
            out[self._moved[j], :2] += points[self._roots[j], :2] + (held.real, held.imag) - points[self._joints[j], :2]
            out[self._moved[j], 2] = np.minimum(out[self._moved[j], 2], REFUSED)
        return out

    def _start(self, skeleton: str, points: NDArray[Any], pts: int, size: float) -> None:
        if skeleton != self._skeleton:
            self._skeleton = skeleton
            self._lay_out(skeletons.get(skeleton))
        self._pts, self._size, self._noted = pts, size, pts
        self._last = self._earlier = self._before = self._places(points)
        self._velocity = np.zeros_like(self._last)
        self._lost, self._trust = np.zeros((2, len(self._joints)))
        self._jumped = np.full(len(self._joints), -np.inf)

    def _lay_out(self, layout: skeletons.Skeleton) -> None:
        at = {name: i for i, name in enumerate(layout.joints)}
        limbs = [
            (side, root, joint)
            for side in ("left", "right")
            for root, joints in _LIMBS
            for joint in joints
            if {f"{either}_{part}" for either in ("left", "right") for part in (root, joint)} <= at.keys()
        ]
        self._joints = np.array([at[f"{side}_{joint}"] for side, _, joint in limbs], np.intp)
        self._roots = np.array([at[f"{side}_{root}"] for side, root, _ in limbs], np.intp)
        self._both = np.stack((self._joints, self._roots))
        self._opposite = np.roll(np.arange(len(limbs)), len(limbs) // 2)  # the left ones come first
        self._moved = []
        for side, _, joint in limbs:
            words = _FOLLOWERS.get(joint)
            others = [i for name, i in at.items() if words and name.startswith(side) and words.search(name)]
            self._moved.append([at[f"{side}_{joint}"], *others])

    def _places(self, points: NDArray[Any]) -> Places:
        out: Places = points[self._both, :2].astype(np.float64).view(np.complex128)[..., 0]
        np.subtract(out[0], out[1], out[1])
        return out

    def _refused(self, points: NDArray[Any], gap: float) -> Mask | None:
        """[J]: what is refused in this frame; None if nothing is unusual."""
        said = self._places(points)
        scores = points[self._joints, 2].astype(np.float64)
        moved = said - self._last
        limit = JUMP * max(1.0, gap * RATE) ** GROWTH
        off = _nearest(np.concatenate((moved, moved - gap * self._velocity))) / self._size
        if not (off <= limit).all() or self._lost.any():
            return self._sort_out(said, scores, off, limit, gap)
        self._velocity += STEADINESS * (moved / gap - self._velocity)
        self._last = said
        self._learn(slice(None), scores, gap)
        if self._pts - self._noted > EARLIER * 1e9:
            self._earlier, self._noted = said, self._pts
        return None

    def _sort_out(self, said: Places, scores: Float64, off: Float64, limit: float, gap: float) -> Mask:
        now, size = self._pts * 1e-9, self._size
        seen, known = np.isfinite(said).all(0), np.isfinite(self._last).all(0)
        reach = limit + REACH * self._lost
        near = (off <= reach) | ~known
        since = now - self._jumped
        to_before = _nearest(said - self._before) / size
        back = (to_before <= limit + REACH * since) & (since < REMEMBERS)
        back |= _nearest(said - self._earlier) / size <= limit
        across = ~near & (np.abs(said[0] - self._last[0, self._opposite]) / size <= reach[self._opposite])
        refused: Mask = seen & ~(near | back | across)
        self._trust[refused] -= gap * scores[refused]
        insisted = refused & (self._trust < 0)
        refused &= ~insisted

        jumps = seen & ~near & (since >= REMEMBERS)
        self._before = np.where(jumps, self._last, self._before)
        # Both of a pair that go to each other's place have changed places. One that goes alone has left its own, which
        # stays known: two legs in one place are a mistake that ends soon.
        changes = across & ~back & (across | refused)[self._opposite]
        both = changes | changes[self._opposite]
        last = np.where(both, self._last[:, self._opposite], self._last)

        taken = seen & (near | back | insisted | changes)
        steady = seen & near & known & (self._lost == 0)
        self._velocity[:, steady] += STEADINESS * ((said - last)[:, steady] / gap - self._velocity[:, steady])
        self._velocity[:, ~steady] = 0.0
        self._last = np.where(taken, said, last)
        self._learn(taken & ~insisted, scores, gap)
        self._trust[insisted] = 0.0
        self._lost = np.where(taken | ~known, 0.0, self._lost + gap)
        self._jumped[taken & (back & ~near | (to_before <= limit))] = -np.inf
        self._jumped[jumps] = now
        return refused

    def _learn(self, which: Any, scores: Float64, gap: float) -> None:
        """How sure the network is of joints that are believed."""
        change = INSISTS * scores - self._trust
        change *= np.where(change < 0, min(1.0, gap / FORGETS), min(1.0, gap / LEARNS))
        self._trust[which] += change[which]


def _nearest(ways: Places) -> Float64:
    """[J]: the least length of [N, J]."""
    out: Float64 = np.fmin.reduce(np.abs(ways))
    return out
