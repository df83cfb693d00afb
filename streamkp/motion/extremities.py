"""Face, hands and feet for a lifted pose, from a second estimate of the same body that has them.

The second estimate (BlazePose's world landmarks) is less certain than the lift, most of all in depth. On four
calibrated views a hand is nearest to the truth when it is turned as its forearm has to be turned to lie as in the lift
(26 against 32 degrees of median error), and a foot and the face when they keep their direction to the camera.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

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
# The same in blazepose33; its "head" is halfway between the eyes.
_EYES = _FULL.index("left_eye"), _FULL.index("right_eye")
_FACE = [i for i, joint in enumerate(_PARTS.joints) if _anchor(joint) == "head"]
_FULL_ANCHORS = [0 if i in _FACE else _FULL.index(_anchor(joint)) for i, joint in enumerate(_PARTS.joints)]
_FULL_PARTS = [_FULL.index(joint) for joint in _PARTS.joints]
_BODY_LIMBS, _FULL_LIMBS = (
    ([layout.index(a) for a, _ in _BONES], [layout.index(b) for _, b in _BONES]) for layout in (_BODY, _FULL)
)
_HANDS = {
    side: (
        [i for i, joint in enumerate(_PARTS.joints) if _anchor(joint) == f"{side}_wrist"],
        *((layout.index(f"{side}_elbow"), layout.index(f"{side}_wrist")) for layout in (_BODY, _FULL)),
    )
    for side in _SIDES
}


def anchors(points: Floats) -> Floats:
    """Where the extremities are fixed to the body: (17, 3) of h36m17 -> (13, 3), a joint for each of them."""
    found: Floats = points[_ANCHORS]
    return found


def carry(before: Floats, parts: Floats, points: Floats) -> NDArray[np.float32] | None:
    """Extremities of one lifted pose for another of the same frame: each turned with the body, and put to its joint.

    Args:
        before: (17, 3) of h36m17, metres, pelvis at the origin, in any axes.
        parts: (13, 3) that belong to `before`.
        points: (17, 3) of h36m17, metres: the other pose, in any axes.

    Returns:
        (13, 3) in the axes and scale of `points`; None where either is no body.
    """
    if not (np.isfinite(before.sum()) and np.isfinite(parts.sum()) and np.isfinite(points.sum())):
        return None
    size, own_size = _limbs(points, _BODY_LIMBS), _limbs(before, _BODY_LIMBS)
    if min(size, own_size) < LEAST_BONES:
        return None
    turn, _ = Rotation.align_vectors(points.astype(np.float64), before.astype(np.float64))
    moved = turn.apply(parts.astype(np.float64) - anchors(before)) * (size / own_size)
    found: NDArray[np.float32] = (anchors(points) + moved).astype(np.float32)
    return found


def attach(points: Floats, world: Floats, hands: Mapping[str, Floats] | None = None) -> NDArray[np.float32] | None:
    """Extremities (13, 3) in the axes, scale and origin of a lifted pose; None where either is no body.

    Args:
        points: (17, 3) of h36m17, metres: the lifted pose.
        world: (33, 3) of blazepose33, metres, of the same frame and in the same axes.
        hands: by side (left, right), (21, 3) of hand21 in metres, from a network for hands: taken as it is.
    """
    if not (np.isfinite(points.sum()) and np.isfinite(world.sum())):
        return None
    size, own_size = _limbs(points, _BODY_LIMBS), _limbs(world, _FULL_LIMBS)
    if min(size, own_size) < LEAST_BONES:
        return None
    roots = world[_FULL_ANCHORS]
    roots[_FACE] = (world[_EYES[0]] + world[_EYES[1]]) / 2
    offsets = (world[_FULL_PARTS] - roots) * (size / own_size)
    for side, (hand, (elbow, wrist), (own_elbow, own_wrist)) in _HANDS.items():
        seen = None if hands is None else hands.get(side)
        if seen is not None and np.shape(seen) == (len(_HAND), 3) and np.isfinite(seen).all():
            offsets[hand] = np.asarray(seen, np.float64)[_KNUCKLES] - seen[_WRIST]
        else:
            turn = _swing(world[own_wrist] - world[own_elbow], points[wrist] - points[elbow])
            offsets[hand] = offsets[hand] @ turn.T
    return np.asarray(anchors(points) + offsets, np.float32)


def _limbs(points: Floats, bones: tuple[list[int], list[int]]) -> float:
    along = points[bones[0]] - points[bones[1]]
    return float(np.sqrt((along * along).sum(1)).sum())


def _swing(before: Floats, after: Floats) -> Floats:
    """The smallest rotation (3, 3) from one direction to another; none where there is no direction, or no smallest."""
    lengths = math.sqrt(float(before @ before)), math.sqrt(float(after @ after))
    if min(lengths) < 1e-6:
        return np.eye(3)
    ax, ay, az = (before / lengths[0]).tolist()
    bx, by, bz = (after / lengths[1]).tolist()
    cosine = ax * bx + ay * by + az * bz
    if cosine < -0.999:
        return np.eye(3)
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    f = 1 / (1 + cosine)  # Rodrigues' formula; 1 / (1 + cosine) is (1 - cosine) / sine squared
    return np.array(
        [
            [1 - f * (y * y + z * z), f * x * y - z, f * x * z + y],
            [f * x * y + z, 1 - f * (x * x + z * z), f * y * z - x],
            [f * x * z - y, f * y * z + x, 1 - f * (x * x + y * y)],
        ]
    )
