"""3D error of a lifter, from the 2D poses of the data as they are (clean) and as an estimator gives them (noisy).

Entry: `evaluate`; `streamkp.evaluation.lift.live` is its counterpart without later frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.evaluation.lift.datasets import Dataset, Sequence
from streamkp.evaluation.lift.noise import disturb
from streamkp.motion import metrics
from streamkp.motion.camera import Intrinsics

Floats = NDArray[np.floating[Any]]
# (points (T, K, 3): x, y in pixels and score; image width and height; camera) -> poses (T, 17, 3) in metres, camera
# axes, root at the origin; a `streamkp.models.lift.sequence.SequenceLifter` is one
Lift = Callable[[Floats, tuple[int, int], Intrinsics], Floats]
Figures = dict[str, float]
Column = Literal["clean", "noisy"]

COLUMNS: tuple[Column, ...] = ("clean", "noisy")
MILLIMETRES = 1000.0
PROTOCOLS = {
    "mpjpe_mm": "protocol 1: root-relative",
    "p_mpjpe_mm": "protocol 2: each pose turned, scaled and moved onto the true one",
    "n_mpjpe_mm": "protocol 3: root-relative, each pose scaled",
    "mpjve_mm": "velocity: error of the differences between frames",
    "pck150": "3DPCK: share of joints within 150 mm, root-relative",
    "auc": "area under 3DPCK from 0 to 150 mm",
}


def evaluate(
    dataset: Dataset, lift: Lift, skeleton: str, seed: int, advance: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Figures of a lifter that reads 2D poses of `skeleton`, as {"clean": ..., "noisy": ...}.

    Each has the keys of `PROTOCOLS`, `frames`, and `actions` with the same for each. `seed` draws the noise; the
    same seed gives the same figures. `advance` is called after each of the `2 * len(dataset.sequences)` sequences.
    """
    report: dict[str, Any] = {}
    for column in COLUMNS:
        predictions = []
        for sequence, points in seen(dataset, skeleton, seed, column):
            predictions.append(lift(points, sequence.size, sequence.lens))
            advance()
        report[column] = score(dataset, predictions)
    return report


def seen(dataset: Dataset, skeleton: str, seed: int, column: Column) -> Iterator[tuple[Sequence, Floats]]:
    """Each sequence with its 2D poses [T, K, 3] in the layout `skeleton`: pixels and scores."""
    random = np.random.default_rng((seed, 1))
    for sequence in dataset.sequences:
        layout = skeletons.get(sequence.skeleton)
        points = disturb(sequence.points, layout, random) if column == "noisy" else _certain(sequence.points)
        yield sequence, skeletons.convert(points, sequence.skeleton, skeleton)


def score(dataset: Dataset, predictions: list[Floats]) -> dict[str, Any]:
    """Figures of predicted poses, one array [T, 17, 3] in metres (camera axes) for each sequence."""
    actions: dict[str, list[tuple[Sequence, Floats]]] = defaultdict(list)
    for sequence, prediction in zip(dataset.sequences, predictions, strict=True):
        actions[sequence.action].append((sequence, prediction))
    by_action = {action: _figures(pairs, dataset.mpii) for action, pairs in actions.items()}
    if dataset.by_action:
        overall = {key: float(np.mean([figures[key] for figures in by_action.values()])) for key in PROTOCOLS}
        overall["frames"] = sum(figures["frames"] for figures in by_action.values())
    else:
        overall = _figures([pair for pairs in actions.values() for pair in pairs], dataset.mpii)
    return {**overall, "actions": by_action}


def _figures(pairs: list[tuple[Sequence, Floats]], mpii: bool) -> Figures:
    """The means over all measured frames of some sequences."""
    errors, aligned, scaled, velocity = [], [], [], []
    for sequence, prediction in pairs:
        measured = sequence.measured
        target = sequence.poses - sequence.poses[:, :1]
        predicted = np.asarray(prediction, np.float64)
        predicted = predicted - predicted[:, :1]
        steps = metrics.joint_errors(np.diff(predicted, axis=0), np.diff(target, axis=0))
        velocity.append(steps[measured[1:] & measured[:-1]])
        predicted, target = predicted[measured], target[measured]
        errors.append(metrics.joint_errors(predicted, target))
        aligned.append(metrics.joint_errors(metrics.align_rigid(predicted, target), target))
        scaled.append(metrics.joint_errors(metrics.align_scale(predicted, target), target))
    every = np.concatenate(errors)
    pck, auc = metrics.mpii_scores(errors) if mpii else (metrics.pck(every), metrics.auc(every))
    return {
        "mpjpe_mm": MILLIMETRES * float(every.mean()),
        "p_mpjpe_mm": MILLIMETRES * float(np.concatenate(aligned).mean()),
        "n_mpjpe_mm": MILLIMETRES * float(np.concatenate(scaled).mean()),
        "mpjve_mm": MILLIMETRES * float(np.concatenate(velocity).mean()) if any(map(len, velocity)) else 0.0,
        "pck150": pck,
        "auc": auc,
        "frames": len(every),
    }


def _certain(points: Floats) -> NDArray[np.float32]:
    return np.concatenate([points, np.ones_like(points[..., :1])], -1).astype(np.float32)
