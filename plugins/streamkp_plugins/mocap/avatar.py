"""The rest pose of a humanoid avatar: a default one, or that of a VRM file.

Positions and rotations here are those of VRM 0, also of a VRM 1 file: right-handed, y up, the avatar looks along -z
with its left along -x.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import UsageError
from streamkp_plugins.mocap.body import PARENTS
from streamkp_plugins.mocap.fingers import FINGERS, finger_bones
from streamkp_plugins.mocap.rotations import IDENTITY, matrix

Array = NDArray[np.float64]
MOST_JSON = 64 * 1024 * 1024
HALF_TURN = np.array([-1.0, 1.0, -1.0])  # about the vertical
_THUMB = {"Metacarpal": "Proximal", "Proximal": "Intermediate", "Distal": "Distal"}  # VRM 1's names to Unity's
# Unity's HumanBodyBones, 55 of them, parents first.
HUMAN_BONES: dict[str, str | None] = {
    "Hips": None, "LeftUpperLeg": "Hips", "RightUpperLeg": "Hips", "LeftLowerLeg": "LeftUpperLeg",
    "RightLowerLeg": "RightUpperLeg", "LeftFoot": "LeftLowerLeg", "RightFoot": "RightLowerLeg", "Spine": "Hips",
    "Chest": "Spine", "UpperChest": "Chest", "Neck": "UpperChest", "Head": "Neck", "LeftShoulder": "UpperChest",
    "RightShoulder": "UpperChest", "LeftUpperArm": "LeftShoulder", "RightUpperArm": "RightShoulder",
    "LeftLowerArm": "LeftUpperArm", "RightLowerArm": "RightUpperArm", "LeftHand": "LeftLowerArm",
    "RightHand": "RightLowerArm", "LeftToes": "LeftFoot", "RightToes": "RightFoot", "LeftEye": "Head",
    "RightEye": "Head", "Jaw": "Head",
}  # fmt: skip
HUMAN_BONES |= dict(finger_bones("Left")) | dict(finger_bones("Right"))
_LEFT = {
    "UpperLeg": (0.09, -0.05, 0.0), "LowerLeg": (0.0, -0.42, 0.0), "Foot": (0.0, -0.42, 0.0),
    "Toes": (0.0, -0.07, 0.13),
    "Shoulder": (0.04, 0.12, 0.0), "UpperArm": (0.11, 0.0, 0.0), "LowerArm": (0.27, 0.0, 0.0), "Hand": (0.25, 0.0, 0.0),
    "Eye": (0.03, 0.07, 0.08),
}  # fmt: skip
_MIDDLE = {
    "Hips": (0.0, 0.97, 0.0), "Spine": (0.0, 0.08, 0.0), "Chest": (0.0, 0.13, 0.0), "UpperChest": (0.0, 0.12, 0.0),
    "Neck": (0.0, 0.16, 0.0), "Head": (0.0, 0.09, 0.0), "Jaw": (0.0, 0.02, 0.02),
}  # fmt: skip


@dataclass(frozen=True)
class Avatar:
    """By bone: where it starts in its parent bone's frame, (3,) metres, and its rest rotation in the world, (3, 3)."""

    offsets: dict[str, Array]
    rest: dict[str, Array]
    parents: dict[str, str | None]
    blends: tuple[str, ...] = ()  # names of the expressions that a file has

    def upright(self) -> Avatar:
        """The same body with rest rotations of identity, as receivers with a control rig (VRM 1 in Unity) have it."""
        offsets = {
            bone: offset if (above := self.parents[bone]) is None else self.rest[above] @ offset
            for bone, offset in self.offsets.items()
        }
        return replace(self, offsets=offsets, rest={bone: np.eye(3) for bone in self.rest})

    @property
    def hips_height(self) -> float:
        """Of the hips above the floor, metres."""
        return float(self.offsets["Hips"][1])


def default_avatar() -> Avatar:
    """A humanoid of 1.7 m with all 55 bones."""
    offsets = {}
    for bone in HUMAN_BONES:
        side = "Left" if bone.startswith("Left") else "Right" if bone.startswith("Right") else ""
        spot = np.array(_MIDDLE.get(bone) or _LEFT.get(bone.removeprefix(side)) or _finger_offset(bone), np.float64)
        # The table is of the left in a body that looks along +z; VRM 0 looks along -z.
        offsets[bone] = spot * [1.0 if side == "Right" else -1.0, 1.0, -1.0]
    return Avatar(offsets, {bone: np.eye(3) for bone in HUMAN_BONES}, dict(HUMAN_BONES))


