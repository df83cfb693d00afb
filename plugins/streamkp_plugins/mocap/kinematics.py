"""`kinematics`: local bone rotations of every person whose pose was lifted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from streamkp.plugin import MapStage, Packet, Person, StageOptions, convert
from streamkp_plugins.mocap.body import Array, Solver, from_camera, lengths
from streamkp_plugins.mocap.fingers import FingerSolver
from streamkp_plugins.mocap.rotations import quaternion


class Kinematics(MapStage):
    """Adds bone rotations relative to a T-pose, and where the hips are, for game engines and BVH files."""

    light = True
    needs = ("keypoints_3d",)
    gives = ("kinematics",)

    class Options(StageOptions):
        head_tilt: float = Field(
            20.0, ge=-90, le=90,
            description="Degrees that the head's keypoint lies in front of the neck in somebody who looks straight on.",
        )  # fmt: skip

        face_tilt: float = Field(
            25.0,
            ge=-90,
            le=90,
            description="Degrees by which the nose lies below the ears in somebody who looks straight on.",
        )
        foot_tilt: float = Field(
            12.0, ge=-90, le=90, description="Degrees by which the toes lie below the heel of a foot that stands flat."
        )
        wrist: float = Field(
            0.5, ge=0, le=1,
            description="Share of the bend of the wrists that is believed; BlazePose's hands are uncertain. 0: hands "
            "go straight on from the forearm.",
        )  # fmt: skip

    options: Options

    def open(self) -> None:
        o = self.options
        self._fingers = self.per_track(lambda: {side: FingerSolver(side) for side in ("Left", "Right")})
        self._solvers = self.per_track(lambda: Solver(o.head_tilt, o.face_tilt, o.wrist, o.foot_tilt))

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            self._solve(packet, person)
        return packet

    def _solve(self, packet: Packet, person: Person) -> None:
        lifted = person.keypoints_3d
        if lifted is None or not np.isfinite(lifted.points).all():
            return
        points, ends = lifted.points, None
        if lifted.skeleton == "blazepose33":
            ends = convert(points, lifted.skeleton, "extremities13", scored=False)
        elif lifted.extremities is not None and lifted.extremities.skeleton == "extremities13":
            ends = lifted.extremities.points
        if lifted.skeleton != "h36m17":
            points = convert(points, lifted.skeleton, "h36m17", scored=False).astype(np.float32)
        level = lifted.space == "world"  # y up already, and the root's is its height
        turn = np.asarray if level else from_camera
        joints = turn(points)
        root = None if lifted.root is None else turn(lifted.root)
        pose = self._solvers[packet.stream, person.track].solve(
            joints,
            root,
            None if ends is None or not np.isfinite(ends).all() else turn(ends),
            float(root[1]) if level and root is not None else None,
        )
        rotations = pose.rotations | self._hands(packet, person)
        person.extra["kinematics"] = {
            "rotations": {bone: [round(float(x), 6) for x in q] for bone, q in rotations.items()},
            "hips": [round(float(x), 4) for x in pose.hips],
            "lengths": {name: round(length, 4) for name, length in lengths(joints).items()},
        }

    def _hands(self, packet: Packet, person: Person) -> dict[str, Array]:
        """Rotations of the fingers, where a network for hands is above."""
        hands = person.extra.get("hands_world")
        if not isinstance(hands, Mapping):
            return {}
        bones: dict[str, Array] = {}
        for side, solver in self._fingers[packet.stream, person.track].items():
            points = hands.get(side.lower())
            if points is not None and np.shape(points) == (21, 3):
                bones |= {bone: quaternion(turn) for bone, turn in solver.solve(points).items()}
        return bones
