"""Bone rotations of one person from 3D joints, frame after frame; and back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import skeleton
from streamkp_plugins.mocap.rotations import about, frame, matrix, quaternion, swing, twist_about, unit

Array = NDArray[np.float64]
UP, FORWARD, LEFT = np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
PARENTS = {
    "Hips": None, "Spine": "Hips", "Chest": "Spine", "Neck": "Chest", "Head": "Neck",
    "LeftUpperArm": "Chest", "LeftLowerArm": "LeftUpperArm", "LeftHand": "LeftLowerArm",
    "RightUpperArm": "Chest", "RightLowerArm": "RightUpperArm", "RightHand": "RightLowerArm",
    "LeftUpperLeg": "Hips", "LeftLowerLeg": "LeftUpperLeg", "LeftFoot": "LeftLowerLeg",
    "RightUpperLeg": "Hips", "RightLowerLeg": "RightUpperLeg", "RightFoot": "RightLowerLeg",
}  # fmt: skip
BENT = (0.1, 0.35)  # sine of a limb's bend between which its plane becomes believable
MOST_BEND = np.radians(160.0)  # of knees and elbows
ANKLE_HEIGHT = 0.08  # metres above the sole


@dataclass
class Pose:
    """Local rotations by bone, (4,) each, and where the hips are in metres, y above the floor."""

    rotations: dict[str, Array]
    hips: Array


def from_camera(points: NDArray[Any]) -> Array:
    """From x right, y down, z away from the camera to y up: who faces the camera looks along +z, left along +x."""
    return np.asarray(np.asarray(points, np.float64) * [1.0, -1.0, -1.0])


class Solver:
    """Solves one person; it remembers the planes of straight limbs, so that they do not flip between frames.

    Directions of limbs are met exactly, but for bends above the joint's limit. A limb's rotation about itself comes
    from the plane in which it bends; a straight limb keeps the plane that it had.
    """

    def __init__(self, head_tilt: float = 0.0) -> None:
        """`head_tilt`: degrees that the line from thorax to head leans forward in somebody who looks straight on."""
        tilt = np.radians(head_tilt)
        self._head_rest = np.array([0.0, np.cos(tilt), np.sin(tilt)])
        self._planes: dict[str, Array] = {}
        self._floor: float | None = None

    def solve(self, points: NDArray[Any], root: NDArray[Any] | None = None) -> Pose:
        """`points` is (17, 3) of h36m17 in metres, y up; `root`, (3,), where the hips are in the same frame."""
        at = dict(zip(skeleton("h36m17").joints, np.asarray(points, np.float64), strict=True))
        world: dict[str, Array] = {}
        side = at["left_hip"] - at["right_hip"]
        world["Hips"] = _trunk(at["spine"] - at["hip"], side)
        chest = _trunk(at["thorax"] - at["spine"], at["left_shoulder"] - at["right_shoulder"])
        local = world["Hips"].T @ chest
        twist = twist_about(local, UP)
        # Half of the twist sits lower: the direction is the same, for it is about the bone itself.
        world["Spine"] = chest @ about(UP, -twist / 2)
        world["Chest"] = chest
        head = swing(self._head_rest, chest.T @ (at["head"] - at["thorax"]))
        world["Neck"] = world["Head"] = chest @ head
        for name, sign in (("Left", 1.0), ("Right", -1.0)):
            low = name.lower()
            arm = [at[f"{low}_{joint}"] for joint in ("shoulder", "elbow", "wrist")]
            leg = [at[f"{low}_{joint}"] for joint in ("hip", "knee", "ankle")]
            upper, lower = self._limb(f"{name}Arm", arm, chest, sign * LEFT, -sign * UP)
            world[f"{name}UpperArm"], world[f"{name}LowerArm"], world[f"{name}Hand"] = upper, lower, lower
            upper, lower = self._limb(f"{name}Leg", leg, world["Hips"], -UP, LEFT)
            world[f"{name}UpperLeg"], world[f"{name}LowerLeg"], world[f"{name}Foot"] = upper, lower, lower
        rotations = {
            bone: quaternion(world[bone] if parent is None else world[parent].T @ world[bone])
            for bone, parent in PARENTS.items()
        }
        return Pose(rotations, self._hips(at, root))

    def _limb(self, name: str, joints: list[Array], parent: Array, rest: Array, axis: Array) -> tuple[Array, Array]:
        """World rotations of a limb's upper and lower part; at rest it points along `rest` and bends about `axis`."""
        a, b = unit(joints[1] - joints[0]), unit(joints[2] - joints[1])
        normal = np.cross(a, b)
        bend = float(np.linalg.norm(normal))
        known = self._planes.get(name)
        # Without a memory the plane is that of the smallest turn from the parent's rest.
        usual = parent @ swing(rest, parent.T @ a) @ axis if known is None else parent @ known
        usual = unit(usual - a * float(a @ usual))
        share = float(np.clip((bend - BENT[0]) / (BENT[1] - BENT[0]), 0.0, 1.0))
        plane = unit(share * unit(normal) + (1 - share) * usual)
        if not plane.any() or (float(plane @ usual) < -0.98 and share < 1.0):
            plane = usual
        self._planes[name] = parent.T @ plane
        resting = frame(rest, axis)
        upper = frame(a, plane) @ resting.T
        angle = float(np.arccos(np.clip(a @ b, -1.0, 1.0)))
        if angle > MOST_BEND:
            b = about(unit(normal) if bend > 1e-6 else plane, MOST_BEND) @ a
        return upper, swing(a, b) @ upper

    def _hips(self, at: dict[str, Array], root: NDArray[Any] | None) -> Array:
        """Where the hips are: sideways from `root`; upwards above the floor, which the lowest foot of late shows."""
        place = at["hip"] + (np.zeros(3) if root is None else np.asarray(root, np.float64))
        below = min(float(at["left_ankle"][1]), float(at["right_ankle"][1])) - float(at["hip"][1])
        lowest = float(place[1]) + below - ANKLE_HEIGHT
        if root is None or self._floor is None or lowest < self._floor:
            self._floor = lowest
        else:
            self._floor += 0.003 * (lowest - self._floor)  # a floor that was taken too low comes back in seconds
        return np.array([place[0], place[1] - self._floor, place[2]])


