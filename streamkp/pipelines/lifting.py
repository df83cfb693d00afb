"""3D poses of whole tracks, by the lifter for whole sequences (`streamkp.models.lift.sequence`).

The poses of a track are put on the lifter's own time grid, lifted with all frames at hand, and brought back to the
times of the frames. A track may be as short as one frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.models.lift.base import LifterOptions
from streamkp.models.lift.sequence import open_sequence_lifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints3D, Packet, Person

Floats = NDArray[np.floating[Any]]

SKELETON = "h36m17"
MAX_GAP = 1_000_000_000  # ns; poses on either side of a longer gap have nothing to do with each other


class TrackLifter:
    """A lifter opened for whole tracks. `camera` are the intrinsics of every image; None as `Intrinsics.assumed`."""

    def __init__(self, model: str, options: LifterOptions, camera: Intrinsics | None = None) -> None:
        """Raises as `open_sequence_lifter`."""
        self._lifter = open_sequence_lifter(model, options)
        self._camera = camera

    def lift(self, packets: Sequence[Packet], times: NDArray[np.int64]) -> None:
        """Set `keypoints_3d` of every person who is seen; `times` (T,) in ns, one for each packet, increase.

        Raises:
            ModelError: the network gave NaN.
            UsageError: the lifter cannot read poses of this skeleton.
        """
        for segment in _segments(packets, times):
            self._lift(segment)

    def _lift(self, segment: _Segment) -> None:
        rows, grid = segment.on_grid(self._lifter.rate)
        if segment.skeleton != self._lifter.skeleton:
            try:
                rows = skeletons.convert(rows, segment.skeleton, self._lifter.skeleton)
            except UsageError as error:
                raise UsageError(f"{self._lifter.name} reads {self._lifter.skeleton} poses: {error}") from None
        camera = self._camera or Intrinsics.assumed(*segment.size)
        poses = _resample(self._lifter(rows.astype(np.float32), segment.size, camera), grid, segment.times)
        for person, seq, pose in zip(segment.persons, segment.seqs, poses, strict=True):
            person.keypoints_3d = Keypoints3D(SKELETON, pose.astype(np.float32), seq)


@dataclass
class _Segment:
    """A track without long gaps: the persons that were seen, when, and in which frame; times in ns, increasing."""

    skeleton: str
    size: tuple[int, int]
    persons: list[Person]
    times: list[int]
    seqs: list[int]

    def on_grid(self, rate: float) -> tuple[Floats, NDArray[np.float64]]:
        """Poses (rows, K, 3) at `rate` Hz from the first to the last one, and the rows' times."""
        points = np.stack([p.keypoints_2d.points for p in self.persons if p.keypoints_2d is not None])
        times = np.asarray(self.times, np.float64)
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
    """Rows of `values` (T, ...) at `times`, linearly interpolated at the `wanted` times; the ends go on."""
    at = np.clip(np.asarray(wanted, np.float64), times[0], times[-1])
    right = np.clip(np.searchsorted(times, at), 1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0)
    left = right - 1
    share = (at - times[left]) / (times[right] - times[left])
    out: Floats = values[left] + share.reshape(-1, *[1] * (values.ndim - 1)) * (values[right] - values[left])
    return out
