"""Human3.6M poses as bones: directions and lengths, frames of reference, and back to joints.

Motions are [B, T, 17, 3] in metres, y up; bones are in the order of their child joints 1..16.
"""

from __future__ import annotations

import torch
from torch import Tensor

from streamkp import skeletons
from streamkp.motion import track_view
from streamkp.training.randomness import constant

_H36M17 = skeletons.get("h36m17")
JOINT = {name: i for i, name in enumerate(_H36M17.joints)}
MIRROR = _H36M17.mirror
PARENTS = (-1, *(parent for parent, _ in sorted(_H36M17.bones, key=lambda bone: bone[1])))
BONES = len(PARENTS) - 1


def bones_to(*joints: str) -> tuple[int, ...]:
    """Indices of the bones that end at these joints."""
    return tuple(JOINT[joint] - 1 for joint in joints)


def of(values: Tensor, which: tuple[int, ...]) -> Tensor:
    """Those joints or bones of [..., N, C]."""
    return values.index_select(-2, constant(which, values.device))


ARM = {side: bones_to(f"{side}_elbow", f"{side}_wrist") for side in ("left", "right")}
LEG = {side: bones_to(f"{side}_knee", f"{side}_ankle") for side in ("left", "right")}
UPPER_BODY = tuple(range(6, BONES))  # everything above the hips


def replaced(values: Tensor, which: tuple[int, ...], new: Tensor) -> Tensor:
    """[..., N, C] with `new` [..., n, C] in place of those joints or bones."""
    return values.index_copy(-2, constant(which, values.device), new)


def split(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Unit directions [..., 16, 3] and lengths [..., 16, 1] of the bones."""
    vectors = motion[..., 1:, :] - of(motion, PARENTS[1:])
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.clamp(min=1e-6), lengths


def join(root: Tensor, vectors: Tensor) -> Tensor:
    """Joints [..., 17, 3] of a root [..., 3] and bone vectors [..., 16, 3]."""
    joints = [root]
    for bone, parent in enumerate(PARENTS[1:]):
        joints.append(joints[parent] + vectors[..., bone, :])
    return torch.stack(joints, -2)


def frame(across: Tensor, up: Tensor) -> Tensor:
    """Rotations [..., 3, 3] whose columns are: to the person's left, up, forward. `up` is made square to `across`."""
    x = unit(across)
    y = unit(up - (up * x).sum(-1, keepdim=True) * x)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def pelvis_frame(directions: Tensor) -> Tensor:
    """[..., 3, 3] of bone directions [..., 16, 3]."""
    left, right, spine = (directions[..., bone, :] for bone in bones_to("left_hip", "right_hip", "spine"))
    return frame(left - right, spine)


def chest_frame(directions: Tensor) -> Tensor:
    """[..., 3, 3] of bone directions [..., 16, 3]."""
    left, right, thorax = (directions[..., bone, :] for bone in bones_to("left_shoulder", "right_shoulder", "thorax"))
    return frame(left - right, thorax)


def turn(rotations: Tensor, vectors: Tensor) -> Tensor:
    """Rotations [..., 3, 3] applied to vectors [..., N, 3]."""
    out: Tensor = track_view.turn(rotations, vectors)
    return out


def unit(vectors: Tensor) -> Tensor:
    """Vectors [..., 3] at length 1."""
    out: Tensor = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return out
