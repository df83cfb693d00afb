"""Face, hands and feet for a lifted pose, from a second estimate of the same body that has them.

The second estimate (BlazePose's world landmarks) is less certain than the lift, most of all in depth. On four
calibrated views a hand is nearest to the truth when it is turned as its forearm has to be turned to lie as in the lift
(26 against 32 degrees of median error), and a foot and the face when they keep their direction to the camera.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Floats = NDArray[np.floating[Any]]

LAYOUT = "extremities13"
TARGET = "h36m17"  # the layout of the lifted pose
_FULL = skeletons.get("blazepose33")
_BODY = skeletons.get(TARGET)
_PARTS = skeletons.get(LAYOUT)
_HAND = skeletons.get("hand21")
_WRIST, _KNUCKLES = 0, [17, 5, 2]  # of the little finger, the index finger and the thumb, as the extremities come
_SIDES = ("left", "right")
_BONES = [
    (f"{side}_{a}", f"{side}_{b}")
    for side in _SIDES
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]
LEAST_BONES = 0.1  # metres, sum of the limbs' bones: below it there is no body


def _anchor(joint: str) -> str:
    side, _, part = joint.partition("_")
    if part in ("pinky", "index", "thumb"):
        return f"{side}_wrist"
    return f"{side}_ankle" if part in ("heel", "foot_index") else "head"


_ANCHORS = [_BODY.index(_anchor(joint)) for joint in _PARTS.joints]
_HANDS = {
    side: [i for i, joint in enumerate(_PARTS.joints) if _anchor(joint) == f"{side}_wrist"] for side in _SIDES
}  # fmt: skip


def anchors(points: Floats) -> Floats:
    """Where the extremities are fixed to the body: (17, 3) of h36m17 -> (13, 3), a joint for each of them."""
    found: Floats = points[_ANCHORS]
    return found


def attach(points: Floats, world: Floats, hands: Mapping[str, Floats] | None = None) -> NDArray[np.float32] | None:
    """Extremities (13, 3) in the axes, scale and origin of a lifted pose; None where either is no body.

    Args:
        points: (17, 3) of h36m17, metres: the lifted pose.
        world: (33, 3) of blazepose33, metres, of the same frame and in the same axes.
        hands: by side (left, right), (21, 3) of hand21 in metres, from a network for hands: taken as it is.
    """
    if not (np.isfinite(points).all() and np.isfinite(world).all()):
        return None
    body = skeletons.convert(world, "blazepose33", TARGET, scored=False)
    sizes = [_limbs(points), _limbs(body)]
    if min(sizes) < LEAST_BONES:
        return None
    offsets = (skeletons.convert(world, "blazepose33", LAYOUT, scored=False) - anchors(body)) * (sizes[0] / sizes[1])
    for side, hand in _HANDS.items():
        elbow, wrist = (_BODY.index(f"{side}_{joint}") for joint in ("elbow", "wrist"))
        seen = None if hands is None else hands.get(side)
        if seen is not None and np.shape(seen) == (len(_HAND), 3) and np.isfinite(seen).all():
            offsets[hand] = np.asarray(seen, np.float64)[_KNUCKLES] - seen[_WRIST]
        else:
            offsets[hand] = offsets[hand] @ _swing(body[wrist] - body[elbow], points[wrist] - points[elbow]).T
    return np.asarray(anchors(points) + offsets, np.float32)


def _limbs(points: Floats) -> float:
    return float(sum(np.linalg.norm(points[_BODY.index(a)] - points[_BODY.index(b)]) for a, b in _BONES))


def _swing(before: Floats, after: Floats) -> Floats:
    """The smallest rotation (3, 3) from one direction to another; none where there is no direction, or no smallest."""
    lengths = np.linalg.norm(before), np.linalg.norm(after)
    if min(lengths) < 1e-6:
        return np.eye(3)
    a, b = before / lengths[0], after / lengths[1]
    cosine, axis = float(a @ b), np.cross(a, b)
    if cosine < -0.999:
        return np.eye(3)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned: Floats = np.eye(3) + skew + skew @ skew / (1 + cosine)
    return turned
