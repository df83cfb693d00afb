"""Who is who from frame to frame: the tracks of one stream.

In the manner of SORT (Bewley et al. 2016): a Kalman filter per person, and an assignment of what is seen to whom it
is predicted to be. What is seen are boxes of a detector, every now and then, and the poses that a 2D pose network
finds in the regions where people were last, every frame. The caller looks at the regions between `begin` and
`finish`:

    looks = tracker.begin(pts, boxes, width, height)
    people = tracker.finish([pose_in(look) for look in looks])

The network sees people everywhere, so its word is not enough. A track must keep agreeing with the detector, must not
jump, and of two tracks on one person the one that strayed from its own path is taken to be hidden by the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from streamkp.packet import FloatArray, TrackState
from streamkp.poses import Pose, Region
from streamkp.tracking.box_filter import BoxFilter
from streamkp.tracking.similarity import box_of, clipped, keypoint_similarity, overlap

_SAME_PERSON = 0.5  # keypoint similarity from which two poses are one person
_AGREES = 0.2  # overlap of a detection with the track it confirms
_CLOSE_ENOUGH = 0.1  # least closeness of a person found again
_RESIZED = 2.5  # and how many times larger or smaller they may be
_NEAR = 0.25  # distance in sizes at which closeness is exp(-1/2) for a person just seen
_NEAR_GROWTH = 0.5  # and its growth per second unseen
_JUMP = 0.35  # sizes that a pose may be away from its prediction
_JUMP_GROWTH = 3.0  # and its growth per second since the last frame
_INSIDE = 0.1  # share of the box in the image below which a person has left
_INSIDE_UNSEEN = 0.4  # the same for a person whom nothing shows any more
_YOUNG = 0.3  # seconds: a track that fails this early was a mistake
_STRAIN_MEMORY = 0.7  # per frame
_ASK = 0.1  # seconds between detections for somebody who is lost
_CONVINCING = 0.9  # presence and median joint score that no background was seen to reach
_CONVINCED = 5.0  # how many times longer such a person may go unconfirmed
_KNOWN = 0.5  # least presence of a confirmed person against that of a stranger
_FAINT = 0.3  # score of a predicted person against that of the last pose


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """Times in seconds of the source's clock."""

    max_persons: int = 16
    min_score: float = 0.5  # least presence of a pose
    max_miss: float = 1.0  # a person unseen for longer is gone
    max_doubt: float = 0.6  # a person whom the detector does not confirm for longer, looking twice, was a ghost


