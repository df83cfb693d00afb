"""A drawn-by-numbers scene: people on given paths, a detector that misses those who are hidden, and a pose network
that, like the real ones, sees the person in front, and sees somebody everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from streamkp.packet import Detections, FloatArray
from streamkp.poses import Pose, Region
from streamkp.tracking.similarity import box_of, overlap
from streamkp.tracking.tracker import Frame, Tracker, TrackerOptions

WIDTH, HEIGHT = 1280, 720
SHAPE = np.random.default_rng(3).uniform(0, 1, (33, 2)).astype(np.float32)
SHAPE[:2] = (0, 0), (1, 1)

Seen = tuple[int, str, FloatArray]  # id, state, box
Path = Callable[[float], tuple[float, float] | None]  # seconds -> centre, or None when not there


class Regions:
    """The regions of a network that looks at squares."""

    def region_from_box(self, box: FloatArray) -> Region:
        return region_of(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        return region_of(detections.boxes[i])


def new_tracker(options: TrackerOptions | None = None) -> Tracker:
    return Tracker(itertools.count(1), options or TrackerOptions(), Regions())


def frame(pts: int, boxes: FloatArray | None, *, detector: bool = True) -> Frame:
    """A frame at `pts` ns with these detections."""
    found = None if boxes is None else Detections(boxes, np.ones(len(boxes), np.float32))
    return Frame(pts, WIDTH, HEIGHT, found, detector)


def region_of(box: FloatArray) -> Region:
    side = 1.25 * max(box[2], box[3])
    return np.array((box[0] + box[2] / 2, box[1] + box[3] / 2, side, side, 0), np.float32)


@dataclass
class Scene:
    """People on `paths`, the first one in front."""

    paths: Sequence[Path]
    size: tuple[float, float] = (120, 360)
    background_presence: float = 0.0  # what the network says of a region with nobody in it
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def boxes(self, t: float) -> list[FloatArray]:
        """The boxes of those who can be seen, in front first."""
        seen: list[FloatArray] = []
        for path in self.paths:
            centre = path(t)
            if centre is None:
                continue
            box = np.array((*(np.array(centre) - np.array(self.size) / 2), *self.size), np.float32)
            if all(overlap(box, other) < 0.4 for other in seen):
                seen.append(box)
        return seen

    def detect(self, t: float) -> FloatArray:
        return np.array(self.boxes(t), np.float32).reshape(-1, 4)

    def pose(self, region: Region, t: float) -> Pose:
        """The visible person nearest to the middle of the region."""
        near = [(float(np.hypot(*(box[:2] + box[2:] / 2 - region[:2]))), i) for i, box in enumerate(self.boxes(t))]
        near = [(d, i) for d, i in near if d < region[2] / 2]
        if near:
            box, presence, score = self.boxes(t)[min(near)[1]], 0.95, 0.95
        else:
            size = np.array(self.size, np.float32)
            box, presence = np.concatenate((region[:2] - size / 2, size)), self.background_presence
            score = 0.6  # BlazePose's median on backgrounds is below 0.9, on people above 0.95
        xy = box[:2] + SHAPE * box[2:] + self._rng.normal(0, 1, SHAPE.shape) * self.noise * self.size[1]
        points = np.column_stack((xy, np.full(len(xy), score))).astype(np.float32)
        return Pose(points, presence, region_of(box_of(points)))


def follow(
    scene: Scene,
    seconds: float,
    *,
    fps: float = 30,
    every: int = 10,
    options: TrackerOptions | None = None,
    blind: Callable[[float], bool] = lambda t: False,
) -> list[tuple[float, list[Seen], frozenset[int]]]:
    """Run a tracker over the scene: time, people and the live ids of each frame.

    The detector looks every `every` frames and two frames after it is asked to. The network sees nobody while `blind`.
    """
    tracker = new_tracker(options)
    asked = [False, False]
    out = []
    for i in range(int(seconds * fps)):
        t = i / fps
        boxes = scene.detect(t) if i % every == 0 or asked[-2] else None
        at = frame(round(t * 1e9), boxes)
        requests = tracker.propose(at)
        seen = [scene.pose(request.region, t) for request in requests]
        poses = [None if blind(t) else pose for pose in seen]
        people = [(p.id, p.state, p.box.copy()) for p in tracker.update(at, requests, poses)]
        asked.append(tracker.ask())
        out.append((t, people, tracker.live))
    return out
