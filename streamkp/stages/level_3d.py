"""`level-3d`: lifted poses from the camera's axes into a level world, y up, with a floor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.graph.stage import MapStage, StageOptions
from streamkp.motion.extremities import LAYOUT
from streamkp.motion.ground import Floats, Floor, Gravity, level_axes, lowest_sole, tilted
from streamkp.packet import FloatArray, Keypoints3D, Packet

LONGEST_STEP = 0.1  # seconds between two poses that count at most


class Mount(BaseModel):
    """How a camera is mounted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pitch: float = Field(ge=-90, le=90, description="Degrees by which it looks down.")
    roll: float = Field(0.0, ge=-180, le=180, description="Degrees by which it is turned clockwise.")
    height_m: float | None = Field(None, gt=0, le=100, description="Metres above the floor; null: from the feet.")


@dataclass
class _Stream:
    gravity: Gravity = field(default_factory=Gravity)
    floor: Floor = field(default_factory=Floor)
    pts: int | None = None


class Level3D(MapStage):
    """Turns 3D keypoints into a level world: x right, y up, z back towards the camera, the floor at y = 0.

    The direction of up is that of `camera`, or learned from people who stand; until somebody has, the camera is taken
    to be level. `root` becomes the pelvis in that world: its height above the floor, and, with `trajectory: true` in
    `lift-3d`, how far to the side of the camera and in front of it.
    """

    light = True
    needs = ("keypoints_3d",)
    gives = ()

    class Options(StageOptions):
        camera: Mount | None = Field(None, description="How the camera is mounted; null: learned from the feet.")

    options: Options

    def open(self) -> None:
        self._streams = self.per_stream(_Stream)

    def process(self, packet: Packet) -> Packet:
        state = self._streams[packet.stream]
        step = 0.0 if state.pts is None else min(max((packet.pts - state.pts) / 1e9, 0.0), LONGEST_STEP)
        state.pts = packet.pts
        mount = self.options.camera
        poses = [
            (person, person.keypoints_3d)
            for person in packet.persons
            if person.keypoints_3d is not None
            and person.keypoints_3d.space == "camera"
            and np.isfinite(person.keypoints_3d.points).all()
        ]
        if mount is None:
            for _, pose in poses:
                state.gravity.see(*_body(pose), step)
        axes = level_axes(state.gravity.up if mount is None else tilted(mount.pitch, mount.roll))
        for person, pose in poses:
            person.keypoints_3d = self._levelled(state, pose, axes, step)
        return packet

    def _levelled(self, state: _Stream, pose: Keypoints3D, axes: Floats, step: float) -> Keypoints3D:
        more = pose.extremities
        turned = replace(
            pose,
            space="world",
            points=(pose.points @ axes.T).astype(np.float32),
            extremities=None if more is None else replace(more, points=(more.points @ axes.T).astype(np.float32)),
        )
        sole = lowest_sole(*_body(turned))
        if pose.root is None or not np.isfinite(pose.root).all():
            return replace(turned, root=np.array([0.0, -sole, 0.0], np.float32))
        root = axes @ pose.root
        mount = self.options.camera
        known = None if mount is None else mount.height_m
        root[1] -= state.floor.see(float(root[1]) + sole, step) if known is None else -known
        return replace(turned, root=root.astype(np.float32))


def _body(pose: Keypoints3D) -> tuple[FloatArray, FloatArray | None]:
    """A pose as h36m17, and its extremities, where there are any."""
    if pose.skeleton == "h36m17":
        more = pose.extremities
        return pose.points, more.points if more is not None and more.skeleton == LAYOUT else None
    try:
        body = skeletons.convert(pose.points, pose.skeleton, "h36m17", scored=False)
    except UsageError:
        raise UsageError(f"level-3d knows no legs in {pose.skeleton}") from None
    whole = pose.skeleton == "blazepose33"
    return body, skeletons.convert(pose.points, pose.skeleton, LAYOUT, scored=False) if whole else None
