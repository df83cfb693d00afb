"""`window`: the last poses of every track, for lifters that read windows."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from streamkp import skeletons
from streamkp.graph.stage import MapStage, PerTrack, StageOptions
from streamkp.motion.window import Window
from streamkp.packet import Packet, Person, PoseWindow


@dataclass(slots=True)
class _Track:
    source: tuple[str, int, int]  # skeleton, image width and height: a window holds poses of one kind only
    window: Window
    handed_on: PoseWindow | None = None


class WindowStage(MapStage):
    """Keeps the last `frames` poses of every track and hands on a view of them with each packet.

    There is a window from the first pose on. While a person is only predicted, the window stays as it was.
    """

    kind = "window"

    needs = ("keypoints_2d",)
    gives = ("window",)

    class Options(StageOptions):
        frames: int = Field(96, ge=1, le=4096, description="Poses in the window.")
        rate: float | None = Field(
            None, gt=0, description="Poses per second, interpolated by time; null: one per frame as it comes."
        )
        skeleton: str | None = Field(None, description="Joint layout to convert to; null: that of the keypoints.")
        max_gap: float = Field(1.0, gt=0, description="Seconds of silence after which a window starts afresh.")

    options: Options

    def open(self) -> None:
        o = self.options
        if o.skeleton is not None:
            skeletons.get(o.skeleton)  # a name that does not exist is reported before the graph starts
        self._tracks: PerTrack[_Track | None] = self.per_track(lambda: None)

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            person.window = self._window(packet, person)
        return packet

    def _window(self, packet: Packet, person: Person) -> PoseWindow | None:
        keypoints = person.keypoints_2d
        track = self._tracks[packet.stream, person.track]
        if keypoints is None or person.state == "predicted":
            return track.handed_on if track else None
        source = (keypoints.skeleton, packet.width, packet.height)
        if track is None or track.source != source:
            o = self.options
            track = _Track(source, Window(o.frames, o.rate, o.max_gap))
            self._tracks[packet.stream, person.track] = track
        skeleton, points = keypoints.skeleton, keypoints.points
        if self.options.skeleton not in (None, skeleton):
            skeleton = self.options.skeleton
            points = skeletons.convert(points, keypoints.skeleton, skeleton)
        track.window.push(points, packet.pts, packet.seq)
        rows = track.window.rows()
        track.handed_on = PoseWindow(skeleton, rows.points, rows.pts, rows.seq, rows.valid, packet.width, packet.height)
        return track.handed_on
