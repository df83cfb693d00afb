"""Networks that give a pose for every frame of a window: live, every `stride` rows, and over whole sequences.

Such a network strides in time internally, so that nothing of one window can be kept for the next. In the row in which
it runs it gives the poses of the last `stride` rows; one of them is returned then, the others in the rows that follow,
so that every row's pose comes once and in order. A pose therefore comes `stride` - 1 rows later than it would with a
run in every row, and from a window that knows up to `stride` - 1 rows more of what came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.models.lift.base import Clip, Lifted, LifterOptions, Memory, WindowNetwork, checked_lookahead
from streamkp.motion.camera import Intrinsics
from streamkp.motion.sliding_window import Span, cut, join, plan_spans

Floats = NDArray[np.floating[Any]]

# On a CPU long windows are read in every second row: one of 96 poses costs some 15 ms of a core, one of 16 with its
# mirror image 8, and a row lasts 33 ms or less.
FRAMES_PER_STRIDE = 48
BATCH = 16  # windows of a sequence in one call of the network


@dataclass(slots=True)
class _Track:
    row: int  # number of the newest row when the network last ran
    poses: Floats  # (stride, 17, 3), of which the first was returned when the network ran
    roots: Floats | None  # (stride, 3)
    due: int  # rows after which it runs again


class StridedWindows:
    """A `LiveNetwork` around a network of this kind.

    The tracks' turns are spread over the rows, so that the cost of many tracks is about the same in each. A window
    that has not moved on (a camera faster than the grid, a person who is only predicted) costs nothing.
    """

    restarts = False

    def __init__(self, network: WindowNetwork, *, lookahead: int, stride: int, memory: Memory | None) -> None:
        """`memory` keeps the poses of each track; without it every window is read, and `stride` must be 1."""
        self.frames = network.frames
        self.rate = network.rate
        self.lookahead = lookahead + stride - 1
        self._network, self._stride, self._memory = network, stride, memory
        self._opened = count()

    def poses(self, clips: Sequence[Clip]) -> Lifted:
        """See `LiveNetwork`."""
        if self._memory is None:
            poses, roots = self._run(clips, 1)
            return Lifted(poses[:, 0], None if roots is None else roots[:, 0])
        known: list[Any] = [self._memory.pop(clip.track, None) for clip in clips]  # put back when all went well
        passed = [k and clip.window.rows_after(k.row) for clip, k in zip(clips, known, strict=True)]
        turn = [i for i, rows in enumerate(passed) if rows is None or rows >= known[i].due]
        if turn:
            poses, roots = self._run([clips[i] for i in turn], self._stride)
            for n, i in enumerate(turn):
                due = self._stride if passed[i] is not None else 1 + next(self._opened) % self._stride
                root = None if roots is None else roots[n]
                known[i], passed[i] = _Track(clips[i].window.row, poses[n], root, due), 0
        self._memory.update(zip((clip.track for clip in clips), known, strict=True))
        at = list(zip(known, passed, strict=True))
        return Lifted(
            np.stack([track.poses[rows] for track, rows in at]),
            None if known[0].roots is None else np.stack([track.roots[rows] for track, rows in at]),
        )

    def _run(self, clips: Sequence[Clip], rows: int) -> tuple[Floats, Floats | None]:
        start = self.frames - 1 - self.lookahead
        windows = np.stack([clip.newest(self.frames) for clip in clips])
        return self._network.rows(windows, [clip.camera for clip in clips], start, start + rows)


def lookahead_and_stride(
    name: str, frames: int, options: LifterOptions, *, memory: bool, cuda: bool
) -> tuple[int, int]:
    """What `options` mean for a network of `frames` frames. Raises `UsageError` for what it cannot do."""
    if options.incremental:
        raise UsageError(f"{name} strides in time and needs whole windows: leave incremental out")
    measured = 1 if cuda else max(1, frames // FRAMES_PER_STRIDE)
    stride = (options.stride or measured) if memory else 1
    return checked_lookahead(name, options.lookahead, frames // 2, frames - stride), stride


class SequenceOfWindows:
    """A `SequenceNetwork` around a network of this kind.

    With `step`, a window begins every `step` frames, and a frame's pose is the mean of what the windows around it give,
    weighted by how far it is from their ends. Without, windows lie side by side, as HDFormer's authors measure it.
    """

    def __init__(self, network: WindowNetwork, step: int | None = None) -> None:
        self.rate = network.rate
        self.windows: WindowNetwork | None = network
        self._network, self._step = network, step

    def poses(self, points: Floats, size: tuple[int, int], camera: Intrinsics) -> Floats:
        """See `SequenceNetwork`."""
        if self._step is None:
            return side_by_side(self._network, points, camera)
        return blended(self._network, points, camera, self._step)


def side_by_side(network: WindowNetwork, points: Floats, camera: Intrinsics) -> Floats:
    """Poses (T, 17, 3) of a sequence (T, 17, 3): pixels, scores; the last window ends with the last frame."""
    length = network.frames
    spans = plan_spans(len(points), length, length)
    return join(_poses(network, cut(points, spans, length), camera), spans)


def blended(network: WindowNetwork, points: Floats, camera: Intrinsics, step: int) -> Floats:
    """Poses (T, 17, 3) of a sequence (T, 17, 3) from overlapping windows; see `SequenceOfWindows`."""
    length = network.frames
    last = max(len(points) - length, 0)
    spans = [Span(start, 0, length) for start in (*range(0, last, step), last)]
    weights = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None, None]
    poses, total = np.zeros((last + length, 17, 3)), np.zeros((last + length, 1, 1))
    for span, window in zip(spans, _poses(network, cut(points, spans, length), camera), strict=True):
        poses[span.start : span.start + length] += weights * window
        total[span.start : span.start + length] += weights
    return (poses / total)[: len(points)]


def _poses(network: WindowNetwork, windows: Floats, camera: Intrinsics) -> Floats:
    """(N, length, 17, 3) -> the same shape."""
    batches = [windows[i : i + BATCH].astype(np.float64) for i in range(0, len(windows), BATCH)]
    return np.concatenate([network.rows(batch, [camera] * len(batch), 0, network.frames)[0] for batch in batches])
