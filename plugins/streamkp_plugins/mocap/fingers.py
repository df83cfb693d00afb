"""Finger bones from the 21 joints of a hand in space. Local to the hand: its place and turn do not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp_plugins.mocap.rotations import frame, swing, toward, unit

Array = NDArray[np.float64]
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")
LINKS = ("Proximal", "Intermediate", "Distal")
MOST_BEND = np.radians((100.0, 110.0, 90.0))  # of the three joints of a finger
MOST_STEP = np.radians(45.0)  # from one frame to the next
LEAST_LINK = 0.003  # metres: a shorter one has no direction
_WRIST, _INDEX, _PINKY = 0, 5, 17


def finger_bones(side: str) -> list[tuple[str, str]]:
    """The bones of a hand, each with its parent: Unity's names."""
    return [
        (f"{side}{finger}{link}", f"{side}{finger}{LINKS[i - 1]}" if i else f"{side}Hand")
        for finger in FINGERS
        for i, link in enumerate(LINKS)
    ]


class FingerSolver:
    """The fingers of one hand; it remembers them, so that they do not flip between frames."""

    def __init__(self, side: str) -> None:
        """`side` is Left or Right."""
        self._side = side
        self._sign = 1.0 if side == "Left" else -1.0
        self._known: dict[str, Array] = {}

    def solve(self, points: NDArray[Any]) -> dict[str, Array]:
        """Local rotations (3, 3) by bone from (21, 3) of hand21, metres, any right-handed axes.

        At rest the fingers go straight on from the hand and the thumb halfway between them and ahead. A hand that is
        no hand keeps the rotations that it had.
        """
        points = np.asarray(points, np.float64)
        hand = self._frame(points)
        if hand is None:
            return dict(self._known)
        for i, finger in enumerate(FINGERS):
            straight = unit(np.array([self._sign, 0.0, 1.0 if finger == "Thumb" else 0.0]))
            above = hand
            joints = points[1 + 4 * i : 5 + 4 * i]
            for k, link in enumerate(LINKS):
                bone = f"{self._side}{finger}{link}"
                along = joints[k + 1] - joints[k]
                if np.linalg.norm(along) > LEAST_LINK:
                    bent = toward(np.eye(3), swing(straight, above.T @ along), MOST_BEND[k])
                    self._known[bone] = toward(self._known.get(bone), bent, MOST_STEP)
                above = above @ self._known.get(bone, np.eye(3))
        return dict(self._known)

    def _frame(self, points: Array) -> Array | None:
        """The turn of the hand, as the hand bone has it: x along it (away from it, on the right), z to the thumb."""
        along = (points[_INDEX] + points[_PINKY]) / 2 - points[_WRIST]
        across = points[_INDEX] - points[_PINKY]
        if not np.isfinite(points).all() or np.linalg.norm(np.cross(along, across)) < 1e-5:
            return None
        x, z, minus_y = frame(self._sign * along, across).T
        return np.stack([x, -minus_y, z], axis=1)
