"""Who is who from frame to frame: the tracks of one stream.

In the manner of SORT (Bewley et al. 2016, "Simple Online and Realtime Tracking"): a Kalman filter per person, and an
assignment of what is seen to whom it is predicted to be. What is seen are boxes of a detector, every now and then, and
the poses that a 2D pose network finds in the regions where people were last, every frame:

    requests = tracker.propose(frame)
    tracks = tracker.update(frame, requests, [estimate(request.region) for request in requests])

A 2D pose network gives a pose for any region, so its word is not enough. A track must keep agreeing with the
detector, must not jump, and of two tracks on one person the one that strayed from its own path is taken to be hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamkp.packet import Detections, FloatArray
from streamkp.poses import Pose, Region
from streamkp.tracking.association import Sighting, assign, distance, on_trial, one_per_person
from streamkp.tracking.box_filter import BoxFilter
from streamkp.tracking.similarity import box_of, clipped, overlap
from streamkp.tracking.track import Track, TrackerOptions

__all__ = ["CropRequest", "Frame", "Regions", "Track", "Tracker", "TrackerOptions"]


class Regions(Protocol):
    """From what a detector finds to the regions that a pose network looks at; a `PoseEstimator` is one."""

    def region_from_box(self, box: FloatArray) -> Region:
        """The region for a person's box (4,): x, y, w, h in source pixels."""

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for person `i` of a detection."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """What is known of a frame before the pose network sees it.

    Attributes:
        pts: time in ns.
        width, height: of the image in pixels.
        detections: of the detector, best first; None where it did not look.
        detector: whether there is a detector at all.
    """

    pts: int
    width: int
    height: int
    detections: Detections | None = None
    detector: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True, eq=False)
class CropRequest:
    """A region of the image that the pose network should look at.

    Attributes:
        region: float32 (5,), see `streamkp.poses`.
        track: whom it should show; None for somebody new.
        detection: the detector's box (4,) that led there; the pose must agree with it. None for the region that the
            last pose of the track gave, and for the whole image.
        confirmed: the detector's box (4,) of `track` in this frame, where there is one.
    """

    region: Region
    track: Track | None = None
    detection: FloatArray | None = None
    confirmed: FloatArray | None = None

    @property
    def newcomer(self) -> bool:
        """Whether the region is only a guess, from a box, so that looking again where the pose is pays."""
        return self.track is None or self.detection is not None


class Tracker:
    """The tracks of one stream and epoch.

    `ids` gives the numbers of new tracks; `regions`, the pose estimator, says where to look for a box. Every `propose`
    is followed by one `update` with the same frame.
    """

    def __init__(self, ids: Iterator[int], options: TrackerOptions, regions: Regions) -> None:
        self._ids = ids
        self.options = options
        self._regions = regions
        self._tracks: list[Track] = []
        self._pts: int | None = None  # of the last frame
        self._looked: int | None = None  # pts of the last frame for which the detector looked, or was asked to
        self._waiting = False  # for the answer to what was asked
        self.live: frozenset[int] = frozenset()  # ids, the same object while nobody comes or goes

    def ask(self) -> bool:
        """Whether a detection is wanted now. One that was asked for is not asked for again until it is overdue.

        It is wanted where somebody is lost or in doubt, and the detector has not looked for a while.
        """
        options = self.options
        if self._pts is None or not self._tracks:
            return False
        waited = math.inf if self._looked is None else _seconds(self._pts, self._looked)
        uncertain = [t for t in self._tracks if not self._convincing(t)]
        if any(t.unseen for t in self._tracks) or any(t.doubts for t in uncertain):
            wanted = waited >= options.detection_interval
        else:
            # The network's word is not enough for these; for the others the detector's own interval is.
            overdue = options.max_doubt / 2
            wanted = waited >= overdue and any(_seconds(self._pts, t.agreed) >= overdue for t in uncertain)
        if wanted:
            self._looked, self._waiting = self._pts, True
        return wanted

    def propose(self, frame: Frame) -> list[CropRequest]:
        """Predict everybody to the time of the frame, and say where the pose network should look.

        One request for each track, whether the detector confirms it or not; one for each detection of somebody new;
        and one for the whole image where nobody is seen and there is no detector.
        """
        elapsed = self._elapsed(frame)
        for track in self._tracks:
            track.motion.predict(elapsed)
        if frame.detections is None:
            requests = [CropRequest(track.region, track) for track in self._tracks]
            if not frame.detector and all(t.unseen for t in self._tracks):
                whole = np.array((0, 0, frame.width, frame.height), np.float32)
                requests.append(CropRequest(self._regions.region_from_box(whole)))
            return requests
        return self._with_detections(frame, frame.detections)

    def update(self, frame: Frame, requests: Sequence[CropRequest], poses: Sequence[Pose | None]) -> list[Track]:
        """Take in what was seen for each request, in order; None where there was nothing. Returns the people, by id."""
        elapsed = self._elapsed(frame)
        self._pts = frame.pts
        if frame.detections is not None:
            self._looked = self._looked if self._waiting else frame.pts
            self._waiting = False
        sightings = [
            sighting
            for request, pose in zip(requests, poses, strict=True)
            if pose is not None and (sighting := self._sighting(request, pose, frame, elapsed)) is not None
        ]
        seen, confirmed = one_per_person(sightings, self.options)
        for track in confirmed:
            track.confirm(frame.pts)
        self._find_again(seen, frame)
        present = {sighting.track for sighting in seen}
        boxes = {request.track: request.confirmed for request in requests}
        for track in self._tracks:
            if track not in present:
                left = max(0.0, 1 - _seconds(frame.pts, track.seen) / self.options.max_miss)
                track.miss(boxes.get(track), self.options.predicted_score * left)
        for sighting in seen:
            if sighting.track is None:
                self._tracks.append(self._start(sighting, frame.pts))
            else:
                sighting.track.see(sighting.pose, sighting.box, sighting.strain, frame.pts)
        self._tracks = [t for t in self._tracks if not self._ended(t, frame)]
        ids = frozenset(t.id for t in self._tracks)
        if ids != self.live:
            self.live = ids
        return list(self._tracks)

    def _with_detections(self, frame: Frame, detections: Detections) -> list[CropRequest]:
        boxes = detections.boxes
        seen = [(clipped(box, *frame.size), None) for box in boxes]
        confirmed = assign(self._tracks, seen, frame.pts, frame.size, self.options)
        requests = []
        for track in self._tracks:
            i = confirmed.get(track)
            if i is None:
                track.doubt(frame.pts)
                requests.append(CropRequest(track.region, track))
                continue
            track.confirm(frame.pts)
            if track.unseen:
                region = self._regions.region_from_detection(detections, i)
                requests.append(CropRequest(region, track, detection=boxes[i], confirmed=boxes[i]))
            else:
                requests.append(CropRequest(track.region, track, confirmed=boxes[i]))
        unknown = [i for i in range(len(boxes)) if i not in confirmed.values()]
        room = max(0, self.options.max_persons - len(self._tracks))
        for i in unknown[:room]:
            requests.append(CropRequest(self._regions.region_from_detection(detections, i), detection=boxes[i]))
        return requests

    def _sighting(self, request: CropRequest, pose: Pose, frame: Frame, elapsed: float) -> Sighting | None:
        """What a request gave, if it can be the person that was looked for."""
        options, track = self.options, request.track
        known = track is not None and not track.doubts
        least = options.min_score * (options.confirmed_score if known else 1.0)
        if pose.presence < least or not np.isfinite(pose.points).all():
            return None
        sighting = Sighting(pose, box_of(pose.points), track)
        if request.detection is not None:
            detected = clipped(request.detection, *frame.size)
            if overlap(clipped(sighting.box, *frame.size), detected) < options.confirm_overlap:
                return None
        if track is not None:
            strayed = distance(track, sighting.box)
            jump, growth = options.max_jump
            if request.detection is None and strayed > jump + growth * elapsed:
                return None
            sighting.strain = track.strain + (1 - options.strain_memory) * (strayed - track.strain)
        return sighting

    def _find_again(self, seen: Sequence[Sighting], frame: Frame) -> None:
        """Give newcomers the tracks of people who are lost, where they may be the same."""
        present = {sighting.track for sighting in seen}
        lost = [track for track in self._tracks if track not in present]
        strangers = [sighting for sighting in seen if sighting.track is None]
        poses = [(s.box, s.pose) for s in strangers]
        for track, i in assign(lost, poses, frame.pts, frame.size, self.options).items():
            strangers[i].track = track
            track.confirm(frame.pts)

    def _start(self, sighting: Sighting, pts: int) -> Track:
        return Track(next(self._ids), sighting.pose, sighting.box, "new", BoxFilter(sighting.box), pts, pts, pts)

    def _ended(self, track: Track, frame: Frame) -> bool:
        options, pts = self.options, frame.pts
        inside = clipped(track.box, *frame.size)
        share = float(inside[2] * inside[3]) / max(float(track.box[2] * track.box[3]), 1.0)
        if share < (options.min_inside_unseen if track.unseen else options.min_inside):
            return True
        if track.unseen:
            credible = min(track.seen, track.doubted) if track.doubts else max(track.seen, track.agreed)
            return on_trial(track, options) or _seconds(pts, credible) > options.max_miss
        refuted = track.doubts >= 2 and frame.detections is not None
        patience = options.convincing_patience if self._convincing(track) else 1
        return refuted and _seconds(pts, track.agreed) > options.max_doubt * patience

    def _convincing(self, track: Track) -> bool:
        """Not background, by what the network says alone: detectors miss people who lie, crouch or stretch."""
        least = self.options.convincing_score
        scores = track.pose.points[:, 2]
        return track.pose.presence >= least and 2 * int(np.count_nonzero(scores >= least)) > len(scores)

    def _elapsed(self, frame: Frame) -> float:
        """Seconds since the last frame, at least 0."""
        return 0.0 if self._pts is None else max(frame.pts - self._pts, 0) * 1e-9


def _seconds(now: int, then: int) -> float:
    return (now - then) * 1e-9
