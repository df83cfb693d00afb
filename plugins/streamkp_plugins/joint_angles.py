"""`joint-angles`: named angles of every person, in degrees, in each frame.

Conventions as in Sports2D and most of the clinical literature: with `convention: flexion` a straight knee or elbow is
0, with `interior` it is 180. Tilts of segments are from the vertical, 0 upright, 90 level, 180 upside down.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from streamkp.plugin import LIVE, SKELETONS, MapStage, Packet, Person, Skeleton, StageOptions, skeleton

_SIDED = {
    "knee": ("hip", "knee", "ankle"),
    "hip": ("shoulder", "hip", "knee"),
    "shoulder": ("hip", "shoulder", "elbow"),
    "elbow": ("shoulder", "elbow", "wrist"),
}
DEFAULT: dict[str, tuple[str, ...]] = {
    f"{side}_{name}": tuple(f"{side}_{joint}" for joint in joints)
    for name, joints in _SIDED.items()
    for side in ("left", "right")
} | {"trunk": ("mid_hip", "mid_shoulder")}


class JointAngles(MapStage):
    """Adds named joint angles and tilts of segments, in degrees, to every person."""

    light = True
    retells = ("joint_angles", "annotations")

    class Options(StageOptions):
        angles: dict[str, tuple[str, ...]] = Field(
            DEFAULT,
            description="By name: three joints for the angle at the second, or two for the tilt of a line from "
            "the vertical. mid_hip is the middle of both hips.",
        )
        space: Literal["2d", "3d"] = Field("2d", description="From the image, or from lifted poses.")
        convention: Literal["interior", "flexion"] = Field(
            "interior",
            description="A straight joint is 180 (interior) or 0 (flexion).",
            json_schema_extra=LIVE,
        )
        least_score: float = Field(
            0.3, ge=0, le=1, description="2D: an angle of less certain joints is null.", json_schema_extra=LIVE
        )
        labels: bool = Field(
            True,
            description="Write each angle beside its joint, in rendered videos and on the page.",
            json_schema_extra=LIVE,
        )

        @field_validator("angles")
        @classmethod
        def _known(cls, angles: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
            known = {joint for each in SKELETONS.values() for joint in each.joints}
            for name, joints in angles.items():
                if len(joints) not in (2, 3):
                    raise ValueError(f"{name} names {len(joints)} joints; an angle takes three, a tilt two")
                for joint in joints:
                    bare = joint.removeprefix("mid_")
                    if joint not in known and f"left_{bare}" not in known:
                        raise ValueError(f"{name}: no skeleton has a joint {joint!r}")
            return angles

    options: Options

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            found = self._angles(person)
            if found is not None:
                person.extra["joint_angles"] = found
                if self.options.labels and person.keypoints_2d is not None:
                    self._label(packet, person, found)
        return packet

    def _label(self, packet: Packet, person: Person, found: dict[str, float | None]) -> None:
        """An angle is written at its joint, a tilt in the middle of its line; not where that is not seen."""
        assert person.keypoints_2d is not None
        points, layout = person.keypoints_2d.points, skeleton(person.keypoints_2d.skeleton)
        for name, value in found.items():
            joints = self.options.angles[name]
            rows = [row for joint in (joints[1:2] if len(joints) == 3 else joints) for row in rows_of(joint, layout)]
            if value is None or not rows or float(points[rows, 2].min()) < self.options.least_score:
                continue
            x, y = points[rows, :2].mean(axis=0).tolist()
            packet.annotations.append({"type": "label", "track": person.track, "text": f"{value:.0f}", "at": [x, y]})

    def _angles(self, person: Person) -> dict[str, float | None] | None:
        if self.options.space == "3d":
            solid = person.keypoints_3d
            return (
                None if solid is None else self._of(solid.y_down, np.ones(len(solid.points)), skeleton(solid.skeleton))
            )
        flat = person.keypoints_2d
        return None if flat is None else self._of(flat.points[:, :2], flat.points[:, 2], skeleton(flat.skeleton))

    def _of(
        self, points: NDArray[np.floating], scores: NDArray[np.floating], layout: Skeleton
    ) -> dict[str, float | None]:
        return {name: self._angle(joints, points, scores, layout) for name, joints in self.options.angles.items()}

    def _angle(
        self, joints: tuple[str, ...], points: NDArray[np.floating], scores: NDArray[np.floating], layout: Skeleton
    ) -> float | None:
        places = []
        for joint in joints:
            rows = rows_of(joint, layout)
            if not rows or min(float(scores[row]) for row in rows) < self.options.least_score:
                return None
            places.append(points[rows].astype(np.float64).mean(axis=0))
        if len(places) == 2:
            up = np.zeros(points.shape[1])
            up[1] = -1.0
            return angle_between(places[1] - places[0], up)
        interior = angle_between(places[0] - places[1], places[2] - places[1])
        if interior is None or self.options.convention == "interior":
            return interior
        return round(180.0 - interior, 1)


def rows_of(joint: str, layout: Skeleton) -> list[int]:
    """The rows of a joint, two for the middle of a pair; none where the layout lacks it."""
    names = [joint]
    if joint.startswith("mid_"):
        names = [f"left_{joint[4:]}", f"right_{joint[4:]}"]
    return [layout.joints.index(name) for name in names] if set(names) <= set(layout.joints) else []


def angle_between(u: NDArray[np.floating], v: NDArray[np.floating]) -> float | None:
    """Degrees between two vectors, to a tenth; None where one has no length or is not finite."""
    lengths = float(np.linalg.norm(u) * np.linalg.norm(v))
    if not lengths > 1e-9:
        return None
    return round(float(np.degrees(np.arccos(np.clip(u @ v / lengths, -1.0, 1.0)))), 1)
