"""`window`: the last poses of every track, for lifters and plugins that read windows."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from streamkp import skeletons
from streamkp.graph.stage import MapStage, PerTrack, StageOptions
from streamkp.motion.window import Window
from streamkp.packet import WINDOW_FRAMES, Packet, Person, PoseWindow


@dataclass(slots=True)
class _Track:
    source: tuple[str, int, int]  # skeleton, image width and height of the poses in the window
    window: Window
    latest: PoseWindow


class WindowStage(MapStage):
    """Keeps the last poses of every track and hands on a view of them with each packet.

    There is a window from the first pose on: missing history repeats the oldest pose. While a person is only
    predicted, the window stays as it was. What is left out of the options is what the lifter below was trained with.
    """

    kind = "window"

    light = True
    needs = ("keypoints_2d",)
    gives = ("window",)

    class Options(StageOptions):
        frames: int | None = Field(
            None,
            ge=1,
            le=4096,
            description=f"Poses in the window; null: {WINDOW_FRAMES}, or more where a lifter reads more.",
        )
        rate: float | None = Field(
            None,
            gt=0,
            description="Poses per second, interpolated by time; null: that of the lifter below, or without one a pose "
            "for each frame.",
        )
        skeleton: str | None = Field(
            None,
            description="Joint layout to convert to; null: that of the lifter below, or without one that of the "
            "keypoints.",
        )
        max_gap: float = Field(1.0, gt=0, description="Seconds of silence after which a window starts afresh.")

    options: Options

    def open(self) -> None:
        o = self.options
        if o.skeleton is not None:
            skeletons.get(o.skeleton)  # an unknown name is reported before the graph starts
        self._frames = o.frames or WINDOW_FRAMES
        self._tracks: PerTrack[_Track | None] = self.per_track(lambda: None)

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            person.window = self._window(packet, person)
        return packet

    def _window(self, packet: Packet, person: Person) -> PoseWindow | None:
        keypoints = person.keypoints_2d
        track = self._tracks[packet.stream, person.track]
        if keypoints is None or person.state == "predicted":
            return track.latest if track else None
        o = self.options
        window = track.window if track else Window(self._frames, o.rate, o.max_gap)
        source = (keypoints.skeleton, packet.width, packet.height)
        if track and track.source != source:
            window.clear()
        skeleton, points = keypoints.skeleton, keypoints.points
        if o.skeleton not in (None, skeleton):
            skeleton = o.skeleton
            points = skeletons.convert(points, keypoints.skeleton, skeleton)
        window.push(points, packet.pts, packet.seq)
        rows = window.rows()
        latest = PoseWindow(
            skeleton, rows.points, rows.pts, rows.seq, rows.valid, packet.width, packet.height, rows.row, o.rate
        )
        self._tracks[packet.stream, person.track] = _Track(source, window, latest)
        return latest
