"""What the live graph gives for a recorded view: every person's 2D and 3D, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import SourceError
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage, Sink
from streamkp.models.lift.lifters import WEIGHTLESS
from streamkp.packet import Packet

Floats = NDArray[np.floating[Any]]
ByFrame = dict[int, Floats]

DETECTOR = "efficientdet-lite0"
DETECT_EVERY = 10  # frames, as the ready-made graphs do
SKELETON = "h36m17"
_RAW = "raw"


@dataclass(slots=True)
class TrackRecording:
    """One person of a view, by frame: 2D [K, 3] (pixels, score), 3D [17, 3] of `SKELETON` (metres, camera axes).

    `raw` is what the network saw, `smooth` what the lifter read; `world` is the 2D network's own 3D, `lifted` the
    lifter's, under the frame that it describes.
    """

    raw: ByFrame = field(default_factory=dict)
    smooth: ByFrame = field(default_factory=dict)
    world: ByFrame = field(default_factory=dict)
    lifted: ByFrame = field(default_factory=dict)


@dataclass(slots=True)
class ViewRecording:
    """One video: its tracks by epoch and number, and `pts` (ns) of each frame."""

    skeleton: str = ""
    size: tuple[int, int] = (0, 0)
    pts: list[int] = field(default_factory=list)
    tracks: dict[tuple[int, int], TrackRecording] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Frames per second; NaN of fewer than two frames."""
        return 1e9 / float(np.median(np.diff(self.pts))) if len(self.pts) > 1 else np.nan


class _KeepRaw(MapStage):
    """Remembers the keypoints as the network saw them, before they are smoothed."""

    def process(self, packet: Packet) -> Packet:
        for person in packet.persons:
            if person.state != "predicted":
                person.extra[_RAW] = person.keypoints_2d
        return packet


class _Gather(Sink):
    """Keeps what is compared, and no image, in the `ViewRecording` that is bound to it."""

    def process(self, packet: Packet) -> None:
        view: ViewRecording = self.context.bound
        view.size = packet.width, packet.height
        view.pts.append(packet.pts)
        for person in packet.persons:
            track = view.tracks.setdefault((packet.epoch, person.track), TrackRecording())
            if (raw := person.extra.get(_RAW)) is not None and person.keypoints_2d is not None:
                view.skeleton = raw.skeleton
                track.raw[packet.seq] = raw.points
                track.smooth[packet.seq] = person.keypoints_2d.points
            for seen, into in ((person.world, track.world), (person.keypoints_3d, track.lifted)):
                if seen is not None:
                    pose = skeletons.convert(seen.points, seen.skeleton, SKELETON, scored=False)
                    into.setdefault(seen.frame_seq, pose.astype(np.float64))  # when the frame is first told of


def record(
    video: Path,
    *,
    pose: str,
    model: str | None = None,
    lookahead: int = 0,
    smooth_3d: Mapping[str, Any] | None = None,
    threads: int = 2,
) -> ViewRecording:
    """Run a video through the live graph, every frame of it as a camera would have given it.

    Views are run one by one: batches that mix streams change the last digits of a network, and with them the regions
    of later frames, from run to run.

    Args:
        video: the file.
        pose: 2D pose network.
        model: lifter; None for 2D alone.
        lookahead: of the lifter, in frames.
        smooth_3d: options of a `smooth-3d` stage behind the lifter; None for no such stage.
        threads: CPU threads of each network.

    Raises:
        StreamkpError: the video cannot be read or shows nobody, or a model cannot be opened.
    """
    view = ViewRecording()
    graph = Graph().stream("view", str(video))
    graph.add("decode").add("detect", "detect-person", model=DETECTOR, every=DETECT_EVERY, threads=threads)
    graph.add("keypoints", "keypoints-2d", model=pose, threads=threads).add("raw", _KeepRaw)
    graph.add("smooth", "smooth-one-euro")
    if model is not None:
        if model not in WEIGHTLESS:
            graph.add("window")
        graph.add("lift", "lift-3d", model=model, lookahead=lookahead, threads=threads)
        if smooth_3d is not None:
            graph.add("steady", "smooth-3d", **smooth_3d)
    engine = ThreadEngine(graph.add("gather", _Gather).validate(), bound={"gather": view})
    engine.start()
    try:
        engine.wait()
    finally:
        engine.stop()
    if engine.errors:
        raise engine.errors[0]
    if not view.skeleton:
        raise SourceError(f"nobody was found in {video}")
    return view
