"""3D poses of whole tracks by the lifters that read windows: each pose from the middle of its window.

The poses of a track are put on the lifter's own time grid, lifted row by row with as many later rows as earlier ones,
and brought back to the times of the frames. At both ends of a track its first and last pose stand for what is missing,
so that a track may be as short as one frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.models.lift.lifters import Lifter, open_lifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints3D, Packet, Person, PoseWindow

Floats = NDArray[np.floating[Any]]

STREAM = "clip"
BATCH = 16  # windows in one call of the network
MAX_GAP = 1_000_000_000  # ns; poses on either side of a longer gap have nothing to do with each other


class TrackLifter:
    """A lifter opened for whole tracks. The options are those of `open_lifter`."""

    def __init__(self, model: str, *, camera: Intrinsics | None, **options: Any) -> None:
        cameras: Mapping[str, Intrinsics] = {} if camera is None else {STREAM: camera}
        self._lifter: Lifter = open_lifter(model, lookahead=None, cameras=cameras, **options)
        self._after = self._lifter.lookahead
        self._before = self._lifter.frames - 1 - self._after
        self.skeleton = self._lifter.skeleton_3d

    def lift(self, packets: Sequence[Packet], times: NDArray[np.int64]) -> None:
        """Set `keypoints_3d` of every person who is seen; `times` (T,) in ns, one for each packet, grow.

        Raises:
            ModelError: the network gave NaN.
            UsageError: the lifter cannot read poses of this skeleton.
        """
        for segment in _segments(packets, times):
            self._lift(segment)

    def close(self) -> None:
        """Let go of the network."""
        self._lifter.close()

    def _lift(self, segment: _Segment) -> None:
        rows, grid = segment.on_grid(self._lifter.rate)
        skeleton = self._lifter.skeleton or segment.skeleton
        if segment.skeleton != skeleton:
            rows = skeletons.convert(rows, segment.skeleton, skeleton)
        padded = np.pad(rows, ((self._before, self._after), (0, 0), (0, 0)), mode="edge").astype(np.float32)
        lifted = [
            pose.points
            for start in range(0, len(rows), BATCH)
            for pose in self._batch(segment, skeleton, padded, range(start, min(start + BATCH, len(rows))))
        ]
        poses = _resample(np.stack(lifted), grid, segment.times)
        for person, seq, pose in zip(segment.persons, segment.seqs, poses, strict=True):
            person.keypoints_3d = Keypoints3D(self.skeleton, pose.astype(np.float32), seq)

    def _batch(self, segment: _Segment, skeleton: str, padded: Floats, rows: range) -> Iterator[Keypoints3D]:
        length = self._lifter.frames
        no_times = np.zeros(length, np.int64)
        width, height = segment.size
        packet = Packet(STREAM, 0, 0, 0, 0, None, width, height)
        people = []
        for row in rows:
            window = PoseWindow(skeleton, padded[row : row + length], no_times, no_times, length, width, height)
            people.append((packet, Person(1, "tracked", segment.persons[0].box, 1.0, window=window)))
        for pose in self._lifter.lift(people):
            assert pose is not None
            yield pose


@dataclass
class _Segment:
    """A track without long gaps: the persons that were seen, when, and in which frame; times in ns, growing."""

    skeleton: str
    size: tuple[int, int]
    persons: list[Person]
    times: list[int]
    seqs: list[int]

    def on_grid(self, rate: float | None) -> tuple[Floats, NDArray[np.float64]]:
        """Poses [rows, K, 3] at `rate` Hz from the first to the last one, or as they are; and the rows' times."""
        points = np.stack([p.keypoints_2d.points for p in self.persons if p.keypoints_2d is not None])
        times = np.asarray(self.times, np.float64)
        if rate is None:
            return points, times
        step = 1e9 / rate
        grid = times[0] + step * np.arange(int(np.ceil((times[-1] - times[0]) / step)) + 1)
        return _resample(points, times, grid), grid


def _segments(packets: Sequence[Packet], times: NDArray[np.int64]) -> Iterator[_Segment]:
    current: dict[int, _Segment] = {}
    for packet, now in zip(packets, times.tolist(), strict=True):
        for person in packet.persons:
            if person.keypoints_2d is None or person.state == "predicted":
                continue
            segment = current.get(person.track)
            if segment is not None and now - segment.times[-1] > MAX_GAP:
                yield segment
                segment = None
            if segment is None:
                size = (packet.width, packet.height)
                segment = current[person.track] = _Segment(person.keypoints_2d.skeleton, size, [], [], [])
            segment.persons.append(person)
            segment.times.append(now)
            segment.seqs.append(packet.seq)
    yield from current.values()


def _resample(values: Floats, times: Floats, wanted: Sequence[int] | Floats) -> Floats:
    """Rows of `values` [T, ...] at `times`, linearly interpolated at the `wanted` times; the ends go on."""
    at = np.clip(np.asarray(wanted, np.float64), times[0], times[-1])
    right = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0)
    left = right - 1
    share = (at - times[left]) / (times[right] - times[left])
    out: Floats = values[left] + share.reshape(-1, *[1] * (values.ndim - 1)) * (values[right] - values[left])
    return out
