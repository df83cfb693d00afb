"""Angles, tilts, heights and distances of one pose, free of scale.

A measure names joints without a side (`knee`), with one (`left_knee`), or the middle of a pair (`mid_hip`). Without a
side it has a value for each side of the body. Lengths are in units of the person: `torso`, `leg` or `arm`, each the
longest seen of late, since a limb that points at the camera looks short but never long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamkp.plugin import Skeleton

Unit = Literal["torso", "leg", "arm"]
Side = Literal["left", "right", "mid"]
PAIRS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
BODY = tuple(f"{side}_{joint}" for joint in PAIRS for side in ("left", "right"))
JOINTS = ("nose", *PAIRS)
KINDS = ("angle", "tilt", "height", "distance", "level", "uneven")
_HOLD = 4.0  # seconds in which a limb's longest look loses a third, for people who walk away from the camera


class Value(NamedTuple):
    """What was measured, on which side, and the lowest score of its joints."""

    value: float
    score: float
    side: Side


class Measure(BaseModel):
    """One quantity of a pose; exactly one of the kinds is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    angle: tuple[str, str, str] | None = Field(None, description="Degrees at the second joint, 0 to 180.")
    tilt: tuple[str, str] | None = Field(
        None, description="Degrees between the line from the first joint to the second, and up: 0 upright, 90 level."
    )
    height: tuple[str, str] | None = Field(None, description="How far the first joint is above the second, in units.")
    distance: tuple[str, str] | None = Field(None, description="Between two joints, in units.")
    level: tuple[str, str] | None = Field(None, description="Sideways distance of two joints, in units.")
    uneven: tuple[str, str] | None = Field(None, description="Difference of height of two joints, in units, positive.")
    unit: Unit = Field("torso", description="What lengths are measured in.")
    space: Literal["2d", "3d"] = Field("2d", description="In the image, or in the lifted pose.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [k for k in KINDS if getattr(self, k) is not None]
        if len(kinds) != 1:
            raise ValueError(f"give exactly one of {', '.join(KINDS)}")
        for joint in self.joints:
            bare = joint.removeprefix("left_").removeprefix("right_").removeprefix("mid_")
            if bare not in JOINTS or (bare == "nose" and joint != "nose"):
                known = ", ".join(JOINTS)
                raise ValueError(f"unknown joint {joint!r}; joints: {known}, each also as left_, right_ or mid_")
        return self

    @property
    def joints(self) -> tuple[str, ...]:
        """The joints that it names."""
        return self.angle or self.tilt or self.height or self.distance or self.level or self.uneven or ()

    def of(self, pose: Pose) -> list[Value]:
        """The values of this measure: one, or one of each side; none where the pose lacks a joint."""
        sides: tuple[Side, ...] = ("left", "right") if any(joint in PAIRS for joint in self.joints) else ("mid",)
        values = []
        for side in sides:
            points = [pose.joint(f"{side}_{joint}" if joint in PAIRS else joint) for joint in self.joints]
            found = [p for p in points if p is not None]
            if len(found) == len(points):
                value = self._measure(found, pose.units[self.unit])
                if math.isfinite(value):
                    values.append(Value(value, min(p[3] for p in found), side))
        return values

    def _measure(self, points: list[tuple[float, float, float, float]], unit: float) -> float:
        a, b = points[0], points[1]
        if self.angle is not None:
            c = points[2]
            return _between((a[0] - b[0], a[1] - b[1], a[2] - b[2]), (c[0] - b[0], c[1] - b[1], c[2] - b[2]))
        if self.tilt is not None:
            return _between((b[0] - a[0], b[1] - a[1], b[2] - a[2]), (0.0, -1.0, 0.0))
        if self.height is not None:
            return (b[1] - a[1]) / unit
        if self.uneven is not None:
            return abs(b[1] - a[1]) / unit
        if self.level is not None:
            return math.hypot(b[0] - a[0], b[2] - a[2]) / unit
        return math.dist(a[:3], b[:3]) / unit


def _between(u: tuple[float, float, float], v: tuple[float, float, float]) -> float:
    lengths = math.hypot(*u) * math.hypot(*v)
    if lengths < 1e-9:
        return math.nan
    dot = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    return math.degrees(math.acos(max(-1.0, min(1.0, dot / lengths))))


class Pose:
    """The joints of one person in one frame, by name: x, y, z, score (z is 0 in the image), and the units."""

    def __init__(self, points: dict[str, tuple[float, float, float, float]], units: dict[Unit, float]) -> None:
        self._points = points
        self.units = units

    @property
    def body(self) -> float:
        """About the length of the torso, also where it points at the camera: from the limbs, by usual proportions."""
        return max(self.units["torso"], 0.8 * self.units["arm"], 0.6 * self.units["leg"])

    def joint(self, name: str) -> tuple[float, float, float, float] | None:
        """A joint, or the middle of a pair (`mid_hip`); None where the layout lacks it."""
        if name in self._points or not name.startswith("mid_"):
            return self._points.get(name)
        left, right = self._points.get(f"left_{name[4:]}"), self._points.get(f"right_{name[4:]}")
        if left is None or right is None:
            return None
        x, y, z = ((left[i] + right[i]) / 2 for i in range(3))
        middle = (x, y, z, min(left[3], right[3]))
        self._points[name] = middle
        return middle

    def score(self, joints: Iterable[str]) -> float:
        """The mean score of the better side of these joints (`hip`, `knee`)."""
        sides = []
        for side in ("left", "right"):
            found = [self._points.get(f"{side}_{joint}" if joint in PAIRS else joint) for joint in joints]
            known = [p[3] for p in found if p is not None]
            sides.append(sum(known) / len(found) if found and len(known) == len(found) else 0.0)
        return max(sides)


class Units:
    """The lengths of one person's torso, leg and arm: the longest look at each, slowly forgotten."""

    def __init__(self) -> None:
        self._known: dict[Unit, float] = {}
        self._pts: int | None = None

    def reset(self) -> None:
        """Another camera, or another person."""
        self._known.clear()
        self._pts = None

    def read(self, points: NDArray[np.float32], layout: Skeleton, pts: int) -> Pose:
        """A pose to measure. `points` is (K, 3) of `layout`: x, y in pixels, score; `pts` in nanoseconds."""
        return self._read(points, layout, pts, flat=True)

    def read_3d(self, points: NDArray[np.float32], layout: Skeleton, pts: int) -> Pose:
        """As `read`, for (K, 3) in metres with y down. Lifted joints have no scores; theirs is 1."""
        return self._read(points, layout, pts, flat=False)

    def _read(self, points: NDArray[np.float32], layout: Skeleton, pts: int, *, flat: bool) -> Pose:
        rows = points.tolist()
        named: dict[str, tuple[float, float, float, float]] = {}
        for name, index in joint_table(layout).items():
            x, y, last = rows[index]
            if math.isfinite(x) and math.isfinite(y) and math.isfinite(last):
                named[name] = (x, y, 0.0, last) if flat else (x, y, last, 1.0)
        self._update(named, pts)
        return Pose(named, dict(self._known))

    def _update(self, named: dict[str, tuple[float, float, float, float]], pts: int) -> None:
        seconds = 0.0 if self._pts is None else max(0.0, (pts - self._pts) / 1e9)
        self._pts = pts
        fade = math.exp(-min(seconds, 1.0) * 0.4 / _HOLD)
        for unit, seen in _looks(named).items():
            known = self._known.get(unit)
            # A single wild frame must not set the scale: grow towards a longer look over a few frames.
            if known is None:
                self._known[unit] = seen
            elif seen > known:
                self._known[unit] = known + (seen - known) * min(1.0, 12 * seconds)
            else:
                self._known[unit] = max(seen, known * fade)
        for unit in ("torso", "leg", "arm"):
            self._known.setdefault(unit, 1.0)
            self._known[unit] = max(self._known[unit], 1e-6)


_PARTS: dict[Unit, tuple[tuple[str, str], ...]] = {
    "torso": (("shoulder", "hip"),),
    "leg": (("hip", "knee"), ("knee", "ankle")),
    "arm": (("shoulder", "elbow"), ("elbow", "wrist")),
}


def _looks(named: dict[str, tuple[float, float, float, float]]) -> dict[Unit, float]:
    looks: dict[Unit, float] = {}
    for unit, bones in _PARTS.items():
        total = weight = 0.0
        for side in ("left", "right"):
            ends = [(named.get(f"{side}_{a}"), named.get(f"{side}_{b}")) for a, b in bones]
            known = [(a, b) for a, b in ends if a is not None and b is not None]
            if len(known) == len(bones):
                score = min(min(a[3], b[3]) for a, b in known) ** 2 + 1e-3
                total += score * sum(math.dist(a[:3], b[:3]) for a, b in known)
                weight += score
        if weight:
            looks[unit] = total / weight
    return looks


_TABLES: dict[str, dict[str, int]] = {}


def joint_table(layout: Skeleton) -> dict[str, int]:
    """Index of each joint that measures may name; `nose` is the face's middle where a layout has no nose."""
    table = _TABLES.get(layout.name)
    if table is None:
        names = {name: name for name in BODY} | {"nose": "nose"}
        if "nose" not in layout.joints:
            names["nose"] = "neck_nose" if "neck_nose" in layout.joints else "head"
        table = {name: layout.joints.index(at) for name, at in names.items() if at in layout.joints}
        _TABLES[layout.name] = table
    return table
