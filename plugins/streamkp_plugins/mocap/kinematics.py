"""`kinematics`: local bone rotations of every person whose pose was lifted."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from streamkp.plugin import MapStage, Packet, Person, StageOptions, convert
from streamkp_plugins.mocap.body import Solver, from_camera, lengths


class Kinematics(MapStage):
    """Adds bone rotations relative to a T-pose, and where the hips are, for game engines and BVH files."""

    class Options(StageOptions):
        head_tilt: float = Field(
            20.0, ge=-90, le=90,
            description="Degrees that the head's keypoint lies in front of the neck in somebody who looks straight on.",
        )  # fmt: skip

    options: Options

    def open(self) -> None:
        self._solvers = self.per_track(lambda: Solver(self.options.head_tilt))

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            self._solve(packet, person)
        return packet

    def _solve(self, packet: Packet, person: Person) -> None:
        lifted = person.keypoints_3d
        if lifted is None or not np.isfinite(lifted.points).all():
            return
        points = lifted.points
        if lifted.skeleton != "h36m17":
            points = convert(points, lifted.skeleton, "h36m17", scored=False).astype(np.float32)
        root = None if lifted.root is None else from_camera(lifted.root)
        joints = from_camera(points)
        pose = self._solvers[packet.stream, person.track].solve(joints, root)
        person.extra["kinematics"] = {
            "rotations": {bone: [round(float(x), 6) for x in q] for bone, q in pose.rotations.items()},
            "hips": [round(float(x), 4) for x in pose.hips],
            "lengths": {name: round(length, 4) for name, length in lengths(joints).items()},
        }
