"""`publish-vrchat`: one person's body to VRChat, as OSC trackers (docs.vrchat.com/docs/osc-trackers).

Eight trackers (hips, chest, feet, knees, elbows) and the head, by which VRChat brings the two spaces together.
Positions in metres and Euler degrees in Unity's axes: left-handed, y up, turned about z, then x, then y.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from streamkp.plugin import Packet, Person
from streamkp_plugins.mocap.body import Pose, forward, rest_offsets
from streamkp_plugins.mocap.osc_sink import OscSink, osc_message

Array = NDArray[np.float64]
# By number: the bone that a tracker sits on. VRChat tells which is which by where they are when one calibrates.
TRACKERS = {
    "1": "Hips", "2": "Chest", "3": "LeftFoot", "4": "RightFoot", "5": "LeftLowerLeg", "6": "RightLowerLeg",
    "7": "LeftLowerArm", "8": "RightLowerArm", "head": "Head",
}  # fmt: skip
MIRROR = np.array([-1.0, 1.0, 1.0])  # from a right-handed body that looks along +z to a left-handed one that does


class PublishVrchat(OscSink):
    """Moves an avatar in VRChat: hips, chest, feet, knees, elbows and head as OSC trackers over UDP."""

    protocol = "VRChat"

    class Options(OscSink.Options):
        port: int = Field(9000, ge=1, le=65535, description="Its port.")
        head: bool = Field(True, description="Send the head too; false for people who wear a headset.")

    options: Options

    def datagrams(self, packet: Packet, person: Person) -> Iterator[bytes]:
        found = person.extra["kinematics"]
        rotations = {bone: np.asarray(q, np.float64) for bone, q in found["rotations"].items()}
        places, turns = forward(Pose(rotations, np.asarray(found["hips"], np.float64)), rest_offsets(found["lengths"]))
        for number, bone in TRACKERS.items():
            if number == "head" and not self.options.head:
                continue
            at = f"/tracking/trackers/{number}"
            yield osc_message(f"{at}/position", "fff", *(places[bone] * MIRROR)).dgram
            yield osc_message(f"{at}/rotation", "fff", *euler(turns[bone])).dgram


def euler(turn: Array) -> Array:
    """Degrees about x, y and z in Unity's axes and order, from a rotation matrix of ours."""
    y, x, z = Rotation.from_matrix(turn * np.outer(MIRROR, MIRROR)).as_euler("YXZ", degrees=True)
    return np.array([x, y, z])
