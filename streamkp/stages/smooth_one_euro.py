"""`smooth-one-euro`: steady 2D keypoints, one filter per track."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from streamkp.graph.stage import LIVE, MapStage, StageOptions
from streamkp.motion.one_euro import OneEuro
from streamkp.motion.side_swaps import SwapFilter
from streamkp.packet import Keypoints2D, Packet


class SmoothOneEuro(MapStage):
    """Smooths the 2D keypoints of every track with a One-Euro filter; scores stay as they are.

    Speed is measured relative to the person: units per second as if everybody were 1000 pixels tall. Before
    that, left and right of people whom the network has exchanged for some frames are put right.
    """

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

    options: Options

    def open(self) -> None:
        self._filters = self.per_track(lambda: OneEuro(*self._parameters()))
        self._swaps = self.per_track(SwapFilter)

    def options_changed(self) -> None:
        for smooth in self._filters.values():
            smooth.tune(*self._parameters())
        if not self.options.swap_filter:
            self._swaps.clear()

    def _parameters(self) -> tuple[float, float, float, float]:
        o = self.options
        return o.min_cutoff, o.beta, o.derivative_cutoff, o.max_gap

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            keypoints = person.keypoints_2d
            size = float(max(person.box[2], person.box[3]))
            if keypoints is None or not size > 0:
                continue
            points = keypoints.points.copy()
            if self.options.swap_filter:
                points = self._swaps[packet.stream, person.track](keypoints.skeleton, points, packet.pts, size)
            smooth = self._filters[packet.stream, person.track]
            points[:, :2] = smooth(points[:, :2], packet.pts, size)
            person.keypoints_2d = Keypoints2D(keypoints.skeleton, points.astype(np.float32, copy=False))
        return packet
