"""Named joint layouts, and the one table that converts between them.

Every array of keypoints in streamkp is (..., K, C) with K joints in the order of one of these layouts. "left"
and "right" are the person's own.

Sources: COCO and COCO-WholeBody (Jin et al. 2020) for `coco17`, `wholebody133` and `hand21`; Human3.6M as
    s.name: s
    for s in (
        _COCO17, _H36M17, _BODY15, _BLAZEPOSE33, _EXTREMITIES13, _WHOLEBODY133, _HAND21, _FACE106, _FACE478,
    )
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError


@dataclass(frozen=True)
class Skeleton:
    """A joint layout.

    `bones` are pairs of joint indices to draw; `mirror[i]` is the joint that joint i becomes when the image
    is flipped; `sigmas` are the per-joint standard deviations of COCO's object keypoint similarity, None
    where none were published.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    mirror: tuple[int, ...]
    sigmas: tuple[float, ...] | None = None

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Index of a joint by name; KeyError if this layout has no such joint."""
        try:
            return self.joints.index(joint)
        except ValueError:
            raise KeyError(f"{self.name} has no joint {joint!r}") from None


def _chain(*indices: int) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(indices))


def _ring(first: int, last: int) -> tuple[tuple[int, int], ...]:
    return (*_chain(*range(first, last + 1)), (last, first))


def _mirror_by_name(joints: tuple[str, ...]) -> tuple[int, ...]:
    other = {"left": "right", "right": "left"}

    def flipped(joint: str) -> str:
        return "_".join(other.get(word, word) for word in joint.split("_"))

    return tuple(joints.index(flipped(joint)) for joint in joints)


# --- COCO body ----------------------------------------------------------------------------------------------

_COCO17_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_COCO17_BONES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
_COCO17_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087,
    0.087, 0.089, 0.089,
)  # fmt: skip

_COCO17 = Skeleton("coco17", _COCO17_JOINTS, _COCO17_BONES, _mirror_by_name(_COCO17_JOINTS), _COCO17_SIGMAS)

# --- Human3.6M ----------------------------------------------------------------------------------------------

_H36M17_JOINTS = (
    "hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "spine", "thorax", "neck_nose", "head",
    "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
)  # fmt: skip
_H36M17 = Skeleton(
    "h36m17",
    _H36M17_JOINTS,
    _chain(0, 1, 2, 3) + _chain(0, 4, 5, 6) + _chain(0, 7, 8, 9, 10) + _chain(8, 11, 12, 13) + _chain(8, 14, 15, 16),
    _mirror_by_name(_H36M17_JOINTS),
)

# --- ModelScope body ----------------------------------------------------------------------------------------
# The sides follow the mapping to Human3.6M that ModelScope's pipelines apply; the network's own configuration
# file calls them the other way round.

_BODY15_JOINTS = (
    "head", "thorax", "right_shoulder", "right_elbow", "right_wrist",
    "left_shoulder", "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle",
    "left_hip", "left_knee", "left_ankle", "hip",
)  # fmt: skip
_BODY15 = Skeleton(
    "body15",
    _BODY15_JOINTS,
    _chain(0, 1, 2, 3, 4) + _chain(1, 5, 6, 7) + _chain(1, 14, 8, 9, 10) + _chain(14, 11, 12, 13),
    _mirror_by_name(_BODY15_JOINTS),
)

# --- BlazePose ----------------------------------------------------------------------------------------------

_BLAZEPOSE33_JOINTS = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
    "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
    "left_foot_index", "right_foot_index",
)  # fmt: skip
_BLAZEPOSE33 = Skeleton(
    "blazepose33",
    _BLAZEPOSE33_JOINTS,
    _chain(0, 1, 2, 3, 7)
    + _chain(0, 4, 5, 6, 8)
    + ((9, 10), (11, 12), (11, 23), (12, 24), (23, 24))
    + _chain(11, 13, 15, 17, 19, 15, 21)
    + _chain(12, 14, 16, 18, 20, 16, 22)
    + _chain(23, 25, 27, 29, 31, 27)
    + _chain(24, 26, 28, 30, 32, 28),
    _mirror_by_name(_BLAZEPOSE33_JOINTS),
)

# What a body of h36m17 lacks: where the face, the hands and the feet point. A part of blazepose33, by the same names.
_EXTREMITY_JOINTS = (
    "nose", "left_ear", "right_ear", "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb",
    "right_thumb", "left_heel", "right_heel", "left_foot_index", "right_foot_index",
)  # fmt: skip
_EXTREMITIES13 = Skeleton(
    "extremities13",
    _EXTREMITY_JOINTS,
    ((0, 1), (0, 2), (3, 5), (4, 6), (5, 7), (6, 8), (9, 11), (10, 12)),
    _mirror_by_name(_EXTREMITY_JOINTS),
)

# --- hand, and COCO-WholeBody: body, feet, face, left hand, right hand --------------------------------------

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FINGER_JOINTS = tuple(f"{finger}{i}" for finger in _FINGERS for i in range(1, 5))
_HAND21_BONES = tuple(bone for base in (1, 5, 9, 13, 17) for bone in _chain(0, *range(base, base + 4)))
_HAND21_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017,
    0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031,
)  # fmt: skip
# A mirrored left hand is a right hand with the same joints: the mirror is the identity.
_HAND21 = Skeleton("hand21", ("wrist", *_FINGER_JOINTS), _HAND21_BONES, tuple(range(21)), _HAND21_SIGMAS)

_FOOT_JOINTS = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_FOOT_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FACE68_MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46,
    39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65,
)  # fmt: skip
_FACE68_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043,
    0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007,
    0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013,
    0.008, 0.011, 0.012, 0.01, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.01, 0.008, 0.009, 0.009,
    0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.01, 0.008,
)  # fmt: skip
_FACE_AT, _LEFT_HAND_AT, _RIGHT_HAND_AT = 23, 91, 112

_WHOLEBODY133 = Skeleton(
    "wholebody133",
    (
        *_COCO17_JOINTS,
        *_FOOT_JOINTS,
        *(f"face-{i}" for i in range(68)),
        *(f"{side}_{joint}" for side in ("left", "right") for joint in ("hand_root", *_FINGER_JOINTS)),
    ),
    (
        *_COCO17_BONES,
        *((15, foot) for foot in (17, 18, 19)),
        *((16, foot) for foot in (20, 21, 22)),
        *((a + at, b + at) for at in (_LEFT_HAND_AT, _RIGHT_HAND_AT) for a, b in _HAND21_BONES),
    ),
    (
        *_COCO17.mirror,
        *(20, 21, 22, 17, 18, 19),
        *(i + _FACE_AT for i in _FACE68_MIRROR),
        *range(_RIGHT_HAND_AT, 133),
        *range(_LEFT_HAND_AT, _RIGHT_HAND_AT),
    ),
    _COCO17_SIGMAS + _FOOT_SIGMAS + _FACE68_SIGMAS + 2 * _HAND21_SIGMAS,
)

# --- 106 face points ----------------------------------------------------------------------------------------
# The person's right eye and brow come first: they are on the left of the image.

_FACE106_JOINTS = (
    *(f"contour-{i}" for i in range(33)),
    *(f"right_brow-{i}" for i in range(9)),
    *(f"left_brow-{i}" for i in range(9)),
    *(f"nose_bridge-{i}" for i in range(4)),
    *(f"nose-{i}" for i in range(11)),
    *(f"right_eye-{i}" for i in range(8)),
    "right_eye_centre",
    *(f"left_eye-{i}" for i in range(8)),
    "left_eye_centre",
    *(f"mouth_outer-{i}" for i in range(12)),
    *(f"mouth_inner-{i}" for i in range(8)),
    "right_iris",
    "left_iris",
)
_FACE106 = Skeleton(
    "face106",
    _FACE106_JOINTS,
    _chain(*range(33))
    + _ring(33, 41)
    + _ring(42, 50)
    + _chain(*range(51, 55))
    + _chain(*range(55, 66))
    + _ring(66, 73)
    + _ring(75, 82)
    + _ring(84, 95)
    + _ring(96, 103),
    (
        *range(32, -1, -1), 46, 45, 44, 43, 42, 50, 49, 48, 47, 37, 36, 35, 34, 33, 41, 40, 39, 38,
        51, 52, 53, 54, *range(65, 54, -1), 79, 78, 77, 76, 75, 82, 81, 80, 83, 70, 69, 68, 67, 66,
        73, 72, 71, 74,
        *range(90, 83, -1), *range(95, 90, -1), *range(100, 95, -1), 103, 102, 101, 105, 104,
    ),
)  # fmt: skip

# --- face mesh: 468 points of the skin, 5 of each iris ------------------------------------------------------
# The mesh is its own mirror image: its points are those of the middle, those of the person's right in ascending order,
# and their counterparts on the left, from 248 on, in the same order.

_MESH_MIDDLE = (
    0, 1, 2, 4, 5, 6, 8, 9, *range(10, 20), 94, 151, 152, 164, 168, 175, 195, 197, 199, 200,
)  # fmt: skip
_MESH_RIGHT = tuple(i for i in range(248) if i not in _MESH_MIDDLE)
_IRIS_MIRROR = {468: 473, 469: 476, 470: 475, 471: 474, 472: 477}  # the middle, then around it
_MESH_PAIRS = {right: 248 + i for i, right in enumerate(_MESH_RIGHT)} | _IRIS_MIRROR
_MESH_MIRROR = _MESH_PAIRS | {left: right for right, left in _MESH_PAIRS.items()} | {i: i for i in _MESH_MIDDLE}
_MESH_NOSE = (
    _chain(168, 6, 197, 195, 5, 4, 1, 19, 94, 2) + _chain(4, 45, 220, 115, 48, 64, 98, 97, 2)
    + _chain(4, 275, 440, 344, 278, 294, 327, 326, 2)
)  # fmt: skip
_MESH_RIGHT_LINES = (
    _chain(33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7, 33)  # eye
    + _chain(46, 53, 52, 65, 55) + _chain(70, 63, 105, 66, 107)  # brow, lower and upper edge
    + _chain(469, 470, 471, 472, 469)  # iris
    + _chain(10, 109, 67, 103, 54, 21, 162, 127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)  # outline
    + _chain(0, 37, 39, 40, 185, 61, 146, 91, 181, 84, 17)  # outer edge of the lips
    + _chain(13, 82, 81, 80, 191, 78, 95, 88, 178, 87, 14)  # inner edge
)  # fmt: skip


def _mesh_joint(i: int) -> str:
    side = "" if i in _MESH_MIDDLE else "right_" if i in _MESH_PAIRS else "left_"
    return f"{side}{'iris' if i >= 468 else 'face'}-{i}"


_FACE478 = Skeleton(
    "face478",
    tuple(_mesh_joint(i) for i in range(478)),
    _MESH_NOSE
    + _MESH_RIGHT_LINES
    + tuple((_MESH_MIRROR[a], _MESH_MIRROR[b]) for a, b in _MESH_RIGHT_LINES),
    tuple(_MESH_MIRROR[i] for i in range(478)),
)  # fmt: skip

SKELETONS: dict[str, Skeleton] = {
    s.name: s
    for s in (
        _COCO17, _H36M17, _BODY15, _BLAZEPOSE33, _EXTREMITIES13, _WHOLEBODY133, _HAND21, _FACE106, _FACE478,
    )
}  # fmt: skip


def get(name: str) -> Skeleton:
    """The layout of that name; UsageError, naming the nearest, if there is none."""
    try:
        return SKELETONS[name]
    except KeyError:
        near = difflib.get_close_matches(name, SKELETONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown skeleton {name!r}{hint} Known: {', '.join(SKELETONS)}") from None


# --- conversion ---------------------------------------------------------------------------------------------
# One row per target joint: the source joints whose mean it is. What COCO and BlazePose lack of Human3.6M:
#   hip        middle of the hips
#   thorax     middle of the shoulders
#   spine      halfway between hip and thorax
#   neck_nose  the nose
#   head       middle of the eyes (MMPose's convention; Human3.6M's own marker is at the crown)
# From body15, which has head, thorax and hip, the missing spine and neck_nose are halfway between neighbours.

_Rows = tuple[tuple[int, ...], ...]


def _rows(source: Skeleton, target: Skeleton, derived: dict[str, tuple[str, ...]]) -> _Rows:
    parts = (derived.get(joint, (joint,)) for joint in target.joints)
    return tuple(tuple(source.index(part) for part in joint_parts) for joint_parts in parts)


_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_H36M_FROM_FACE_AND_LIMBS = {
    "hip": _HIPS,
    "thorax": _SHOULDERS,
    "spine": _HIPS + _SHOULDERS,
    "neck_nose": ("nose",),
    "head": ("left_eye", "right_eye"),
}

_TABLE: dict[tuple[str, str], _Rows] = {
    ("blazepose33", "coco17"): _rows(_BLAZEPOSE33, _COCO17, {}),
    ("blazepose33", "extremities13"): _rows(_BLAZEPOSE33, _EXTREMITIES13, {}),
    ("blazepose33", "h36m17"): _rows(_BLAZEPOSE33, _H36M17, _H36M_FROM_FACE_AND_LIMBS),
    ("coco17", "h36m17"): _rows(_COCO17, _H36M17, _H36M_FROM_FACE_AND_LIMBS),
    ("wholebody133", "coco17"): _rows(_WHOLEBODY133, _COCO17, {}),
    ("wholebody133", "h36m17"): _rows(_WHOLEBODY133, _H36M17, _H36M_FROM_FACE_AND_LIMBS),
    ("body15", "h36m17"): _rows(_BODY15, _H36M17, {"spine": ("hip", "thorax"), "neck_nose": ("thorax", "head")}),
}


def convert(points: NDArray[Any], source: str, target: str, *, scored: bool = True) -> NDArray[Any]:
    """Rearrange keypoints from one layout to another.

    `points` is (..., K, C). A joint that the source lacks is the mean of some of its joints, and its score is
    the lowest of theirs. With `scored` the last of three or more channels is the score: (x, y, score) or
    (x, y, z, score); pass False for bare (x, y, z). Two channels are always bare (x, y).

    Returns (..., K of the target, C) in the floating dtype of `points` (a copy, also when nothing changes).
    Raises UsageError when there is no conversion, ValueError when K is not that of the source.
    """
    src, dst = get(source), get(target)
    points = np.asarray(points)
    if not np.issubdtype(points.dtype, np.floating):
        points = points.astype(np.float64)
    if points.ndim < 2 or points.shape[-2] != len(src):
        raise ValueError(f"{source} keypoints have shape (..., {len(src)}, C), got {points.shape}")
    if src is dst:
        return points.copy()
    taken, starts, counts = _sums(source, target)
    channels = points.shape[-1]
    coords = channels - 1 if scored and channels > 2 else channels
    parts = points[..., taken, :]
    out: NDArray[Any] = np.add.reduceat(parts, starts, axis=-2) / counts.astype(points.dtype)
    out[..., coords:] = np.minimum.reduceat(parts[..., coords:], starts, axis=-2)
    return out


@cache
def _sums(source: str, target: str) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Joints of the source in the order in which they are summed, where each sum begins, and of how many it is (K, 1).

    Raises UsageError when there is no conversion.
    """
    try:
        rows = _TABLE[source, target]
    except KeyError:
        known = [t for s, t in _TABLE if s == source]
        can = f"it converts to {', '.join(known)}" if known else "it converts to nothing else"
        raise UsageError(f"no conversion of keypoints from {source} to {target}; {can}") from None
    counts = np.array([len(parts) for parts in rows])
    return np.array([part for parts in rows for part in parts]), np.cumsum(counts) - counts, counts[:, None]
