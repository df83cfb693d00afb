"""Networks that give a pose for every frame of a window, run now and then: every `hop` rows of a track's time grid.

Such a network strides in time, so that nothing of one window can be kept for the next. In the row in which it runs it
gives the poses of the last `hop` rows; one of them is handed out then, and the others in the rows that follow, so that
every row's pose comes once and in order. A pose therefore comes `hop` - 1 rows later than it would with a run in
every row, and from a window that knows up to `hop` - 1 rows more of what came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.models.lift.lifter_choices import Choices, Memory
from streamkp.models.lift.window_lifters import Clip, checked_lookahead

Floats = NDArray[np.floating[Any]]

# On a CPU long windows are read in every second row: one of 96 poses costs some 15 ms of a core, one of 16 with its
# mirror image 8, and a row lasts 33 ms or less.
FRAMES_PER_HOP = 48


class WindowNetwork(Protocol):
    """A network from `frames` poses to as many, at `rate` Hz."""

    frames: int
    rate: float

    def rows(self, clips: Sequence[Clip], start: int, stop: int) -> tuple[Floats, Floats | None]:
        """Poses of the window's rows `start` to `stop`, [B, n, 17, 3], and where joint 0 is, [B, n, 3], if asked for.

        Metres, camera axes. A place that the joints do not tell is NaN.
        """


@dataclass(slots=True)
class _Track:
    pts: int  # of the newest row when the network last ran
    newest: Floats  # and the pose [17, 2] of that row
    poses: Floats  # [hop, 17, 3], of which the first was handed out when the network ran
    roots: Floats | None  # [hop, 3]
    due: int  # rows after which it runs again


class WholeWindows:
    """A `Method` (see `streamkp.models.lift.window_lifters`) around a network of this kind.

    The tracks' turns are spread over the rows, so that the cost of many tracks is about the same in each. A window
    that has not moved on since (a camera faster than the grid, a person who is only predicted) costs nothing.
    """

    def __init__(self, network: WindowNetwork, *, lookahead: int, hop: int, memory: Memory | None) -> None:
        """Without `memory` every window is read by itself, and `hop` must be 1."""
        self.frames = network.frames
        self.rate = network.rate
        self.lookahead = lookahead + hop - 1
        self._network, self._hop, self._memory = network, hop, memory

    def poses(self, clips: Sequence[Clip]) -> tuple[Floats, Floats | None]:
        """See `Method`; with memory each track at most once."""
        start = self.frames - 1 - self.lookahead
        if self._memory is None:
            poses, roots = self._network.rows(clips, start, start + 1)
            return poses[:, 0], None if roots is None else roots[:, 0]
        known = [self._memory.pop(clip.track, None) for clip in clips]  # they come back when all went well
        passed = [None if k is None else clip.rows_after(k.pts, k.newest) for clip, k in zip(clips, known, strict=True)]
        turn = [i for i, rows in enumerate(passed) if rows is None or rows >= known[i].due]
        if turn:
            poses, roots = self._network.rows([clips[i] for i in turn], start, start + self._hop)
            for n, i in enumerate(turn):
                due = self._hop if passed[i] is not None else 1 + clips[i].track[1] % self._hop
                root = None if roots is None else roots[n]
                newest = clips[i].points[-1].copy()  # a view would keep the whole window
                known[i], passed[i] = _Track(int(clips[i].pts[-1]), newest, poses[n], root, due), 0
        self._memory.update(zip((clip.track for clip in clips), known, strict=True))
        at = list(zip(known, passed, strict=True))
        return (
            np.stack([track.poses[rows] for track, rows in at]),
            None if known[0].roots is None else np.stack([track.roots[rows] for track, rows in at]),
        )


def plan(name: str, frames: int, choices: Choices) -> tuple[int, int]:
    """Lookahead and hop for a network of `frames` frames. `UsageError` for what it cannot do."""
    if choices.incremental:
        raise UsageError(f"{name} strides in time and needs whole windows: leave incremental out")
    measured = 1 if choices.cuda else max(1, frames // FRAMES_PER_HOP)
    hop = 1 if choices.memory is None else choices.hop or measured
    return checked_lookahead(name, choices.lookahead, frames // 2, frames - hop), hop
