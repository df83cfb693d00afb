"""Motions that nobody recorded: random poses within what joints allow, and smooth ways between them.

Recordings of people who walk and play ball lack the squats, stretches and crouches of those who exercise. Angles are
drawn around standing upright, in the order in which a body is built: pelvis, spine, chest, head, limbs. Ranges of
motion: Norkin and White, "Measurement of Joint Motion", rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.training import bones
from streamkp.training.randomness import about

Floats = NDArray[np.floating[Any]]

LENGTHS = {  # metres, of an adult of 1.75 m
    "hip": 0.09, "knee": 0.42, "ankle": 0.42, "spine": 0.22, "thorax": 0.23, "neck_nose": 0.19, "head": 0.095,
    "shoulder": 0.19, "elbow": 0.28, "wrist": 0.20,
}  # fmt: skip
_DEGREE = np.pi / 180

# Degrees, lowest and highest. x: forward is positive (flexion); z: to the side; y: turn about the length.
_RANGES = {
    "pelvis_x": (-30, 80), "pelvis_z": (-55, 55),
    "spine_x": (-30, 40), "spine_y": (-30, 30), "spine_z": (-30, 30),
    "neck_x": (-35, 40), "neck_z": (-35, 35),
    "hip_x": (-45, 120), "hip_z": (-15, 80), "hip_y": (-30, 35), "knee": (0, 130),
    "shoulder_x": (-45, 170), "shoulder_z": (-15, 150), "shoulder_y": (-60, 80), "elbow": (0, 140),
}  # fmt: skip
TRANSITION = (12.0, 40.0)  # frames from one drawn pose to the next
_TOWARD_REST = 1.6  # a power: most angles are far smaller than the largest


def invent(
    count: int, frames: int, random: np.random.Generator, transition: tuple[float, float] = TRANSITION
) -> Floats:
    """`count` motions [count, frames, 17, 3] in metres, y up, standing at the origin's height.

    `transition`: shortest and longest time from one drawn pose to the next, in frames.
    """
    at = random.uniform(0, 1) + np.arange(frames) / random.uniform(*transition)
    before, knots = at.astype(int), int(at[-1]) + 2
    share_of_next = (1 - np.cos(np.pi * (at - before))) / 2

    def angle(name: str) -> Floats:
        """[count, frames] in radians: eased from one drawn angle to the next."""
        low, high = _RANGES[name]
        share = random.uniform(0, 1, (count, knots)) ** _TOWARD_REST
        drawn = np.where(random.random((count, knots)) < -low / (high - low), low * share, high * share)
        held = random.random((count, 1)) < 0.3
        drawn = np.where(held, drawn[:, :1], drawn) * _DEGREE
        out: Floats = drawn[:, before] * (1 - share_of_next) + drawn[:, before + 1] * share_of_next
        return out

    def bend(name: str, axes: str = "xyz") -> Floats:
        turns = np.broadcast_to(np.eye(3), (count, frames, 3, 3))
        for axis in axes:
            sign = -1 if axis == "x" and name in ("hip", "shoulder") else 1  # what hangs down goes forward by -x
            turns = turns @ about("xyz".index(axis), sign * angle(f"{name}_{axis}"))
        return turns

    heading = about(1, np.repeat(random.uniform(0, 2 * np.pi, (count, 1)), frames, 1))
    pelvis = heading @ bend("pelvis", "xz")
    waist = pelvis @ bend("spine")
    chest = waist @ bend("spine")
    head = chest @ bend("neck", "xz")
    vectors = np.zeros((count, frames, bones.BONES, 3))

    def place(joint: str, turns: Floats, direction: tuple[float, float, float]) -> None:
        length = LENGTHS[joint.removeprefix("left_").removeprefix("right_")]
        vectors[:, :, bones.JOINT[joint] - 1] = turns @ (length * np.array(direction))

    place("spine", waist, (0, 1, 0))
    place("thorax", chest, (0, 1, 0))
    place("neck_nose", head, (0, 1, 0))
    place("head", head, (0, 1, 0))
    for side, out in (("left", 1.0), ("right", -1.0)):
        outward = np.array([1, out, out])  # the mirrored side turns the other way about y and z
        thigh = pelvis @ _mirrored(bend("hip", "xzy"), outward)
        arm = chest @ _mirrored(bend("shoulder", "xzy"), outward)
        place(f"{side}_hip", pelvis, (out, 0, 0))
        place(f"{side}_knee", thigh, (0, -1, 0))
        place(f"{side}_ankle", thigh @ about(0, angle("knee")), (0, -1, 0))
        place(f"{side}_shoulder", chest, (out, 0, 0))
        place(f"{side}_elbow", arm, (0, -1, 0))
        place(f"{side}_wrist", arm @ about(0, -angle("elbow")), (0, -1, 0))
    motion = bones.join(np.zeros((count, frames, 3)), vectors)
    motion[..., 1] -= motion[..., 1].min(-1, keepdims=True)  # on the floor
    return motion


def _mirrored(turns: Floats, outward: Floats) -> Floats:
    """Rotations of the left side as those of the right when `outward` is (1, -1, -1); a rotation about x stays."""
    flip = np.diag([outward[1], 1.0, 1.0])
    return flip @ turns @ flip
