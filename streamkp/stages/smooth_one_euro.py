"""`smooth-one-euro`: steady 2D keypoints, hands and faces, one filter per track and part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from streamkp.graph.stage import LIVE, MapStage, StageOptions
from streamkp.motion.limb_jumps import LimbFilter
from streamkp.motion.one_euro import OneEuro
from streamkp.motion.side_swaps import SwapFilter
from streamkp.packet import FloatArray, Keypoints2D, Packet, Person
from streamkp.tracking.similarity import box_of

_METRES_TO_SIZE = 0.2  # metres: hands in space are filtered as what is as large as a hand
_EXPRESSION_SIZE = 5.0  # of a blendshape, which goes from 0 to 1: a blink must not lag


class _PartFilters(dict[str, OneEuro]):
    """A filter for each part of one person, made when the part is first seen."""

    def __init__(self, make: Callable[[], OneEuro]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, part: str) -> OneEuro:
        made = self[part] = self._make()
        return made


class SmoothOneEuro(MapStage):
    """Smooths the 2D keypoints of every track with a One-Euro filter; scores stay as they are.

    Speed is measured relative to the person: units per second as if everybody were 1000 pixels tall. Before
    that, left and right of people whom the network has exchanged for some frames are put right, and limbs that jump
    off the body for some frames are held where they were, with a score of at most 0.1; the box is drawn around them
    there. The hands and the face that `keypoints-parts` adds are smoothed with the same options, relative to their own
    size, and so are hands in space and blendshapes.
    """

    light = True
    needs = ("keypoints_2d",)
    gives = ()

    class Options(StageOptions):
        renamed: ClassVar[Mapping[str, str]] = {"sides": "swap_filter"}

        min_cutoff: float = Field(
            0.05, gt=0, description="Cut-off in Hz at rest; lower is steadier.", json_schema_extra=LIVE
        )
        beta: float = Field(
            0.064,
            ge=0,
            description="Cut-off gained per unit of speed, in Hz; higher follows motion more closely.",
            json_schema_extra=LIVE,
        )
        derivative_cutoff: float = Field(
            1.0, gt=0, description="Cut-off in Hz of the speed itself.", json_schema_extra=LIVE
        )
        max_gap: float = Field(
            1.0,
            gt=0,
            description="Seconds without a sample after which a filter starts afresh.",
            json_schema_extra=LIVE,
        )
        swap_filter: bool = Field(
            True,
            description="Undo exchanges of a body's left and right that last for less than a second.",
            json_schema_extra=LIVE,
        )
        limb_filter: bool = Field(
            True,
            description="Hold limbs that jump off the body for less than half a second, with a low score.",
            json_schema_extra=LIVE,
        )
        parts: bool = Field(
            True, description="Smooth hands and face, too, where there are some.", json_schema_extra=LIVE
        )

    options: Options

    def open(self) -> None:
        self._filters = self.per_track(lambda: OneEuro(*self._parameters()))
        self._swaps = self.per_track(SwapFilter)
        self._limbs = self.per_track(LimbFilter)
        self._parts = self.per_track(lambda: _PartFilters(lambda: OneEuro(*self._parameters())))

    def options_changed(self) -> None:
        for smooth in self._filters.values():
            smooth.tune(*self._parameters())
        for parts in self._parts.values():
            for smooth in parts.values():
                smooth.tune(*self._parameters())
        if not self.options.swap_filter:
            self._swaps.clear()
        if not self.options.limb_filter:
            self._limbs.clear()

    def _parameters(self) -> tuple[float, float, float, float]:
        o = self.options
        return o.min_cutoff, o.beta, o.derivative_cutoff, o.max_gap

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            if self.options.parts and ("hands" in person.extra or "face" in person.extra):
                self._smooth_parts(self._parts[packet.stream, person.track], person, packet.pts)
            keypoints = person.keypoints_2d
            size = float(max(person.box[2], person.box[3]))
            if keypoints is None or not size > 0:
                continue
            points = keypoints.points.copy()
            if self.options.swap_filter:
                points = self._swaps[packet.stream, person.track](keypoints.skeleton, points, packet.pts, size)
            if self.options.limb_filter:
                said = points
                points = self._limbs[packet.stream, person.track](keypoints.skeleton, said, packet.pts, size)
                if points is not said:  # the box was drawn around where the limb is not
                    person.box = box_of(np.column_stack((points[:, :2], said[:, 2])))
            smooth = self._filters[packet.stream, person.track]
            points[:, :2] = smooth(points[:, :2], packet.pts, size)
            person.keypoints_2d = Keypoints2D(keypoints.skeleton, points.astype(np.float32, copy=False))
        return packet

    @staticmethod
    def _smooth_parts(filters: _PartFilters, person: Person, pts: int) -> None:
        extra = person.extra
        for side, points in extra.get("hands", {}).items():
            extra["hands"] = extra["hands"] | {side: _steadied(filters[f"{side} hand"], points, pts)}
        for side, points in extra.get("hands_world", {}).items():
            steady = filters[f"{side} hand in space"](points, pts, _METRES_TO_SIZE).astype(np.float32)
            extra["hands_world"] = extra["hands_world"] | {side: steady}
        face: dict[str, Any] | None = extra.get("face")
        if face is None:
            return
        face = face | {"points": _steadied(filters["face"], face["points"], pts)}
        if shapes := face.get("blendshapes"):
            values = filters["expression"](np.array(list(shapes.values()))[:, None], pts, _EXPRESSION_SIZE)[:, 0]
            face["blendshapes"] = dict(zip(shapes, np.round(values, 4).tolist(), strict=True))
        extra["face"] = face


def _steadied(smooth: OneEuro, points: FloatArray, pts: int) -> FloatArray:
    """The points (K, 3) of a part of the body with x and y smoothed relative to its size."""
    size = float(np.ptp(points[:, :2], axis=0).max())
    out = points.copy()
    if size > 0:
        out[:, :2] = smooth(points[:, :2], pts, size)
    return out
