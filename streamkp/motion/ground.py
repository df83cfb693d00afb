"""Where up is, and the floor, from the feet of people over time.

A person who stands has the centre of mass above the feet. Averaged over time that line tells the direction of up: on
four calibrated views, whose cameras look 18 to 34 degrees down, it is 4, 4, 8 and 10 degrees off after 1.7 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.motion.extremities import LAYOUT

Floats = NDArray[np.floating[Any]]

CAMERA_UP = np.array([0.0, -1.0, 0.0])  # of a level camera
ANKLE_HEIGHT = 0.08  # metres above the sole
TOE_HEIGHT = 0.02  # of the keypoints at heel and toes
LEVEL_SECONDS = 0.25  # of somebody standing, for which the assumption of a level camera counts
MOST_SECONDS = 20.0  # how far back standing is remembered
SUPPORT = 0.05  # metres of height by which a foot bears e times less
STRAIGHT = 0.85  # least distance from hip to ankle as a share of the leg, in somebody who stands
MOST_TILT = np.radians(45.0)  # of the line of balance from the assumed up
FLOOR_RETURNS = 10.0  # seconds, time constant, in which a floor that was taken too low comes back

_BODY = skeletons.get("h36m17")
_PARTS = skeletons.get(LAYOUT)
_HIP, _THORAX = _BODY.index("hip"), _BODY.index("thorax")
_LEGS = {
    side: [_BODY.index(f"{side}_{joint}") for joint in ("hip", "knee", "ankle")] for side in ("left", "right")
}  # fmt: skip
_FEET = {side: [_PARTS.index(f"{side}_{joint}") for joint in ("heel", "foot_index")] for side in ("left", "right")}


class Gravity:
    """The direction of up in the axes of a camera that does not move, from people who stand in its view."""

    def __init__(self) -> None:
        self._sum = CAMERA_UP * LEVEL_SECONDS

    @property
    def up(self) -> Floats:
        """A unit vector (3,), camera axes."""
        found: Floats = self._sum / np.linalg.norm(self._sum)
        return found

    def see(self, points: Floats, extremities: Floats | None, seconds: float) -> None:
        """Learn from a pose (17, 3), metres, and its extremities (13, 3), that was seen for so long.

        Poses that do not stand are left out.
        """
        bears, found = [], []
        for side, leg in _LEGS.items():
            hip, knee, ankle = points[leg]
            whole = np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee)
            bears.append(bool(np.linalg.norm(ankle - hip) > STRAIGHT * whole))
            found.append(ankle if extremities is None else (2 * ankle + extremities[_FEET[side]].sum(0)) / 4)
        feet, middle = np.array(found), 0.55 * points[_HIP] + 0.45 * points[_THORAX]
        line, weights = middle - feet.mean(0), np.ones(2)
        for _ in range(3):  # which foot bears is judged by the body's own line: a wrong up would keep itself alive
            heights = feet @ line / max(float(np.linalg.norm(line)), 1e-6)
            weights = np.exp(-(heights - heights.min()) / SUPPORT)
            line = middle - weights @ feet / weights.sum()
        if not bears[int(np.argmax(weights))]:
            return
        length = float(np.linalg.norm(line))
        if length < 1e-6 or float(line @ CAMERA_UP) < length * np.cos(MOST_TILT):
            return
        total = float(np.linalg.norm(self._sum))
        self._sum = (self._sum + line / length * seconds) * min(1.0, MOST_SECONDS / (total + seconds))


class Floor:
    """How high the floor is, from the lowest foot of late."""

    def __init__(self) -> None:
        self._height: float | None = None

    def see(self, lowest: float, seconds: float) -> float:
        """The floor's height after a foot was seen at `lowest` for so long, in the same unit and origin."""
        if self._height is None or lowest < self._height:
            self._height = lowest
        else:
            self._height += min(1.0, seconds / FLOOR_RETURNS) * (lowest - self._height)
        return self._height


def lowest_sole(points: Floats, extremities: Floats | None) -> float:
    """Height of the lowest sole of a pose (17, 3) with y up, and its extremities (13, 3)."""
    heights = [float(points[leg[2], 1]) - ANKLE_HEIGHT for leg in _LEGS.values()]
    if extremities is not None:
        heights += [float(y) - TOE_HEIGHT for foot in _FEET.values() for y in extremities[foot, 1]]
    return min(heights)


def tilted(pitch: float, roll: float = 0.0) -> Floats:
    """Up in the axes of a camera that looks `pitch` degrees down and is turned clockwise by `roll` degrees."""
    p, r = np.radians(pitch), np.radians(roll)
    level = np.array([0.0, -np.cos(p), -np.sin(p)])
    turned: Floats = np.array(
        [np.cos(r) * level[0] + np.sin(r) * level[1], -np.sin(r) * level[0] + np.cos(r) * level[1], level[2]]
    )
    return turned


def level_axes(up: Floats) -> Floats:
    """Rows: x right, y up, z back towards the camera, in its axes; (3, 3), right-handed."""
    back = np.array([0.0, 0.0, -1.0])
    z = back - up * float(back @ up)
    if np.linalg.norm(z) < 1e-3:  # it looks straight down: the top of the picture is ahead
        z = -CAMERA_UP - up * float(-CAMERA_UP @ up)
    z = z / np.linalg.norm(z)
    axes: Floats = np.stack([np.cross(up, z), up, z])
    return axes
