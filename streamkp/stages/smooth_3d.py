"""`smooth-3d`: smooths 3D keypoints, one state per track."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field, field_validator

from streamkp.errors import StreamkpError
from streamkp.graph.stage import LIVE, MapStage, PerTrack, StageOptions
from streamkp.motion import extremities
from streamkp.motion.one_euro import REFERENCE_SIZE, OneEuro
from streamkp.motion.steady import Floats, Settings, Steady
from streamkp.packet import Extremities, Keypoints3D, Packet

REMEMBERED = 1024  # frames of a stream whose time is known: further back no pose can lie

_DEFAULTS = Settings()


@dataclass(slots=True)
class _Track:
    steady: Steady
    pts: int
    pose: Keypoints3D
    parts: OneEuro | None

    def tune(self, settings: Settings) -> None:
        self.steady.tune(settings)
        if self.parts is not None:
            self.parts.tune(settings.min_cutoff, settings.beta, settings.derivative_cutoff)


class Smooth3D(MapStage):
    """Smooths the 3D keypoints of every track: less jitter, bones of constant length, feet that do not slide.

    Time is that of the frame that a pose describes. A pose of the same frame as the one before, or of an older one,
    is replaced by the smoothed pose of that frame. `contact` moves the root of a person (`lift-3d` with
    `trajectory: true`), never the points, which are relative to it; where there is no root it does nothing, and a
    warning says so once.
    """

    light = True
    needs = ("keypoints_3d",)
    gives = ()

    class Options(StageOptions):
        one_euro: bool = Field(_DEFAULTS.one_euro, description="Smooth every joint, and the root, with One-Euro.")
        min_cutoff: float = Field(
            _DEFAULTS.min_cutoff,
            gt=0,
            description="Cut-off in Hz at rest; lower is steadier.",
            json_schema_extra=LIVE,
        )
        beta: float = Field(
            _DEFAULTS.beta,
            ge=0,
            description="Cut-off gained per m/s, in Hz; higher follows motion more closely.",
            json_schema_extra=LIVE,
        )
        derivative_cutoff: float = Field(
            _DEFAULTS.derivative_cutoff,
            gt=0,
            description="Cut-off in Hz of the speed itself.",
            json_schema_extra=LIVE,
        )
        bones: bool = Field(_DEFAULTS.bones, description="Give every bone its median length so far.")
        contact: bool = Field(_DEFAULTS.contact, description="Move the root so that a foot that stands does not slide.")
        up: tuple[float, float, float] = Field(
            _DEFAULTS.up, description="Direction of up in camera axes (x right, y down, z away), for a tilted camera."
        )

        @field_validator("up")
        @classmethod
        def _is_a_direction(cls, up: tuple[float, float, float]) -> tuple[float, float, float]:
            length = float(np.linalg.norm(up))
            if not (np.isfinite(length) and length > 0):
                raise ValueError("must be a direction: three numbers, not all zero")
            return up

    options: Options

    def open(self) -> None:
        self._settings = Settings(**self.options.model_dump())
        self._tracks: PerTrack[_Track | None] = self.per_track(lambda: None)
        self._times = self.per_stream(lambda: deque[tuple[int, int]](maxlen=REMEMBERED))
        self._told = False

    def options_changed(self) -> None:
        self._settings = Settings(**self.options.model_dump())
        for track in self._tracks.values():
            if track is not None:
                track.tune(self._settings)

    def process(self, packet: Packet) -> Packet:
        self._times[packet.stream].append((packet.seq, packet.pts))
        for person in packet.persons:
            pose = person.keypoints_3d
            if pose is None or not np.isfinite(pose.points).all():
                continue
            try:
                person.keypoints_3d = self._steadied(packet.stream, person.track, pose)
            except StreamkpError as error:
                self.context.failed(packet, error)
        return packet

    def _steadied(self, stream: str, track: int, pose: Keypoints3D) -> Keypoints3D:
        pts = self._time(stream, pose.frame_seq)
        state = self._tracks[stream, track]
        if state is None or state.pose.skeleton != pose.skeleton:
            s = self._settings
            parts = OneEuro(s.min_cutoff, s.beta, s.derivative_cutoff) if s.one_euro else None
            state = _Track(Steady(pose.skeleton, s), pts, pose, parts)
            self._tracks[stream, track] = state
        elif pts <= state.pts:
            return state.pose
        root = pose.root if pose.root is not None and np.isfinite(pose.root).all() else None
        if root is None and self._settings.contact and not self._told:
            self._told = True
            self.context.log.warning("contact needs to know where a person is: set `trajectory: true` in lift-3d")
        points, at = state.steady(pose.points, root, pts)
        state.pts = pts
        state.pose = replace(
            pose,
            points=points.astype(np.float32),
            root=None if at is None else at.astype(np.float32),
            extremities=self._held(state, pose, points, pts),
        )
        return state.pose

    def _held(self, state: _Track, pose: Keypoints3D, points: Floats, pts: int) -> Extremities | None:
        """The extremities, smoothed in themselves and fixed to the smoothed body."""
        found = pose.extremities
        if found is None or found.skeleton != extremities.LAYOUT or pose.skeleton != extremities.TARGET:
            return found
        offsets = found.points - extremities.anchors(pose.points)
        if state.parts is not None and np.isfinite(offsets).all():
            offsets = state.parts(offsets, pts, REFERENCE_SIZE)
        return replace(found, points=(extremities.anchors(points) + offsets).astype(np.float32))

    def _time(self, stream: str, seq: int) -> int:
        """When frame `seq` was, or the last one before it that came by here; the oldest that is known at least."""
        times = self._times[stream]
        return next((pts for known, pts in reversed(times) if known <= seq), times[0][1])
