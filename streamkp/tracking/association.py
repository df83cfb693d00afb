"""Which of the people seen in a frame is which of those followed.

Boxes are (4,): x, y, w, h in source pixels; sizes and distances are relative to the size of a person, see
`TrackerOptions`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from streamkp.packet import FloatArray
from streamkp.poses import Pose
from streamkp.tracking.similarity import clipped, keypoint_similarity, overlap
from streamkp.tracking.track import Track, TrackerOptions


@dataclass(slots=True, eq=False)
class Sighting:
    """A pose that the network gave; `track` is the person whom it was looking for, None for somebody new."""

    pose: Pose
    box: FloatArray
    track: Track | None
    strain: float = 0.0  # of the track, were this its pose


def assign(
    tracks: Sequence[Track],
    seen: Sequence[tuple[FloatArray, Pose | None]],
    pts: int,
    size: tuple[int, int],
    options: TrackerOptions,
) -> dict[Track, int]:
    """The index in `seen` (boxes, and poses where known) of each track that is there.

    The tracks are predicted to `pts` (ns); `size` is (width, height) of the image in pixels.
    """
    if not tracks or not seen:
        return {}
    similarities = np.array([[similarity(track, *other, pts, size, options) for other in seen] for track in tracks])
    rows, columns = linear_sum_assignment(similarities, maximize=True)
    return {tracks[r]: int(c) for r, c in zip(rows, columns, strict=True) if similarities[r, c] > 0}


def similarity(
    track: Track, box: FloatArray, pose: Pose | None, pts: int, size: tuple[int, int], options: TrackerOptions
) -> float:
    """0..1 how well somebody agrees with a track; 0 if they cannot be the same person."""
    shared = overlap(clipped(track.motion.box, *size), box)
    near, growth = options.reach
    reach = near + growth * (pts - track.seen) * 1e-9
    if pose is None:
        away = distance(track, box)
    else:
        moved = pose.points[:, :2] - (track.last.points[:, :2] + track.moved)
        away = float(np.hypot(*moved.T).mean()) / track.motion.size
    close = math.exp(-((away / reach) ** 2) / 2)
    if track.unseen or pose is not None:
        scale = max(box[2], box[3]) / track.motion.size
        possible = close >= options.min_closeness and 1 / options.max_resize <= scale <= options.max_resize
    else:
        possible = shared >= options.confirm_overlap
    return (shared + close) / 2 if possible else 0.0


def distance(track: Track, box: FloatArray) -> float:
    """Distance of a box from where a track is predicted to be, in sizes of the person."""
    away = box[:2] + box[2:] / 2 - track.motion.centre
    return math.hypot(*away) / track.motion.size


def same_person(a: Sighting, b: Sighting, options: TrackerOptions) -> bool:
    """Whether two poses are of one person."""
    if overlap(a.box, b.box) < options.confirm_overlap:  # saves comparing joints
        return False
    return keypoint_similarity(a.pose.points, b.pose.points, float(b.box[2] * b.box[3])) >= options.same_person


def one_per_person(sightings: Sequence[Sighting], options: TrackerOptions) -> tuple[list[Sighting], list[Track]]:
    """One sighting per person, the established track's that strayed least.

    Also the tracks whose pose somebody new turned out to be: a detection led to them.
    """
    kept: list[Sighting] = []
    confirmed: list[Track] = []
    for sighting in sorted(sightings, key=lambda s: _doubtfulness(s, options)):
        same = next((other for other in kept if same_person(other, sighting, options)), None)
        if same is None:
            kept.append(sighting)
        elif sighting.track is None and same.track is not None:
            confirmed.append(same.track)
    return kept, confirmed


def on_trial(track: Track, options: TrackerOptions) -> bool:
    """Whether a track is so young that its first failure ends it."""
    return (track.seen - track.born) * 1e-9 < options.trial


def _doubtfulness(sighting: Sighting, options: TrackerOptions) -> float:
    track = sighting.track
    if track is None:
        return 3.0
    return sighting.strain + 2.0 * on_trial(track, options) + 0.1 * (track.doubts > 0)
