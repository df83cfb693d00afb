"""Motions that nobody recorded: random poses within what joints allow, and smooth ways between them.

Recordings of people who walk and play ball lack the squats, stretches and crouches of those who exercise. Angles are
drawn around standing upright, in the order in which a body is built: pelvis, spine, chest, head, limbs. Ranges of
motion: Norkin and White, "Measurement of Joint Motion", rounded.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamkp.training import bones
from streamkp.training.randomness import Random, about, constant

LENGTHS = {  # metres, of an adult of 1.75 m
    "hip": 0.09, "knee": 0.42, "ankle": 0.42, "spine": 0.22, "thorax": 0.23, "neck_nose": 0.19, "head": 0.095,
    "shoulder": 0.19, "elbow": 0.28, "wrist": 0.20,
}  # fmt: skip

# Degrees, lowest and highest. x: forward is positive (flexion); z: to the side; y: turn about the length.
_RANGES = {
    "pelvis_x": (-30, 80), "pelvis_z": (-55, 55),
    "spine_x": (-30, 40), "spine_y": (-30, 30), "spine_z": (-30, 30),
    "neck_x": (-35, 40), "neck_z": (-35, 35),
    "hip_x": (-60, 130), "hip_z": (-20, 90), "hip_y": (-30, 40), "knee": (0, 130),
    "shoulder_x": (-45, 170), "shoulder_z": (-15, 150), "shoulder_y": (-60, 80), "elbow": (0, 140),
}  # fmt: skip
TRANSITION = (12.0, 40.0)  # frames from one drawn pose to the next
_TOWARD_REST = (0.8, 2.4)  # a power, of each motion: with a large one most angles are far smaller than the largest
_HELD = 0.3  # share of the angles that stay as they are throughout a motion


def invent(count: int, frames: int, random: Random, transition: tuple[float, float] = TRANSITION) -> Tensor:
    """`count` motions [count, frames, 17, 3] in metres, y up, standing at the origin's height.

    `transition`: shortest and longest time from one drawn pose to the next, in frames.
    """
    knots = math.ceil(frames / transition[0]) + 2
    at = random.uniform(0, 1, count, 1) + torch.arange(frames, device=random.device) / random.uniform(
        *transition, count, 1
    )
    before = at.long()
    share_of_next = (1 - torch.cos(math.pi * (at - before))) / 2
    power = random.uniform(*_TOWARD_REST, count, 1)

    def angle(name: str) -> Tensor:
        """[count, frames] in radians: eased from one drawn angle to the next."""
        low, high = (math.radians(limit) for limit in _RANGES[name])
        share = random.uniform(0, 1, count, knots) ** power
        drawn = share * torch.where(random.chance(-low / (high - low), count, knots), low, high)
        drawn = torch.where(random.chance(_HELD, count, 1), drawn[:, :1], drawn)
        return drawn.gather(1, before) * (1 - share_of_next) + drawn.gather(1, before + 1) * share_of_next

    def bend(name: str, axes: str = "xyz") -> Tensor:
        turns = []
        for axis in axes:
            sign = -1 if axis == "x" and name in ("hip", "shoulder") else 1  # what hangs down goes forward by -x
            turns.append(about("xyz".index(axis), sign * angle(f"{name}_{axis}")))
        return _product(turns)

    heading = about(1, random.uniform(0, 2 * math.pi, count, 1).expand(-1, frames))
    pelvis = heading @ bend("pelvis", "xz")
    waist = pelvis @ bend("spine")
    chest = waist @ bend("spine")
    head = chest @ bend("neck", "xz")
    vectors: dict[str, Tensor] = {}

    def place(joint: str, turns: Tensor, direction: tuple[float, float, float]) -> None:
        length = LENGTHS[joint.removeprefix("left_").removeprefix("right_")]
        vectors[joint] = turns @ (length * constant(direction, random.device))

    place("spine", waist, (0.0, 1.0, 0.0))
    place("thorax", chest, (0.0, 1.0, 0.0))
    place("neck_nose", head, (0.0, 1.0, 0.0))
    place("head", head, (0.0, 1.0, 0.0))
    for side, out in (("left", 1.0), ("right", -1.0)):
        thigh = pelvis @ _mirrored(bend("hip", "xzy"), out)
        arm = chest @ _mirrored(bend("shoulder", "xzy"), out)
        place(f"{side}_hip", pelvis, (out, 0.0, 0.0))
        place(f"{side}_knee", thigh, (0.0, -1.0, 0.0))
        place(f"{side}_ankle", thigh @ about(0, angle("knee")), (0.0, -1.0, 0.0))
        place(f"{side}_shoulder", chest, (out, 0.0, 0.0))
        place(f"{side}_elbow", arm, (0.0, -1.0, 0.0))
        place(f"{side}_wrist", arm @ about(0, -angle("elbow")), (0.0, -1.0, 0.0))
    ordered = torch.stack([vectors[joint] for joint in bones.JOINT if joint in vectors], -2)
    motion = bones.join(torch.zeros_like(ordered[..., 0, :]), ordered)
    lowest = motion[..., 1].amin(-1)  # on the floor
    return motion - torch.stack([torch.zeros_like(lowest), lowest, torch.zeros_like(lowest)], -1)[..., None, :]


def _product(turns: list[Tensor]) -> Tensor:
    out = turns[0]
    for turn in turns[1:]:
        out = out @ turn
    return out


def _mirrored(turns: Tensor, out: float) -> Tensor:
    """Rotations of the left side as those of the right where `out` is -1: the other way about y and z."""
    flip = constant((out, 1.0, 1.0), turns.device)
    return turns * flip[:, None] * flip
