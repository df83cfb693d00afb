"""More motions and bodies from recorded ones.

Limbs of one recording on the body of another (cf. Li et al., "Cascaded deep monocular 3D human pose estimation with
evolutionary training data", CVPR 2020), other bone lengths, other directions of the limbs (cf. Gong et al.,
"PoseAug", CVPR 2021), bodies that keep their balance, and whole bodies turned over. A limb is moved as a whole, in the
frame of the pelvis or chest it hangs on, so that knees and elbows bend as somebody's did.

Motions are [B, T, 17, 3] in metres, y up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from streamkp.training import bones
from streamkp.training.bones import JOINT
from streamkp.training.randomness import Random, about, constant, rotations

MIRRORED = 0.5  # shares of the windows
OTHER_UPPER_BODY, OTHER_ARM, OTHER_LEG, BENT_LIMBS = 0.25, 0.15, 0.12, 0.5
BALANCED, LEANING, TURNED_OVER = 0.5, 0.2, 0.15
LIMB_BEND = {"arm": 0.4, "leg": 0.3}  # radians, standard deviation
LEAN = 0.5
SIZE, PART = 0.06, 0.1  # standard deviation of the logarithm of a length
BUILD = 0.14  # radians, standard deviation: where a body has its shoulders, hips and neck
FURTHEST_TILT = math.radians(50)  # who would have to be turned by more falls instead

# Bones that grow together; left and right alike.
_PARTS = (
    bones.bones_to("left_hip", "right_hip"),
    bones.LEG["left"][:1] + bones.LEG["right"][:1],
    bones.LEG["left"][1:] + bones.LEG["right"][1:],
    bones.bones_to("spine", "thorax"),
    bones.bones_to("neck_nose", "head"),
    bones.bones_to("left_shoulder", "right_shoulder"),
    bones.ARM["left"][:1] + bones.ARM["right"][:1],
    bones.ARM["left"][1:] + bones.ARM["right"][1:],
)
_PART_OF = tuple(next(i for i, part in enumerate(_PARTS) if bone in part) for bone in range(bones.BONES))

# Shares of the weight of a body near each joint: Winter, "Biomechanics and Motor Control of Human Movement", rounded.
_WEIGHT = {"hip": 0.1, "spine": 0.18, "thorax": 0.18, "head": 0.08} | {
    f"{side}_{joint}": weight
    for joint, weight in {
        "hip": 0.06,
        "knee": 0.08,
        "ankle": 0.04,
        "shoulder": 0.02,
        "elbow": 0.02,
        "wrist": 0.01,
    }.items()
    for side in ("left", "right")
}
_STANDS_ON = tuple(JOINT[f"{side}_{end}"] for end in ("ankle", "wrist") for side in ("left", "right"))


def vary(motion: Tensor, random: Random) -> Tensor:
    """Other people doing other things: [B, T, 17, 3] -> the same shape."""
    batch = len(motion)
    motion = mirror(motion, random.chance(MIRRORED, batch))
    directions, lengths = bones.split(motion)
    chest, pelvis = bones.chest_frame, bones.pelvis_frame
    directions = _exchange(directions, random, OTHER_UPPER_BODY, bones.UPPER_BODY, pelvis)
    for side in ("left", "right"):
        directions = _exchange(directions, random, OTHER_ARM, bones.ARM[side], chest)
        directions = _exchange(directions, random, OTHER_LEG, bones.LEG[side], pelvis)
    directions = build(directions, random)
    directions = _bend(directions, random, random.chance(BENT_LIMBS, batch))
    scale = _scales(batch, random)
    root = motion[..., 0, :] * scale.mean((1, 2))[:, None, None]
    return balanced(bones.join(root, directions * lengths * scale[:, None]), random.chance(BALANCED, batch))


def mirror(motion: Tensor, which: Tensor) -> Tensor:
    """The windows of the batch that `which` [B] names, as in a mirror."""
    flipped = bones.of(motion, bones.MIRROR) * constant((-1.0, 1.0, 1.0), motion.device)
    return torch.where(which[:, None, None, None], flipped, motion)


def balanced(motion: Tensor, which: Tensor) -> Tensor:
    """Those that `which` [B] names turned so that their weight is above what they stand on: the lowest feet or hands.

    A leg that is lifted is balanced by the trunk, which tells whether it is before or behind the body.
    """
    weights = constant(tuple(_WEIGHT.get(joint, 0.0) for joint in JOINT), motion.device)
    heavy = (motion * weights[:, None]).sum(-2) / weights.sum()
    ends = bones.of(motion, _STANDS_ON)
    share = torch.softmax(-ends[..., 1] / 0.04, -1)
    toward = heavy - (ends * share[..., None]).sum(-2)
    toward = _moving_average(toward, 4)
    level = torch.stack([toward[..., 0], torch.zeros_like(toward[..., 0]), toward[..., 2]], -1)
    distance = level.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    tilt = torch.atan2(distance, toward[..., 1:2])
    tilt = torch.where(tilt.amax(1, keepdim=True) < FURTHEST_TILT, tilt, 0.0)
    up = constant((0.0, 1.0, 0.0), motion.device).expand_as(level)
    turns = rotations(torch.linalg.cross(level / distance, up) * tilt)
    middle = motion[:, :, :1]
    turned = bones.turn(turns, motion - middle) + middle
    return torch.where(which[:, None, None, None], turned, motion)


def turn_over(motion: Tensor, random: Random) -> Tensor:
    """Some of the batch leaning, and some lying, falling or turning cartwheels: turned about a level axis."""
    batch, frames = motion.shape[:2]
    over = random.chance(TURNED_OVER / (LEANING + TURNED_OVER), batch)
    start = torch.where(over, random.uniform(-math.pi, math.pi, batch), LEAN * random.normal(batch))
    turning = random.wander((batch,), frames, 24.0) * random.choice((0.0, 0.5, 2.0), batch, 1)
    angles = start[:, None] + torch.where(over, 1.0, 0.3)[:, None] * turning
    heading = about(1, random.uniform(0, 2 * math.pi, batch, 1))
    turns = heading @ about(0, angles) @ heading.transpose(-1, -2)
    middle = motion[:, :, :1]
    turned = bones.turn(turns, motion - middle) + middle
    return torch.where(random.chance(LEANING + TURNED_OVER, batch)[:, None, None, None], turned, motion)


def build(directions: Tensor, random: Random) -> Tensor:
    """Bone directions [B, T, 16, 3], those of the trunk turned by as much throughout a window, left and right alike.

    People differ in this, and so do the skeletons that motion capture puts into them.
    """
    out = directions
    opposite = constant((1.0, -1.0, -1.0), directions.device)
    for frame, middle, side in (
        (bones.pelvis_frame(directions), ("spine",), "hip"),
        (bones.chest_frame(directions), ("thorax", "neck_nose", "head"), "shoulder"),
    ):
        turns = BUILD * random.normal(len(directions), 1, len(middle) + 1, 3)
        turns[:, :, :-1, 1:] /= 3  # what is in the middle of a body leans forward or back
        left = turns[:, :, -1:]
        right = left * opposite + 0.2 * BUILD * random.normal(*left.shape)
        which = bones.bones_to(*middle, f"left_{side}", f"right_{side}")
        inside = bones.turn(frame.transpose(-1, -2), bones.of(directions, which))  # in the axes of the pelvis or chest
        turned = bones.turn(rotations(torch.cat([turns, right], 2)), inside[..., None, :])[..., 0, :]
        out = bones.replaced(out, which, bones.turn(frame, turned))
    return out


def _exchange(
    directions: Tensor, random: Random, share: float, part: tuple[int, ...], frame: Callable[[Tensor], Tensor]
) -> Tensor:
    """Some with that part of the body of others, as it is to the frame that it hangs on."""
    other, here = random.others(len(directions)), frame(directions)
    inside = bones.turn(here[other].transpose(-1, -2), bones.of(directions[other], part))
    return _replaced(directions, part, bones.turn(here, inside), random.chance(share, len(directions)))


def _bend(directions: Tensor, random: Random, which: Tensor) -> Tensor:
    batch, frames = directions.shape[:2]
    for limb, parts in (("arm", bones.ARM), ("leg", bones.LEG)):
        for side in ("left", "right"):
            vectors = random.normal(batch, 1, 3) + 0.5 * random.wander((batch, 3), frames, 30.0)
            bent = bones.turn(rotations(LIMB_BEND[limb] * vectors), bones.of(directions, parts[side]))
            directions = _replaced(directions, parts[side], bent, which)
    return directions


def _replaced(directions: Tensor, part: tuple[int, ...], new: Tensor, which: Tensor) -> Tensor:
    return torch.where(which[:, None, None, None], bones.replaced(directions, part, new), directions)


def _scales(batch: int, random: Random) -> Tensor:
    """Factors of the bone lengths [B, 16, 1]."""
    logarithms = SIZE * random.normal(batch, 1)
    alike = constant(_PART_OF, random.device)
    return (logarithms + PART * random.normal(batch, len(_PARTS))[:, alike]).exp()[..., None]


def _moving_average(values: Tensor, reach: int) -> Tensor:
    """[B, T, N]: each row's mean with `reach` rows before and after it; the ends are repeated."""
    first, last = values[:, :1].expand(-1, reach, -1), values[:, -1:].expand(-1, reach, -1)
    sums = torch.cat([first, values, last], 1).unfold(1, 2 * reach + 1, 1)
    return sums.mean(-1)
