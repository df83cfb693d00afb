"""Where the hands and the face of a person are, from the keypoints of the body.

Any skeleton works that names the joints; one with hands and face of its own (wholebody133) gives them directly. Boxes
are float32 (4,): x, y, w, h in source pixels; points (K, 3): x, y in source pixels, score.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from streamkp.packet import FloatArray
from streamkp.poses import Region
from streamkp.skeletons import Skeleton

Side = Literal["left", "right"]

_ARM = ("wrist", "elbow", "shoulder")
_EYES = ("right_eye", "left_eye")  # in this order from left to right in the image of somebody who looks at us
_HAND_FROM_WRIST = 0.33  # of the forearm: Simon et al., CVPR 2017, as OpenPose does it
_HAND_SIZE = 1.0  # of the forearm: a stretched hand is three quarters of it long
_SQUARE_PER_BOX = 1.3
_SQUARE_PER_PALM = 5.0  # of the way from the wrist to the knuckles: a hand is twice as long
_UPPER_ARM = 0.9  # length of the forearm against that of the upper arm
# A head is about 14 cm wide, ear to ear; 6.3 cm between the pupils, 4.5 cm from between them to the tip of the nose.
# Seen from the side one of these is short, so the largest counts.
_HEAD_PER_EYES, _HEAD_PER_NOSE = 2.2, 3.1
_FACE_BELOW_EYES = 0.3  # centre of the face, from brows to chin, in heads
_OWN_MARGIN = 0.1  # around the box of a part's own points, on every side, as data sets draw the box of a hand


def has_hands(skeleton: Skeleton) -> bool:
    """Whether hands can be found from this skeleton."""
    return all(f"{side}_{joint}" in skeleton.joints for side in ("left", "right") for joint in _ARM[:2])


def has_face(skeleton: Skeleton) -> bool:
    """Whether the face can be found from this skeleton."""
    return all(joint in skeleton.joints for joint in ("nose", *_EYES))


def hand_box(points: FloatArray, skeleton: Skeleton, side: Side, min_score: float) -> FloatArray | None:
    """The box of a hand, or None where the body does not tell: wrist or elbow are not seen."""
    own = _named(skeleton, f"{side}_hand_root")
    if own is not None:
        hand = points[own : own + 21]
        if np.median(hand[:, 2]) >= min_score:
            return _around(hand)
    wrist, elbow = (points[skeleton.index(f"{side}_{joint}")] for joint in _ARM[:2])
    if min(wrist[2], elbow[2]) < min_score:
        return None
    forearm = wrist[:2] - elbow[:2]
    length = float(np.hypot(*forearm))
    shoulder = _named(skeleton, f"{side}_shoulder")
    if shoulder is not None and points[shoulder, 2] >= min_score:  # a forearm that points at us looks short
        length = max(length, _UPPER_ARM * float(np.hypot(*(elbow[:2] - points[shoulder, :2]))))
    size = _HAND_SIZE * length
    if not size > 0:
        return None
    return _square(wrist[:2] + _HAND_FROM_WRIST * forearm, size)


def hand_square(points: FloatArray, skeleton: Skeleton, side: Side, min_score: float) -> Region | None:
    """The square around a hand, turned so that the fingers point up; None where the body does not tell.

    Wider than the hand by half on every side, for networks that look twice. Where the skeleton has knuckles the hand
    goes their way, otherwise that of the forearm.
    """
    box = hand_box(points, skeleton, side, min_score)
    if box is None:
        return None
    wrist, elbow = (points[skeleton.index(f"{side}_{joint}"), :2] for joint in _ARM[:2])
    reach, size = wrist - elbow, _SQUARE_PER_BOX * float(box[2:].max())
    centre = box[:2] + box[2:] / 2
    index, pinky = (_named(skeleton, f"{side}_{finger}") for finger in ("index", "pinky"))
    if index is not None and pinky is not None and points[[index, pinky], 2].min() >= min_score:
        centre = (2 * points[index, :2] + points[pinky, :2]) / 3  # the middle finger's, as MediaPipe Holistic does it
        reach = centre - wrist
        size = max(size, _SQUARE_PER_PALM * float(np.hypot(*reach)))
    angle = np.arctan2(reach[0], -reach[1])
    return np.array((*centre, size, size, angle), np.float32)


def face_region(points: FloatArray, skeleton: Skeleton, min_score: float) -> Region | None:
    """The region of a face, turned with the line of the eyes; None where eyes and nose are not all seen."""
    right, left, nose = (points[skeleton.index(joint)] for joint in (*_EYES, "nose"))
    if min(right[2], left[2], nose[2]) < min_score:
        return None
    eyes = left[:2] - right[:2]
    middle = (left[:2] + right[:2]) / 2
    angle = float(np.arctan2(eyes[1], eyes[0]))
    down = np.array((-np.sin(angle), np.cos(angle)))
    towards_nose = nose[:2] - middle
    if towards_nose @ down < 0:  # seen from behind, or the eyes swapped: the nose says where down is
        angle, down = float(np.arctan2(-eyes[1], -eyes[0])), -down
    size = max(
        _HEAD_PER_EYES * np.hypot(*eyes), _HEAD_PER_NOSE * np.hypot(*towards_nose), _ears(points, skeleton, min_score)
    )
    if not size > 0:
        return None
    centre = middle + _FACE_BELOW_EYES * size * down
    return np.array((*centre, size, size, angle), np.float32)


def _ears(points: FloatArray, skeleton: Skeleton, min_score: float) -> float:
    ears = [points[i] for name in ("left_ear", "right_ear") if (i := _named(skeleton, name)) is not None]
    if len(ears) < 2 or min(ear[2] for ear in ears) < min_score:
        return 0.0
    return float(np.hypot(*(ears[0][:2] - ears[1][:2])))


def _named(skeleton: Skeleton, joint: str) -> int | None:
    return skeleton.joints.index(joint) if joint in skeleton.joints else None


def _around(points: FloatArray) -> FloatArray:
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    margin = _OWN_MARGIN * float((high - low).max())
    return np.concatenate([low - margin, high - low + 2 * margin]).astype(np.float32)


def _square(centre: FloatArray, size: float) -> FloatArray:
    return np.array((centre[0] - size / 2, centre[1] - size / 2, size, size), np.float32)
