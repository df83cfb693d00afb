"""`record-bvh`: one person's motion as a BVH file, for Blender, Maya, MotionBuilder and others.

Rest rotations are identity (a T-pose that looks along +z, y up), the channels are the order of rotation, and offsets
are the person's bone lengths in the first frame. The number of frames in the header is right after every frame, so
that a file survives a killed process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.spatial.transform import Rotation

from streamkp.plugin import Packet, Person
from streamkp_plugins.mocap.body import PARENTS, rest_offsets
from streamkp_plugins.mocap.motion_file import Counted, MotionFile

Array = NDArray[np.float64]
ENDS = {
    "Head": (0.0, 0.12, 0.0), "LeftHand": (0.17, 0.0, 0.0), "RightHand": (-0.17, 0.0, 0.0),
    "LeftFoot": (0.0, -0.06, 0.15), "RightFoot": (0.0, -0.06, 0.15),
}  # fmt: skip


class RecordBvh(MotionFile):
    """Writes the motion of one person to a BVH file."""

    class Options(MotionFile.Options):
        scale: float = Field(1.0, gt=0, description="1: metres; 100: centimetres.")

    options: Options

    def header(self, packet: Packet, person: Person) -> list[str | Counted]:
        offsets = rest_offsets(person.extra["kinematics"]["lengths"])
        top = "\n".join(["HIERARCHY", *self._joint("Hips", offsets, 0), "MOTION", "Frames: "])
        return [top, Counted(), f"\nFrame Time: {1 / self.options.rate:.8f}\n"]

    def values(self, packet: Packet, person: Person) -> Sequence[float]:
        found = person.extra["kinematics"]
        values = [value * self.options.scale for value in found["hips"]]
        for bone in _depth_first("Hips"):
            # Intrinsic z, then x, then y: the order of the channels.
            values += Rotation.from_quat(found["rotations"][bone]).as_euler("ZXY", degrees=True).tolist()
        return values

    def row(self, number: int, values: Sequence[float]) -> str:
        return " ".join(f"{value:.6f}" for value in values) + "\n"

    def _joint(self, bone: str, offsets: dict[str, Array], depth: int) -> Iterator[str]:
        tab = "  " * depth
        yield f"{tab}{'JOINT' if depth else 'ROOT'} {bone}"
        yield f"{tab}{{"
        yield f"{tab}  OFFSET {self._spot(offsets[bone])}"
        places = "" if depth else "Xposition Yposition Zposition "
        yield f"{tab}  CHANNELS {3 if depth else 6} {places}Zrotation Xrotation Yrotation"
        for child in (name for name, parent in PARENTS.items() if parent == bone):
            yield from self._joint(child, offsets, depth + 1)
        if bone in ENDS:
            yield f"{tab}  End Site"
            yield f"{tab}  {{"
            yield f"{tab}    OFFSET {self._spot(np.array(ENDS[bone]))}"
            yield f"{tab}  }}"
        yield f"{tab}}}"

    def _spot(self, spot: Array) -> str:
        return " ".join(f"{value * self.options.scale:.6f}" for value in spot)


def _depth_first(bone: str) -> Iterator[str]:
    yield bone
    for child in (name for name, parent in PARENTS.items() if parent == bone):
        yield from _depth_first(child)