def _trunk(up: Array, left: Array) -> Array:
    """The rotation of a part of the trunk: y exactly along `up`, x as near to `left` as that allows."""
    y, x, minus_z = frame(up, left).T
    return np.stack([x, y, -minus_z], axis=1)


def lengths(points: NDArray[Any]) -> dict[str, float]:
    """Lengths of one person's bones, metres, from (17, 3) of h36m17; both sides get their mean."""
    at = dict(zip(skeleton("h36m17").joints, np.asarray(points, np.float64), strict=True))

    def pair(a: str, b: str) -> float:
        return float(np.mean([np.linalg.norm(at[f"{s}_{a}"] - at[f"{s}_{b}"]) for s in ("left", "right")]))

    return {
        "hip": float(np.linalg.norm(at["left_hip"] - at["right_hip"])) / 2,
        "spine": float(np.linalg.norm(at["spine"] - at["hip"])),
        "chest": float(np.linalg.norm(at["thorax"] - at["spine"])),
        "head": float(np.linalg.norm(at["head"] - at["thorax"])),
        "shoulder": float(np.linalg.norm(at["left_shoulder"] - at["right_shoulder"])) / 2,
        "upper_arm": pair("shoulder", "elbow"),
        "lower_arm": pair("elbow", "wrist"),
        "upper_leg": pair("hip", "knee"),
        "lower_leg": pair("knee", "ankle"),
    }


def rest_offsets(size: dict[str, float]) -> dict[str, Array]:
    """Where each bone starts in its parent's frame, metres, in the T-pose."""
    offsets = {
        "Hips": np.zeros(3), "Spine": size["spine"] * UP, "Chest": size["chest"] * 0.5 * UP,
        "Neck": size["chest"] * 0.5 * UP, "Head": size["head"] * 0.5 * UP,
    }  # fmt: skip
    for name, sign in (("Left", 1.0), ("Right", -1.0)):
        offsets[f"{name}UpperArm"] = sign * size["shoulder"] * LEFT + size["chest"] * 0.5 * UP
        offsets[f"{name}LowerArm"] = sign * size["upper_arm"] * LEFT
        offsets[f"{name}Hand"] = sign * size["lower_arm"] * LEFT
        offsets[f"{name}UpperLeg"] = sign * size["hip"] * LEFT
        offsets[f"{name}LowerLeg"] = -size["upper_leg"] * UP
        offsets[f"{name}Foot"] = -size["lower_leg"] * UP
    return offsets


def forward(pose: Pose, offsets: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Forward kinematics: where each bone starts, and its world rotation matrix."""
    places: dict[str, Array] = {}
    turns: dict[str, Array] = {}
    for bone, parent in PARENTS.items():
        local = matrix(pose.rotations[bone])
        if parent is None:
            places[bone], turns[bone] = pose.hips, local
        else:
            places[bone] = places[parent] + turns[parent] @ offsets[bone]
            turns[bone] = turns[parent] @ local
    return places, turns
