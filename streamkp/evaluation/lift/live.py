"""3D error of a lifter whose windows hold no frame that a live system would not have yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.evaluation.lift.datasets import Dataset
from streamkp.evaluation.lift.datasets import Sequence as Sequence2D
from streamkp.evaluation.lift.evaluate import COLUMNS, Floats, score, seen
from streamkp.models.lift.base import Lifted, WindowNetwork
from streamkp.models.lift.sequence import SequenceLifter
from streamkp.motion.camera import Intrinsics
from streamkp.motion.sliding_window import pad_edges

BATCH = 16  # windows at once


@dataclass(frozen=True)
class Live:
    """`lookaheads`: frames that a pose waits for; `strides`: frames from one run of the network to the next."""

    lookaheads: list[int]
    strides: list[int]

    def __bool__(self) -> bool:
        return bool(self.lookaheads or self.strides)

    @property
    def waits(self) -> list[int]:
        """The frames after the one of the pose that the windows hold, whichever window it comes from."""
        return sorted({*self.lookaheads, *range(max(self.strides, default=0))})


def evaluate_live(
    dataset: Dataset, lifter: SequenceLifter, seed: int, live: Live, advance: Callable[[], None] = lambda: None
) -> dict[str, dict[str, dict[str, Any]]]:
    """{"lookahead": {"0": {"clean": ..., "noisy": ...}, ...}, "stride": {"1": ..., ...}}, figures as of `evaluate`.

    The strides are without lookahead. The same frames count for everything: those that have all frames waited for
    behind them. The frames of the data are the rows of the windows, whatever its rate. `advance` as for `evaluate`.
    Where the network gives standard deviations, `within_sigma` is the share of the coordinates, root-relative, that are
    less than one of them off.

    Raises `UsageError` where no sequence or no window is long enough, or the network cannot do what is to be measured.
    """
    if live.strides and lifter.windows is None:
        raise UsageError("--stride measures HDFormer networks only: leave it out")
    give = live_poses(lifter, live.waits)
    counted = _counted(dataset, live.waits[-1])
    report: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for column in COLUMNS:
        poses: dict[tuple[str, int], list[Floats]] = defaultdict(list)
        within: dict[int, list[NDArray[np.bool_]]] = defaultdict(list)
        for sequence, points in seen(counted, lifter.skeleton, seed, column):
            found = give(points, sequence.lens)
            at = {k: lifted.poses for k, lifted in found.items()}
            for lookahead in live.lookaheads:
                poses["lookahead", lookahead].append(at[lookahead])
                if (sigma := found[lookahead].sigma) is not None:
                    within[lookahead].append(_within(sequence, at[lookahead], sigma))
            for stride in live.strides:
                poses["stride", stride].append(strided(at, stride))
            advance()
        for (what, n), predictions in poses.items():
            report[what][str(n)][column] = score(counted, predictions)
        for lookahead, inside in within.items():
            report["lookahead"][str(lookahead)][column]["within_sigma"] = float(np.concatenate(inside).mean())
    return {what: dict(rows) for what, rows in report.items()}


def live_poses(lifter: SequenceLifter, lookaheads: Sequence[int]) -> Callable[[Floats, Intrinsics], dict[int, Lifted]]:
    """What gives the live poses (T, 17, 3) of a sequence (T, 17, 3) by look-ahead k, from nothing later than k frames.

    What lies before the sequence repeats its first frame, as in a live window. The last k poses, which would need
    frames after its end, are NaN. Raises `UsageError` for a network that gives but one pose of a window, and for a
    look-ahead that the network is too short for, or that it was not trained for.
    """
    rows, windows = lifter.rows, lifter.windows
    if rows is not None:
        rows.live(np.zeros((1, 17, 3)), Intrinsics.assumed(1, 1), lookaheads)  # raises for what it cannot do
        return lambda points, camera: rows.live(points, camera, lookaheads)
    if windows is None:
        raise UsageError(f"--lookahead and --stride cannot measure {lifter.name}: leave them out")
    if max(lookaheads) >= windows.frames:
        most = windows.frames - 1
        raise UsageError(f"a window of {most + 1} poses: --lookahead is at most {most} and --stride {most + 1}")
    return lambda points, camera: {
        k: Lifted(poses) for k, poses in window_poses(windows, points, camera, lookaheads).items()
    }


def window_poses(
    network: WindowNetwork, points: Floats, camera: Intrinsics, lookaheads: Sequence[int]
) -> dict[int, Floats]:
    """The poses of `live_poses` from windows that end k frames after the frame."""
    length, furthest = network.frames, max(lookaheads)
    padded = pad_edges(points.astype(np.float64), length - 1, 0)
    out = {k: np.full((len(points), 17, 3), np.nan) for k in lookaheads}
    for first in range(0, len(points), BATCH):
        ends = np.arange(first, min(first + BATCH, len(points)))
        windows = np.stack([padded[end : end + length] for end in ends])
        rows, _ = network.rows(windows, [camera] * len(ends), length - 1 - furthest, length)
        for k in lookaheads:
            seen = ends >= k
            out[k][ends[seen] - k] = rows[seen, furthest - k]
    return out


def strided(poses: dict[int, Floats], stride: int) -> Floats:
    """The poses that runs of the network in every `stride`-th frame give, of `live_poses` at 0 to `stride` - 1."""
    # A frame waits until the network runs.
    return np.stack([poses[-frame % stride][frame] for frame in range(len(poses[0]))])


def _within(sequence: Sequence2D, poses: Floats, sigma: Floats) -> NDArray[np.bool_]:
    """Which coordinates of the joints but the hip are less than one standard deviation off, in measured frames."""
    error = (poses - poses[:, :1]) - (sequence.poses - sequence.poses[:, :1])
    inside: NDArray[np.bool_] = (np.abs(error) < sigma[..., None])[sequence.measured, 1:]
    return inside


def _counted(dataset: Dataset, wait: int) -> Dataset:
    """The data without the last `wait` frames of each sequence being measured."""
    sequences = []
    for sequence in dataset.sequences:
        measured = sequence.measured & (np.arange(len(sequence.points)) < len(sequence.points) - wait)
        if measured.any():
            sequences.append(replace(sequence, measured=measured))
    if not sequences:
        raise UsageError(f"no sequence of {dataset.name} has a frame to be measured with {wait} frames after it")
    return replace(dataset, sequences=tuple(sequences))
