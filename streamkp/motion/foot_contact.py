"""Foot contact: the root of a person is moved so that feet that stand do not slide.

The root that a lifter gives is noisy, most of all along the view axis, and the feet move with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp import skeletons
from streamkp.errors import UsageError

Floats = NDArray[np.floating[Any]]

# Joints that can stand on the floor.
FEET = {
    "h36m17": ("left_ankle", "right_ankle"),
    "blazepose33": ("left_heel", "left_foot_index", "right_heel", "right_foot_index"),
}
# A foot stands from when it is slower and lower than the first until it is faster or higher than the second. On
# motion capture with a lifter's errors these call 87 % of the feet below 0.1 m/s standing, and 9 % of those above 0.4.
SPEED = (0.2, 0.35)  # m/s, across the line of sight
HEIGHT = (0.15, 0.2)  # metres above the floor
SPEED_SETTLES = 0.1  # seconds, time constant
FLOOR_RISES = 1.0  # seconds, time constant: the floor is where the lowest foot was of late
STANDING_RETURNS = 1.0  # seconds, time constant, in which the root goes back to where the lifter has it
MOVING_RETURNS = 0.3  # the same while no foot stands
MAX_GAP = 1.0  # seconds of silence after which nothing is known


class FootContact:
    """Which feet of one person stand, and where the root must be for them to stay where they are.

    From one pose to the next the root moves so that the feet that stand, on average, do not. It returns slowly to
    the root of the lifter: a walk does not drift away from the image.

    The speed of a foot is that across the line of sight: along it, an error of 1 % in the size of a pose moves a
    person by 1 % of the distance.
    """

    def __init__(self, skeleton: str, up: ArrayLike = (0.0, -1.0, 0.0)) -> None:
        """`up` in the axes of the poses. Raises UsageError for a skeleton whose feet are not known."""
        if skeleton not in FEET:
            raise UsageError(f"the feet of {skeleton} are not known; they are of {' and '.join(FEET)}")
        layout = skeletons.get(skeleton)
        self._feet = [layout.index(joint) for joint in FEET[skeleton]]
        self._up = np.asarray(up, np.float64) / np.linalg.norm(up)
        self.standing = np.zeros(len(self._feet), bool)
        self._time: int | None = None
        self._raw: Floats  # [F, 3] where the lifter had the feet
        self._feet_out: Floats  # [F, 3] where they were put
        self._velocity: Floats
        self._floor: float
        self._moved = np.zeros(3)

    def __call__(self, points: Floats, root: Floats, pts: int) -> NDArray[np.float64]:
        """The root [3] that keeps the feet where they stand.

        `points` [K, 3] relative to the root and `root` [3] in camera space, metres, finite; `pts` in ns, later than
        that of the call before.
        """
        feet = np.asarray(points, np.float64)[self._feet] + root
        dt = math.inf if self._time is None else (pts - self._time) * 1e-9
        if dt > MAX_GAP:
            self.standing[:] = False
            self._moved = np.zeros(3)
            self._velocity = np.zeros_like(feet)
            self._floor = float((feet @ self._up).min())
        else:
            self._stand(feet, dt)
            if self.standing.any():
                still = (self._feet_out - feet)[self.standing].mean(0)
                self._moved = still * math.exp(-dt / STANDING_RETURNS)
            else:
                self._moved = self._moved * math.exp(-dt / MOVING_RETURNS)
        self._time, self._raw, self._feet_out = pts, feet, feet + self._moved
        return np.asarray(root + self._moved, np.float64)

    def _stand(self, feet: Floats, dt: float) -> None:
        """Decide which feet stand, `dt` seconds after the last pose."""
        velocity = (feet - self._raw) / dt
        sight = feet / np.maximum(np.linalg.norm(feet, axis=-1, keepdims=True), 1e-9)
        velocity -= (velocity * sight).sum(-1, keepdims=True) * sight
        self._velocity = self._velocity + dt / (SPEED_SETTLES + dt) * (velocity - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=-1)
        height = feet @ self._up
        lowest = float(height.min())
        self._floor = min(lowest, self._floor + dt / (FLOOR_RISES + dt) * (lowest - self._floor))
        height = height - self._floor
        starts = (speed < SPEED[0]) & (height < HEIGHT[0])
        stays = (speed < SPEED[1]) & (height < HEIGHT[1])
        self.standing = np.where(self.standing, stays, starts)
