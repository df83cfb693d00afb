"""What a pipeline gives back: the dicts of ModelScope's pipelines, as numpy arrays, for any number of frames."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.packet import FloatArray, Packet, Person

Persons = Literal["main", "prominent", "all"]
Result = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """One person, hand or face in one frame: the arrays that the result holds under their names, and the track."""

    track: int
    arrays: dict[str, FloatArray]


Finder = Callable[[Person], Iterator[Found]]


def body_3d(person: Person) -> Iterator[Found]:
    """`keypoints` (17, 3) in metres, camera axes, pelvis at the origin, in the order of `h36m17`."""
    if person.keypoints_3d is not None and person.state != "predicted":
        pose = person.keypoints_3d
        points = pose.points
        if pose.skeleton != "h36m17":
            points = skeletons.convert(points, pose.skeleton, "h36m17", scored=False)
        yield Found(person.track, {"keypoints": points})


def body_2d(person: Person) -> Iterator[Found]:
    """`keypoints` (K, 2) in pixels, `scores` (K,), `boxes` (4,): x1, y1, x2, y2."""
    if person.keypoints_2d is not None and person.state != "predicted":
        points, box = person.keypoints_2d.points, person.box
        corners = np.concatenate([box[:2], box[:2] + box[2:]])
        yield Found(person.track, {"keypoints": points[:, :2], "scores": points[:, 2], "boxes": corners})


def hands(person: Person) -> Iterator[Found]:
    """`keypoints` (21, 3): x, y in pixels and score; `boxes` (4,) around them; the left hand first."""
    for side in ("left", "right"):
        points = person.extra.get("hands", {}).get(side)
        if points is not None:
            yield Found(person.track, {"keypoints": points, "boxes": _bounds(points)})


def lone_hand(person: Person) -> Iterator[Found]:
    """As `hands`, where the whole image is taken for one hand."""
    if person.keypoints_2d is not None and person.state != "predicted":
        points = person.keypoints_2d.points
        yield Found(person.track, {"keypoints": points, "boxes": _bounds(points)})


def faces(person: Person) -> Iterator[Found]:
    """`keypoints` (K, 2), `boxes` (4,); of `face106` `poses` (3,): pitch, roll, yaw in radians in the upright crop."""
    face = person.extra.get("face")
    if face is not None:
        points = face["points"]
        poses = {"poses": face["angles"]} if "angles" in face else {}
        yield Found(person.track, {"keypoints": points[:, :2], **poses, "boxes": _bounds(points)})


def main_tracks(packets: Sequence[Packet]) -> frozenset[int]:
    """The track that covers the most of the image over all frames in which it is seen; one for each epoch.

    No track goes on from one epoch to the next, though the person may well be the same. Empty without people.
    """
    covered: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for packet in packets:
        for person in packet.persons:
            if person.state != "predicted":
                share = float(person.box[2] * person.box[3]) / (packet.width * packet.height)
                covered[packet.epoch][person.track] += share
    return frozenset(max(tracks, key=lambda track: tracks[track]) for tracks in covered.values())


def per_frame(
    packets: Sequence[Packet],
    finder: Finder,
    shapes: dict[str, tuple[int, ...]],
    only: frozenset[int] | None = None,
) -> Result:
    """Under each name a list of T arrays (N of that frame, ...), and `tracks`, T arrays (N,) of ids.

    Everybody, or `only` some tracks.
    """
    result: Result = {name: [] for name in (*shapes, "tracks")}
    for packet in packets:
        people = [person for person in packet.persons if only is None or person.track in only]
        found = [each for person in people for each in finder(person)]
        for name, shape in shapes.items():
            empty = np.empty((0, *shape), np.float32)
            result[name].append(np.stack([each.arrays[name] for each in found]) if found else empty)
        result["tracks"].append(np.array([each.track for each in found], np.int64))
    return result


def of_tracks(
    packets: Sequence[Packet], finder: Finder, shapes: dict[str, tuple[int, ...]], tracks: frozenset[int]
) -> Result:
    """One person, by the track of each epoch: under each name an array (T, ...).

    NaN for the frames in which this person is not seen.
    """
    result: Result = {name: np.full((len(packets), *shape), np.nan, np.float32) for name, shape in shapes.items()}
    for row, packet in enumerate(packets):
        for person in packet.persons:
            if person.track in tracks:
                for found in finder(person):
                    for name in shapes:
                        result[name][row] = found.arrays[name]
    return result


def prominent(packets: Sequence[Packet]) -> tuple[list[Packet], NDArray[np.int64]]:
    """Packets with nobody in them but the most prominent person, and the track (T,) of each; -1 where nobody is seen.

    Of those who are seen in a frame, that is who covers the most of the image over all frames: the main person
    wherever that person is seen, and the next one elsewhere, so that the choice does not flicker.
    """
    covered: defaultdict[int, float] = defaultdict(float)
    for packet in packets:
        for person in packet.persons:
            if person.state != "predicted":
                covered[person.track] += float(person.box[2] * person.box[3]) / (packet.width * packet.height)
    chosen, tracks = [], np.full(len(packets), -1, np.int64)
    for row, packet in enumerate(packets):
        seen = [person for person in packet.persons if person.state != "predicted"]
        one = copy.copy(packet)
        one.persons = sorted(seen, key=lambda person: -covered[person.track])[:1]
        chosen.append(one)
        if one.persons:
            tracks[row] = one.persons[0].track
    return chosen, tracks


def of_rows(packets: Sequence[Packet], finder: Finder, shapes: dict[str, tuple[int, ...]]) -> Result:
    """Under each name an array (T, ...) of the one person in each packet, NaN where there is none."""
    result: Result = {name: np.full((len(packets), *shape), np.nan, np.float32) for name, shape in shapes.items()}
    for row, packet in enumerate(packets):
        for found in (found for person in packet.persons for found in finder(person)):
            for name in shapes:
                result[name][row] = found.arrays[name]
    return result


def valid(keypoints: FloatArray) -> NDArray[np.bool_]:
    """Which of the poses (T, K, C) are there: bool (T,)."""
    return np.asarray(np.isfinite(keypoints).all(axis=(1, 2)), np.bool_)


def seconds(packets: Sequence[Packet]) -> NDArray[np.int64]:
    """Nanoseconds (T,) since the first frame, always growing; where the source's clock falls back, one frame's time."""
    times, step = [0], round(1e9 / 30)
    for before, packet in pairwise(packets):
        if packet.pts > before.pts:
            times.append(times[-1] + packet.pts - before.pts)
            step = times[-1] - times[-2] if packet.epoch == before.epoch else step
        else:
            times.append(times[-1] + step)
    return np.array(times[: len(packets)], np.int64)


def timestamps(nanoseconds: NDArray[np.int64]) -> list[str]:
    """Times as ModelScope writes them: hh:mm:ss.mmm."""
    out = []
    for time in nanoseconds.tolist():
        milliseconds = round(time / 1e6)
        minutes, rest = divmod(milliseconds, 60_000)
        out.append(f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}")
    return out


def _bounds(points: FloatArray) -> FloatArray:
    corners: FloatArray = np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])
    return corners
