"""Human3.6M poses as bones: directions and lengths, frames of reference, and back to joints.

Motions are [B, T, 17, 3] in metres, y up; bones are in the order of their child joints 1..16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons

Floats = NDArray[np.floating[Any]]

_H36M17 = skeletons.get("h36m17")
JOINT = {name: i for i, name in enumerate(_H36M17.joints)}
PARENTS = (-1, *(parent for parent, _ in sorted(_H36M17.bones, key=lambda bone: bone[1])))
BONES = len(PARENTS) - 1


def bones_to(*joints: str) -> list[int]:
    """Indices of the bones that end at these joints."""
    return [JOINT[joint] - 1 for joint in joints]


ARM = {side: bones_to(f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")}
LEG = {side: bones_to(f"{side}_knee", f"{side}_ankle") for side in ("left", "right")}
UPPER_BODY = list(range(6, BONES))  # everything above the hips


def split(motion: Floats) -> tuple[Floats, Floats]:
    """Unit directions [..., 16, 3] and lengths [..., 16, 1] of the bones."""
    vectors = motion[..., 1:, :] - motion[..., PARENTS[1:], :]
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-6), lengths


def join(root: Floats, vectors: Floats) -> Floats:
    """Joints [..., 17, 3] of a root [..., 3] and bone vectors [..., 16, 3]."""
    joints = [root]
    for bone, parent in enumerate(PARENTS[1:]):
        joints.append(joints[parent] + vectors[..., bone, :])
    return np.stack(joints, -2)


def frame(across: Floats, up: Floats) -> Floats:
    """Rotations [..., 3, 3] whose columns are: to the person's left, up, forward. `up` is made square to `across`."""
    x = unit(across)
    y = unit(up - (up * x).sum(-1, keepdims=True) * x)
    return np.stack([x, y, np.cross(x, y)], -1)


def pelvis_frame(directions: Floats) -> Floats:
    """[..., 3, 3] of bone directions [..., 16, 3]."""
    left, right, spine = (directions[..., bone, :] for bone in bones_to("left_hip", "right_hip", "spine"))
    return frame(left - right, spine)


def chest_frame(directions: Floats) -> Floats:
    """[..., 3, 3] of bone directions [..., 16, 3]."""
    left, right, thorax = (directions[..., bone, :] for bone in bones_to("left_shoulder", "right_shoulder", "thorax"))
    return frame(left - right, thorax)


def unit(vectors: Floats) -> Floats:
    """Vectors [..., 3] at length 1."""
    out: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    return out


def turn(rotations: Floats, vectors: Floats) -> Floats:
    """Rotations [..., 3, 3] applied to vectors [..., N, 3]."""
    out: Floats = vectors @ np.swapaxes(rotations, -1, -2)
    return out
