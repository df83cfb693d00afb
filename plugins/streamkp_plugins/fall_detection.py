"""`fall-detection`: somebody falls, or lies for long.

A person is lying when the line from hips to shoulders is nearer to level than to upright, or the whole body is low:
its height in the image is less than half of trunk and leg together (somebody who lies along the camera's axis has no
tilt in the image); either way the hips are no higher than half a leg above the feet (who bends has them higher). A fall
is the way from upright, hips off the ground, to lying within `fall_seconds`, with the shoulders going down by at least
a third of the body, and without getting up again for `confirm` seconds; lying down with care takes longer.
The two thresholds of tilt are apart (hysteresis), so that nobody flickers between the states.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from pydantic import Field

from streamkp.plugin import LIVE, MapStage, Packet, Person, StageOptions, skeleton
from streamkp_plugins.measures import BODY, Measure, Units

STANDING, UPRIGHT, LYING = 25.0, 40.0, 60.0  # degrees of the trunk from the vertical
OFF_GROUND, BENT = 0.35, 0.5  # height of the hips above the feet, in legs
LOW = 0.5  # height of the body over trunk and leg
DROP = 0.33  # of trunk and leg: how far the shoulders go down in a fall
SEEN = 0.3  # least mean score of the trunk's joints
MOST_LINES = 32  # streams that the summary names
_HIPS = Measure(height=("mid_hip", "mid_ankle"), unit="leg")
_TILT = Measure(tilt=("mid_hip", "mid_shoulder"))


class _State:
    def __init__(self) -> None:
        self.units = Units()
        self.recent: deque[tuple[int, float]] = deque()  # pts and height of the shoulders while upright, in pixels
        self.lying_since: int | None = None
        self.up_since: int | None = None
        self.fast = False  # the way down was a fall's
        self.told_fall = self.told_down = False


class FallDetection(MapStage):
    """Events `fall` and `down` (somebody lies for long), and `up` when that is over."""

    light = True
    retells = ("fall", "down", "up", "fall_detection", "annotations")

    class Options(StageOptions):
        fall_seconds: float = Field(
            1.2, gt=0, le=5, description="Longest way from upright to lying that is a fall.", json_schema_extra=LIVE
        )
        confirm: float = Field(
            0.5, ge=0, description="Seconds of lying after which a fall is told.", json_schema_extra=LIVE
        )
        down_after: float = Field(
            5.0, gt=0, description="Seconds of lying after which `down` is told.", json_schema_extra=LIVE
        )
        up_after: float = Field(
            1.0, ge=0, description="Seconds upright after which somebody is up again.", json_schema_extra=LIVE
        )
        labels: bool = Field(
            True,
            description="Write over whoever fell or is down, in rendered videos and on the page.",
            json_schema_extra=LIVE,
        )

    options: Options

    def open(self) -> None:
        self._states = self.per_track(_State)
        self._told: dict[str, Counter[str]] = {}  # events of each stream by type

    def process(self, packet: Packet) -> Packet:
        told = self._told.setdefault(packet.stream, Counter())
        for person in packet.persons:
            if person.keypoints_2d is not None and person.state != "predicted":
                state = self._states[packet.stream, person.track]
                events = self._look(state, packet.pts, person)
                packet.events.extend(events)
                told.update(str(event["type"]) for event in events)
                person.extra["fall_detection"] = {"lying": state.lying_since is not None}
                if self.options.labels and state.lying_since is not None and (state.told_fall or state.told_down):
                    seconds = (packet.pts - state.lying_since) / 1e9
                    text = f"{'FALL' if state.told_fall else 'DOWN'} {seconds:.0f} s"
                    packet.annotations.append({"type": "label", "track": person.track, "text": text, "at": None})
        return packet

    def summary(self) -> str:
        """How often somebody fell, and was down for long, a line for each stream."""
        lines = sorted(self._told.items())[:MOST_LINES]
        return "\n".join(f"{stream}: fell {told['fall']}, was down {told['down']} times" for stream, told in lines)

    def _look(self, state: _State, pts: int, person: Person) -> list[dict[str, Any]]:
        assert person.keypoints_2d is not None
        points = person.keypoints_2d.points
        pose = state.units.read(points, skeleton(person.keypoints_2d.skeleton), pts)
        tilts, shoulders = _TILT.of(pose), pose.joint("mid_shoulder")
        if not tilts or shoulders is None or pose.score(("shoulder", "hip")) < SEEN:
            return []
        length = pose.units["torso"] + pose.units["leg"]
        heights = [joint[1] for name in BODY if (joint := pose.joint(name)) is not None]
        low = (max(heights) - min(heights)) / length < LOW
        tilt = tilts[0].value
        while state.recent and state.recent[0][0] < pts - self.options.fall_seconds * 1e9:
            state.recent.popleft()
        hips = [found.value for found in _HIPS.of(pose)]  # guessed feet are better than none
        if (tilt > LYING or low) and not (hips and hips[0] > BENT):
            return self._lying(state, pts, person.track, shoulders[1], length)
        if tilt < STANDING and not (hips and hips[0] < OFF_GROUND):
            state.recent.append((pts, shoulders[1]))
        if tilt < UPRIGHT:
            return self._upright(state, pts, person.track)
        return []

    def _lying(self, state: _State, pts: int, track: int, shoulders: float, length: float) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        state.up_since = None
        if state.lying_since is None:
            state.lying_since = pts
            state.told_fall = state.told_down = state.fast = False
        # The shoulders go on falling for a moment after the tilt has passed its threshold.
        if any(shoulders - before > DROP * length for _, before in state.recent):
            state.fast = True
        seconds = (pts - state.lying_since) / 1e9
        if state.fast and not state.told_fall and seconds >= self.options.confirm:
            state.told_fall = True
            events.append({"type": "fall", "track": track, "pts": state.lying_since})
        if not state.told_down and seconds >= self.options.down_after:
            state.told_down = True
            events.append({"type": "down", "track": track, "since_pts": state.lying_since, "fell": state.told_fall})
        return events

    def _upright(self, state: _State, pts: int, track: int) -> list[dict[str, Any]]:
        if state.lying_since is None:
            return []
        if state.up_since is None:
            state.up_since = pts
        if pts - state.up_since < self.options.up_after * 1e9:
            return []
        told, since = state.told_fall or state.told_down, state.lying_since
        state.lying_since = state.up_since = None
        return [{"type": "up", "track": track, "after_s": round((pts - since) / 1e9, 2)}] if told else []