@dataclass(slots=True, eq=False)
class Track:
    """One person. `box` (4,) and `pose` are those of this frame, in source pixels; predicted ones when unseen."""

    id: int
    pose: Pose
    box: FloatArray
    state: TrackState
    motion: BoxFilter
    born: int  # pts of the first frame
    seen: int  # pts of the last frame with a pose
    agreed: int  # pts of the last frame in which the detector found this person
    doubts: int = 0  # detections since then that did not
    doubted: int = 0  # pts of the first of them
    strain: float = 0.0  # recent distance between pose and prediction, in sizes
    last: Pose = field(init=False)  # the last one seen, and where the filter saw its centre
    last_centre: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.last = self.pose
        self.last_centre = self.motion.centre

    @property
    def unseen(self) -> bool:
        return self.state == "predicted"

    @property
    def convincing(self) -> bool:
        """Not a ghost, by what the network says alone: detectors miss people who lie, crouch or stretch."""
        pose = self.pose
        return pose.presence >= _CONVINCING and float(np.median(pose.points[:, 2])) >= _CONVINCING


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A region to look at: where `track` should be now, or at `detection` (an index), which may be `track` again.

    With neither, nobody is known and no detector helps: look at the whole image.
    """

    track: Track | None
    detection: int | None = None


@dataclass(slots=True, eq=False)
class _Sighting:
    pose: Pose
    box: FloatArray
    track: Track | None
    strain: float = 0.0  # of the track, were this its pose


class Tracker:
    """The tracks of one stream and epoch. `ids` gives the numbers of new tracks."""

    def __init__(self, ids: Iterator[int], options: TrackerOptions) -> None:
        self._ids = ids
        self._options = options
        self._tracks: list[Track] = []
        self._looks: list[Look] = []
        self._boxes: FloatArray | None = None
        self._found: dict[Track, FloatArray] = {}  # the detector's boxes of those it confirmed in this frame
        self._pts: int | None = None
        self._dt = 0.0
        self._detected: int | None = None  # pts of the last frame that the detector looked at
        self.live: frozenset[int] = frozenset()  # ids, the same object while nobody comes or goes

    @property
    def wants_detection(self) -> bool:
        """Somebody is lost or in doubt, and the detector has not looked for a while (see `_ASK`)."""
        if self._pts is None or not self._tracks:
            return False
        overdue = self._options.max_doubt / 2
        waited = math.inf if self._detected is None else self._since(self._detected)
        if any(t.unseen or (t.doubts and not t.convincing) for t in self._tracks):
            return waited >= _ASK
        return waited >= overdue and any(t.doubts or self._since(t.agreed) >= overdue for t in self._tracks)

    def begin(
        self, pts: int, boxes: FloatArray | None, width: int, height: int, *, detector: bool = True
    ) -> list[Look]:
        """Predict everybody to `pts` (ns), and say where to look.

        `boxes` are the detector's, (N, 4) best first, None where it did not look; `detector` is False where there is
        none at all. Width and height are those of the image in pixels.
        """
        self._dt = 0.0 if self._pts is None else max(pts - self._pts, 0) * 1e-9
        self._pts, self._frame, self._boxes, self._found = pts, (width, height), boxes, {}
        for track in self._tracks:
            track.motion.predict(self._dt)
        if boxes is None:
            self._looks = [Look(track) for track in self._tracks]
            if not detector and all(t.unseen for t in self._tracks):
                self._looks.append(Look(None))
            return self._looks
        self._detected = pts
        confirmed = self._assign(self._tracks, [(clipped(box, width, height), None) for box in boxes])
        self._found = {track: boxes[i] for track, i in confirmed.items()}
        for track in self._tracks:
            if track in confirmed:
                self._agree(track)
            else:
                track.doubted = track.doubted if track.doubts else pts
                track.doubts += 1
        self._looks = [Look(t, confirmed.get(t) if t.unseen else None) for t in self._tracks]
        unknown = [i for i in range(len(boxes)) if i not in confirmed.values()]
        room = max(0, self._options.max_persons - len(self._tracks))
        self._looks += [Look(None, i) for i in unknown[:room]]
        return self._looks

    def region(self, track: Track) -> Region:
        """Where to look for a track: the region that its last pose gave, moved on if it has not been seen since."""
        region = track.last.next_region.copy()
        if track.unseen:
            region[:2] += track.motion.centre - track.last_centre
        return region

    def finish(self, poses: Sequence[Pose | None]) -> list[Track]:
        """Take in what was seen at each look, in order; None where there was nothing. Returns the people, by id."""
        sightings = [
            sighting
            for look, pose in zip(self._looks, poses, strict=True)
            if pose is not None and (sighting := self._sighting(look, pose)) is not None
        ]
        seen = self._unique(sightings)
        lost = [t for t in self._tracks if t not in {s.track for s in seen}]
        strangers = [s for s in seen if s.track is None]
        for track, i in self._assign(lost, [(s.box, s.pose) for s in strangers]).items():
            strangers[i].track = track
            self._agree(track)
            lost.remove(track)
        for track in lost:
            self._miss(track)
        for sighting in seen:
            if sighting.track is None:
                self._tracks.append(self._start(sighting))
            else:
                self._see(sighting.track, sighting)
        self._tracks = [t for t in self._tracks if not self._ended(t)]
        ids = frozenset(t.id for t in self._tracks)
        if ids != self.live:
            self.live = ids
        return list(self._tracks)

    def _sighting(self, look: Look, pose: Pose) -> _Sighting | None:
        """What a look gave, if it can be the person that was looked for."""
        known = look.track is not None and not look.track.doubts
        least = self._options.min_score * (_KNOWN if known else 1.0)
        if pose.presence < least or not np.isfinite(pose.points).all():
            return None
        sighting = _Sighting(pose, box_of(pose.points), look.track)
        if look.detection is not None and self._boxes is not None:
            detected = clipped(self._boxes[look.detection], *self._frame)
            if overlap(clipped(sighting.box, *self._frame), detected) < _AGREES:
                return None
        if look.track is not None:
            strayed = _distance(look.track, sighting.box)
            if look.detection is None and strayed > _JUMP + _JUMP_GROWTH * self._dt:
                return None
            sighting.strain = look.track.strain + (1 - _STRAIN_MEMORY) * (strayed - look.track.strain)
        return sighting

    def _unique(self, sightings: list[_Sighting]) -> list[_Sighting]:
        """One sighting per person: the established track's that strayed least."""
        kept: list[_Sighting] = []
        for sighting in sorted(sightings, key=self._doubtfulness):
            same = [k for k in kept if _same_person(k, sighting)]
            if not same:
                kept.append(sighting)
            elif sighting.track is None and same[0].track is not None:
                self._agree(same[0].track)  # a detection led to the pose of this track
        return kept

    def _doubtfulness(self, sighting: _Sighting) -> float:
        track = sighting.track
        if track is None:
            return 3.0
        return sighting.strain + 2.0 * self._young(track) + 0.1 * (track.doubts > 0)

    def _assign(self, tracks: Sequence[Track], seen: Sequence[tuple[FloatArray, Pose | None]]) -> dict[Track, int]:
        """The index in `seen` (boxes, and poses where known) of each track that is there."""
        if not tracks or not seen:
            return {}
        likeness = np.array([[self._likeness(track, *other) for other in seen] for track in tracks])
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        return {tracks[r]: int(c) for r, c in zip(rows, columns, strict=True) if likeness[r, c] > 0}

    def _likeness(self, track: Track, box: FloatArray, pose: Pose | None) -> float:
        """0..1 how well somebody agrees with a track; 0 if they cannot be the same person."""
        predicted = track.motion.box
        shared = overlap(clipped(predicted, *self._frame), box)
        reach = _NEAR + _NEAR_GROWTH * self._since(track.seen)
        if pose is None:
            distance = _distance(track, box)
        else:
            moved = pose.points[:, :2] - (track.last.points[:, :2] + track.motion.centre - track.last_centre)
            distance = float(np.hypot(*moved.T).mean()) / track.motion.size
        close = math.exp(-((distance / reach) ** 2) / 2)
        if track.unseen or pose is not None:
            scale = max(box[2], box[3]) / track.motion.size
            possible = close >= _CLOSE_ENOUGH and 1 / _RESIZED <= scale <= _RESIZED
        else:
            possible = shared >= _AGREES
        return (shared + close) / 2 if possible else 0.0

    def _start(self, sighting: _Sighting) -> Track:
        assert self._pts is not None
        motion = BoxFilter(sighting.box)
        return Track(next(self._ids), sighting.pose, sighting.box, "new", motion, self._pts, self._pts, self._pts)

    def _see(self, track: Track, sighting: _Sighting) -> None:
        assert self._pts is not None
        track.motion.update(sighting.box)
        track.pose = track.last = sighting.pose
        track.last_centre = track.motion.centre
        track.box, track.strain, track.seen, track.state = sighting.box, sighting.strain, self._pts, "tracked"

    def _miss(self, track: Track) -> None:
        track.state = "predicted"
        track.strain = 1.0  # who is found again has to prove themselves against those who never were away
        if track in self._found:  # hidden in part: the detector knows the place, the network not the pose
            track.motion.update(self._found[track])
        track.box = track.motion.box
        left = max(0.0, 1 - self._since(track.seen) / self._options.max_miss)
        points = track.last.points.copy()
        points[:, :2] += track.motion.centre - track.last_centre
        points[:, 2] *= _FAINT * left
        track.pose = Pose(points, track.last.presence * _FAINT * left, self.region(track))

    def _agree(self, track: Track) -> None:
        assert self._pts is not None
        track.agreed, track.doubts = self._pts, 0

    def _ended(self, track: Track) -> bool:
        options = self._options
        inside = clipped(track.box, *self._frame)
        share = float(inside[2] * inside[3]) / max(float(track.box[2] * track.box[3]), 1.0)
        if share < (_INSIDE_UNSEEN if track.unseen else _INSIDE):
            return True
        if track.unseen:
            credible = min(track.seen, track.doubted) if track.doubts else max(track.seen, track.agreed)
            return self._young(track) or self._since(credible) > options.max_miss
        refuted = track.doubts >= 2 and self._pts == self._detected
        return refuted and self._since(track.agreed) > options.max_doubt * (_CONVINCED if track.convincing else 1)

    def _young(self, track: Track) -> bool:
        return (track.seen - track.born) * 1e-9 < _YOUNG

    def _since(self, pts: int) -> float:
        assert self._pts is not None
        return (self._pts - pts) * 1e-9


def _same_person(a: _Sighting, b: _Sighting) -> bool:
    if overlap(a.box, b.box) < _AGREES:  # saves comparing joints
        return False
    return keypoint_similarity(a.pose.points, b.pose.points, float(b.box[2] * b.box[3])) >= _SAME_PERSON


def _distance(track: Track, box: FloatArray) -> float:
    """Distance of a box from where a track is predicted to be, in sizes of the person."""
    away = box[:2] + box[2:] / 2 - track.motion.centre
    return math.hypot(*away) / track.motion.size
