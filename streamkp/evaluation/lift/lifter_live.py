"""3D error of a lifter whose windows hold no frame that a live system would not have yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamkp.errors import UsageError
from streamkp.evaluation.lift import lifter_windows
from streamkp.evaluation.lift.datasets import Dataset
from streamkp.evaluation.lift.lifter import COLUMNS, Floats, score, seen
from streamkp.evaluation.lift.offline import Opened


@dataclass(frozen=True)
class Live:
    """`lookaheads`: frames that a pose waits for; `hops`: frames from one run of the network to the next."""

    lookaheads: list[int]
    hops: list[int]

    def __bool__(self) -> bool:
        return bool(self.lookaheads or self.hops)

    @property
    def waits(self) -> list[int]:
        """The frames after the one of the pose that the windows hold, whichever window it comes from."""
        return sorted({*self.lookaheads, *range(max(self.hops, default=0))})


def evaluate_live(
    dataset: Dataset, lifter: Opened, seed: int, live: Live, advance: Callable[[], None] = lambda: None
) -> dict[str, dict[str, dict[str, Any]]]:
    """{"lookahead": {"0": {"clean": ..., "noisy": ...}, ...}, "hop": {"1": ..., ...}}, figures as of `evaluate`.

    The hops are without lookahead. The same frames count for everything: those that have all frames waited for
    behind them. The frames of the data are the rows of the windows, whatever its rate. `advance` as for `evaluate`.

    Raises `UsageError` where no sequence or no window is long enough, or the network gives but one pose of a window.
    """
    if lifter.windows is None:
        raise UsageError("--lookahead and --hop measure HDFormer networks only: leave them out")
    if live.waits[-1] >= lifter.windows.frames:
        most = lifter.windows.frames - 1
        raise UsageError(f"a window of {most + 1} poses: --lookahead is at most {most} and --hop {most + 1}")
    counted = _counted(dataset, live.waits[-1])
    report: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    for column in COLUMNS:
        poses: dict[tuple[str, int], list[Floats]] = defaultdict(list)
        for sequence, points in seen(counted, lifter.skeleton, seed, column):
            at = lifter_windows.live(lifter.windows, points, sequence.size, sequence.lens, live.waits)
            for lookahead in live.lookaheads:
                poses["lookahead", lookahead].append(at[lookahead])
            for hop in live.hops:
                poses["hop", hop].append(lifter_windows.hopped(at, hop))
            advance()
        for (what, n), predictions in poses.items():
            report[what][str(n)][column] = score(counted, predictions)
    return {what: dict(rows) for what, rows in report.items()}


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
