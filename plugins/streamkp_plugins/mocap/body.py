"""Bone rotations of one person from 3D joints, frame after frame; and back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from streamkp.plugin import skeleton
from streamkp_plugins.mocap.rotations import (
    about,
    cross,
    frame,
    length,
    matrix,
    part,
    quaternion,
    swing,
    toward,
    twist_about,
    unit,
)

Array = NDArray[np.float64]
UP, FORWARD, LEFT = np.array([0.0, 1, 0]), np.array([0.0, 0, 1]), np.array([1.0, 0, 0])
PARENTS = {
    "Hips": None, "Spine": "Hips", "Chest": "Spine", "Neck": "Chest", "Head": "Neck",
    "LeftUpperArm": "Chest", "LeftLowerArm": "LeftUpperArm", "LeftHand": "LeftLowerArm",
    "RightUpperArm": "Chest", "RightLowerArm": "RightUpperArm", "RightHand": "RightLowerArm",
    "LeftUpperLeg": "Hips", "LeftLowerLeg": "LeftUpperLeg", "LeftFoot": "LeftLowerLeg",
    "RightUpperLeg": "Hips", "RightLowerLeg": "RightUpperLeg", "RightFoot": "RightLowerLeg",
}  # fmt: skip
HEEL_TO_TOE = (0.05, 0.11)  # metres between which the length of a foot tells that it is not foreshortened
HAND = (0.02, 0.05)  # the same for a hand, from the wrist to the knuckles
MOST_YAW = np.radians(50.0)  # of a foot to either side
MOST_FOOT = np.radians((-30.0, 60.0))  # up and down
MOST_WRIST = np.radians(75.0)  # from the line of the forearm
MOST_PALM = np.radians(100.0)  # about the forearm, from the palm that faces down in a T-pose
MOST_HEAD = np.radians((80.0, 60.0, 45.0))  # of the head against the chest: turned, nodding, leaning
MOST_FACE = np.radians(120.0)  # a face that is turned further from the chest is not seen rightly
MOST_STEP = np.radians(30.0)  # of hands, feet and head from one frame to the next
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
    from the plane in which it bends; a straight limb keeps the plane that it had. Hands, feet and the face come from
    the extremities, within the limits of wrists, ankles and neck; without them hands and feet follow the forearm and
    the shin, and the head does not turn about the neck.
    """

    def __init__(
        self, head_tilt: float = 0.0, face_tilt: float = 0.0, wrist: float = 1.0, foot_tilt: float = 0.0
    ) -> None:
        """How somebody is measured.

        Args:
            head_tilt: degrees that the line from thorax to head leans forward in somebody who looks straight on.
            face_tilt: degrees by which their nose lies below their ears.
            wrist: share of the bend of the wrist that is believed, 0 to 1.
            foot_tilt: degrees by which the toes lie below the heel of a foot that stands flat.
        """
        tilt, face = np.radians(head_tilt), np.radians(face_tilt)
        self._head_rest = np.array([0.0, np.cos(tilt), np.sin(tilt)])
        self._face_rest = about(LEFT, face)
        self._wrist = wrist
        self._foot_tilt = np.radians(foot_tilt)
        self._planes: dict[str, Array] = {}
        self._local: dict[str, Array] = {}  # the last believable turn of hands and feet against the limb
        self._palms: dict[str, float] = {}
        self._floor: float | None = None

    def solve(
        self,
        points: NDArray[Any],
        root: NDArray[Any] | None = None,
        extremities: NDArray[Any] | None = None,
        height: float | None = None,
    ) -> Pose:
        """The pose of a frame, which must be later than the one before.

        Args:
            points: (17, 3) of h36m17 in metres, y up.
            root: (3,), where the hips are in the same frame.
            extremities: (13, 3) of extremities13, in the frame of `points`.
            height: of the hips above the floor, where it is known; from the lowest foot of late otherwise.
        """
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
        ends = None
        if extremities is not None:
            names = skeleton("extremities13").joints
            ends = dict(zip(names, np.asarray(extremities, np.float64), strict=True))
            self._face(world, ends)
        for name, sign in (("Left", 1.0), ("Right", -1.0)):
            low = name.lower()
            arm = [at[f"{low}_{joint}"] for joint in ("shoulder", "elbow", "wrist")]
            leg = [at[f"{low}_{joint}"] for joint in ("hip", "knee", "ankle")]
            upper, lower = self._limb(f"{name}Arm", arm, chest, sign * LEFT, -sign * UP)
            hand = lower
            if ends is not None:
                lower, hand = self._hand(name, sign, ends, at[f"{low}_wrist"], lower)
            world[f"{name}UpperArm"], world[f"{name}LowerArm"], world[f"{name}Hand"] = upper, lower, hand
            upper, lower = self._limb(f"{name}Leg", leg, world["Hips"], -UP, LEFT)
            foot = lower if ends is None else self._foot(name, ends, lower)
            world[f"{name}UpperLeg"], world[f"{name}LowerLeg"], world[f"{name}Foot"] = upper, lower, foot
        rotations = {
            bone: quaternion(world[bone] if parent is None else world[parent].T @ world[bone])
            for bone, parent in PARENTS.items()
        }
        return Pose(rotations, self._hips(at, root, height))

    def _face(self, world: dict[str, Array], ends: dict[str, Array]) -> None:
        """Turn the head as the face is turned; the neck takes half of the turn to the side."""
        side = ends["left_ear"] - ends["right_ear"]
        ahead = ends["nose"] - (ends["left_ear"] + ends["right_ear"]) / 2
        if length(cross(side, ahead)) < 1e-4:
            return
        x, z, minus_y = frame(side, ahead).T
        local = world["Chest"].T @ np.stack([x, -minus_y, z], axis=1) @ self._face_rest.T
        yaw, pitch, roll = (float(v) for v in Rotation.from_matrix(local).as_euler("YXZ"))
        if abs(yaw) < MOST_FACE:
            turn, nod, lean = (
                float(np.clip(v, -most, most)) for v, most in zip((yaw, pitch, roll), MOST_HEAD, strict=True)
            )
            head = about(UP, turn) @ about(LEFT, nod) @ about(FORWARD, lean)
            self._local["Head"] = toward(self._local.get("Head"), head, MOST_STEP)
        known = self._local.get("Head")
        if known is not None:
            world["Head"] = world["Chest"] @ known
            world["Neck"] = world["Neck"] @ about(UP, twist_about(known, UP) / 2)

    def _hand(self, name: str, sign: float, ends: dict[str, Array], wrist: Array, lower: Array) -> tuple[Array, Array]:
        """World rotations of forearm and hand; the forearm takes half of the turn of the palm."""
        low = name.lower()
        pinky, index = ends[f"{low}_pinky"], ends[f"{low}_index"]
        along, across = lower.T @ ((pinky + index) / 2 - wrist), lower.T @ (index - pinky)
        bent, palm = self._local.get(f"{name}Hand", np.eye(3)), self._palms.get(name)
        share = _share(length(along), HAND)
        if share > 0.0:
            straight = sign * LEFT
            whole = part(swing(straight, along), self._wrist * share)
            wanted = toward(np.eye(3), whole, MOST_WRIST)
            bent = toward(self._local.get(f"{name}Hand"), wanted, MOST_STEP)
            side = bent.T @ across
            if np.hypot(side[1], side[2]) > 0.5 * length(across) > 1e-6:
                # About the forearm, from +z, where the thumb is at rest; the way that is nearest to the one before.
                found = float(np.arctan2(-side[1], side[2]))
                if palm is not None:
                    step = float((found - palm + np.pi) % (2 * np.pi) - np.pi)
                    found = palm + float(np.clip(step, -MOST_STEP, MOST_STEP))
                palm = float(np.clip(found, -MOST_PALM, MOST_PALM))
                self._palms[name] = palm
            self._local[f"{name}Hand"] = bent
        palm = palm or 0.0
        return lower @ about(LEFT, palm / 2), lower @ bent @ about(LEFT, palm)

    def _foot(self, name: str, ends: dict[str, Array], lower: Array) -> Array:
        """World rotation of a foot, within the limits of the ankle."""
        low = name.lower()
        sole = lower.T @ (ends[f"{low}_foot_index"] - ends[f"{low}_heel"])
        known = self._local.get(f"{name}Foot")
        share = _share(length(sole), HEEL_TO_TOE)
        local = np.eye(3) if known is None else known
        if share > 0.0 and sole[2] > -0.5 * length(sole):  # one that points back is not seen rightly
            x, y, z = unit(sole)
            yaw = float(np.clip(np.arctan2(x, max(z, 0.05)), -MOST_YAW, MOST_YAW))
            pitch = float(np.clip(np.arctan2(-y, np.hypot(x, z)) - self._foot_tilt, *MOST_FOOT))
            wanted = about(UP, yaw) @ about(LEFT, pitch)
            local = toward(known, local @ part(local.T @ wanted, share), MOST_STEP)
            self._local[f"{name}Foot"] = local
        return np.asarray(lower @ local)

    def _limb(self, name: str, joints: list[Array], parent: Array, rest: Array, axis: Array) -> tuple[Array, Array]:
        """World rotations of a limb's upper and lower part; at rest it points along `rest` and bends about `axis`."""
        a, b = unit(joints[1] - joints[0]), unit(joints[2] - joints[1])
        normal = cross(a, b)
        bend = length(normal)
        known = self._planes.get(name)
        # Without a memory the plane is that of the smallest turn from the parent's rest.
        usual = parent @ swing(rest, parent.T @ a) @ axis if known is None else parent @ known
        usual = unit(usual - a * float(a @ usual))
        share = _share(bend, BENT)
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

    def _hips(self, at: dict[str, Array], root: NDArray[Any] | None, height: float | None) -> Array:
        """Where the hips are: sideways from `root`; upwards above the floor, which the lowest foot of late shows."""
        place = at["hip"] + (np.zeros(3) if root is None else np.asarray(root, np.float64))
        if height is not None:
            return np.array([place[0], height, place[2]])
        below = min(float(at["left_ankle"][1]), float(at["right_ankle"][1])) - float(at["hip"][1])
        lowest = float(place[1]) + below - ANKLE_HEIGHT
        if root is None or self._floor is None or lowest < self._floor:
            self._floor = lowest
        else:
            self._floor += 0.003 * (lowest - self._floor)  # a floor that was taken too low comes back in seconds
        return np.array([place[0], place[1] - self._floor, place[2]])


def _share(size: float, limits: tuple[float, float]) -> float:
    """How far a direction of that length is believed, 0 to 1."""
    return min(1.0, max(0.0, (size - limits[0]) / (limits[1] - limits[0])))


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