def _finger_offset(bone: str) -> tuple[float, float, float]:
    finger = next(i for i, name in enumerate(FINGERS) if name in bone)
    if not bone.endswith("Proximal"):
        return 0.03, 0.0, 0.0
    return (0.03, -0.01, 0.03) if finger == 0 else (0.09, 0.0, 0.03 - 0.02 * (finger - 1))


def read_vrm(path: Path) -> Avatar:
    """The humanoid of a VRM file, 0 or 1.

    Raises:
        UsageError: it cannot be read, or has no humanoid.
    """
    document = _read_glb(path)
    try:
        nodes = document["nodes"]
        names, blends, newer = _humanoid(document["extensions"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise UsageError(f"{path} has no humanoid of VRM (`extensions.VRM` or `extensions.VRMC_vrm`)") from None
    above = {child: index for index, node in enumerate(nodes) for child in node.get("children", ())}
    world: dict[int, tuple[Array, Array]] = {}

    def place(index: int, depth: int = 0) -> tuple[Array, Array]:
        """Rotation and position of a node in the world; scales are left out, as VRM asks for."""
        if depth > 500:
            raise UsageError(f"{path}: its nodes are in a circle")
        if index not in world:
            turn, spot = _node(nodes[index])
            if index in above:
                parent_turn, parent_spot = place(above[index], depth + 1)
                turn, spot = parent_turn @ turn, parent_spot + parent_turn @ spot
            world[index] = turn, spot
        return world[index]

    offsets: dict[str, Array] = {}
    rest: dict[str, Array] = {}
    parents: dict[str, str | None] = {}
    for index, bone in names.items():
        if bone not in HUMAN_BONES:
            continue
        turn, spot = place(index)
        up = above.get(index)
        while up is not None and up not in names:
            up = above.get(up)
        offset = spot if up is None else place(up)[0].T @ (spot - place(up)[1])
        # VRM 1 looks along +z. Receivers mirror it in x where they mirror VRM 0 in z: half a turn, in each bone.
        rest[bone] = turn * np.outer(HALF_TURN, HALF_TURN) if newer else turn
        offsets[bone] = offset * HALF_TURN if newer else offset
        parents[bone] = None if up is None else names[up]
    missing = [bone for bone in PARENTS if bone not in rest and bone not in ("Neck", "Chest")]
    if missing:
        raise UsageError(f"{path}: its humanoid lacks {', '.join(missing)}")
    return Avatar(offsets, rest, parents, blends)


def _humanoid(extensions: dict[str, Any]) -> tuple[dict[int, str], tuple[str, ...], bool]:
    """Unity's bone names by node, names of expressions, and whether it is VRM 1."""
    if "VRMC_vrm" in extensions:
        vrm = extensions["VRMC_vrm"]
        names = {}
        for bone, each in vrm["humanoid"]["humanBones"].items():
            # The thumb's first bone is the metacarpal in VRM 1 and the proximal one in Unity.
            first, _, link = bone.partition("Thumb")
            if link in _THUMB:
                bone = f"{first}Thumb{_THUMB[link]}"
            names[int(each["node"])] = bone[0].upper() + bone[1:]
        expressions = vrm.get("expressions") or {}
        return names, tuple(expressions.get("custom") or ()), True
    vrm = extensions["VRM"]
    names = {int(each["node"]): each["bone"][0].upper() + each["bone"][1:] for each in vrm["humanoid"]["humanBones"]}
    groups = (vrm.get("blendShapeMaster") or {}).get("blendShapeGroups") or ()
    return names, tuple(str(group["name"]) for group in groups if "name" in group), False


def _node(node: dict[str, Any]) -> tuple[Array, Array]:
    if "matrix" in node:
        whole = np.array(node["matrix"], np.float64).reshape(4, 4).T
        turn = whole[:3, :3] / np.linalg.norm(whole[:3, :3], axis=0)
        return turn, whole[:3, 3]
    spot = np.array(node.get("translation", (0.0, 0.0, 0.0)), np.float64)
    return matrix(np.array(node.get("rotation", IDENTITY), np.float64)), spot


def _read_glb(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            magic, _, _, length, kind = struct.unpack("<4sIII4s", file.read(20))
            if magic != b"glTF" or kind != b"JSON" or length > MOST_JSON:
                raise UsageError(f"{path} is no VRM file (binary glTF)")
            found = json.loads(file.read(length))
    except OSError as error:
        raise UsageError(f"the avatar {path} cannot be read: {error.strerror}") from None
    except (struct.error, ValueError):
        raise UsageError(f"{path} is no VRM file (binary glTF)") from None
    if not isinstance(found, dict):
        raise UsageError(f"{path} is no VRM file (binary glTF)")
    return found
