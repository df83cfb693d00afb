"""What each part of `smooth-3d` gains and costs, on the noisy 2D of measured motion.

The poses go one by one through what the stage runs, `streamkp.motion.steady`. A root is found for each by
`streamkp.motion.root.locate` from the same noisy 2D and the lens of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.evaluation.lift.datasets import Dataset, Sequence
from streamkp.evaluation.lift.evaluate import Lift, seen
from streamkp.evaluation.lift.live import live_poses
from streamkp.models.lift.sequence import SequenceLifter
from streamkp.motion import metrics
from streamkp.motion.camera import Intrinsics
from streamkp.motion.foot_contact import FEET
from streamkp.motion.root import locate, split_root
from streamkp.motion.steady import Settings, Steady

Floats = NDArray[np.floating[Any]]
Figures = dict[str, float | None]

SKELETON = "h36m17"
LAYOUT = skeletons.get(SKELETON)
MILLIMETRES = 1000.0
STILL = 0.1  # m/s: a true foot below it stands
STEP = 0.3  # metres
FIGURES = {
    "jitter_mm": "mean norm of the second differences of the root-relative joints, per frame squared",
    "lag_ms": "a wrist jumps by 0.3 m, at 30 Hz: time until it is 63 % there, after the input is",
    "root_lag_ms": "the same for a person who jumps by 0.3 m as a whole",
    "foot_slide_mm_s": "mean speed of the ankles, root added, while the true ones are below 100 mm/s",
    "root_mm": "mean error of the root in camera space",
    "bone_spread_mm": "standard deviation of each bone's length over a sequence, mean over bones",
    "mpjpe_mm": "mean error of the joints, root-relative",
    "p_mpjpe_mm": "the same after the best turn, scale and shift of each pose",
    "mpjve_mm": "mean error of the differences between frames",
}
TRUTH = "truth"
_STEP_RATE = 30.0

# Somebody upright: hip; right, left leg; spine to head; left, right arm. Metres, y down, seen from 4 m.
_UPRIGHT = np.array([
    (0, 0, 0), (-0.12, 0, 0), (-0.12, 0.43, 0), (-0.12, 0.85, 0), (0.12, 0, 0), (0.12, 0.43, 0), (0.12, 0.85, 0),
    (0, -0.23, 0), (0, -0.47, 0), (0, -0.58, -0.08), (0, -0.7, 0),
    (0.15, -0.45, 0), (0.15, -0.17, 0), (0.15, 0.08, 0), (-0.15, -0.45, 0), (-0.15, -0.17, 0), (-0.15, 0.08, 0),
])  # fmt: skip
_ROOT = np.array((0.0, 0.0, 4.0))


def rows(min_cutoff: float, beta: float) -> dict[str, Settings]:
    """The settings of each row of the table."""
    nothing = Settings(one_euro=False, bones=False, contact=False, min_cutoff=min_cutoff, beta=beta)
    return {
        "none": nothing,
        "one-euro": replace(nothing, one_euro=True),
        "bones": replace(nothing, bones=True),
        "contact": replace(nothing, contact=True),
        "one-euro+bones": replace(nothing, one_euro=True, bones=True),
        "all": replace(nothing, one_euro=True, bones=True, contact=True),
    }


def live_lift(lifter: SequenceLifter, lookahead: int) -> Lift:
    """The lifter as if live: windows that end `lookahead` frames after the pose; NaN for the last poses.

    Raises `UsageError` for a network that cannot be measured so.
    """
    give = live_poses(lifter, [lookahead])

    def lift(points: Floats, size: tuple[int, int], lens: Intrinsics) -> Floats:
        return give(points, lens)[lookahead].poses

    return lift


def evaluate(
    dataset: Dataset,
    lift: Lift,
    skeleton: str,
    seed: int,
    table: Mapping[str, Settings],
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Figures]:
    """The figures of `FIGURES` for each row of `table`, and for the truth, of a lifter that reads 2D of `skeleton`.

    A figure that the data cannot tell is None; poses of NaN are ones that the lifter does not give. `seed` draws the
    noise: that of the noisy column of `evaluation.lift.evaluate`. `advance` is called after each sequence.
    """
    found: dict[str, list[_Sums]] = {name: [] for name in (*table, TRUTH)}
    for sequence, points in seen(dataset, skeleton, seed, "noisy"):
        poses = split_root(lift(points, sequence.size, sequence.lens))[0]
        visible = skeletons.convert(points, skeleton, SKELETON)
        roots = locate(poses, visible[..., :2].astype(np.float64), sequence.lens, visible[..., 2])
        for name, settings in table.items():
            found[name].append(_measure(sequence, *steadied(poses, roots, dataset.rate, settings), dataset.rate))
        relative, at = split_root(sequence.poses)
        found[TRUTH].append(_measure(sequence, relative, at[:, 0], dataset.rate))
        advance()
    report = {}
    for name, sums in found.items():
        lags = dict(zip(("lag_ms", "root_lag_ms"), step_lags(table[name]), strict=True)) if name in table else {}
        figures = {**lags, **_averages(sums)}
        report[name] = {key: figures.get(key) for key in FIGURES}
    return report


def steadied(poses: Floats, roots: Floats, rate: float, settings: Settings) -> tuple[Floats, Floats]:
    """A sequence [T, 17, 3] and its roots [T, 3] frame by frame through `Steady`; what is NaN is not known."""
    steady = Steady(SKELETON, settings)
    out_poses, out_roots = np.full(poses.shape, np.nan), np.full(roots.shape, np.nan)
    for i, (pose, root) in enumerate(zip(poses, roots, strict=True)):
        if not np.isfinite(pose).all():
            continue
        known = root if np.isfinite(root).all() else None
        out_poses[i], at = steady(pose, known, round(i * 1e9 / rate))
        if at is not None:
            out_roots[i] = at
    return out_poses, out_roots


def step_lags(settings: Settings) -> tuple[float, float]:
    """Lag in ms of one joint, and of the root, after a step of `STEP` metres by somebody who stood still.

    The joint is a wrist that turns about its elbow, so that bones keep their length. Both input and output cross 63 %
    between two frames; the lag is the time from one crossing to the other.
    """
    wrist, elbow = LAYOUT.index("left_wrist"), LAYOUT.index("left_elbow")
    forearm = float(np.linalg.norm(_UPRIGHT[wrist] - _UPRIGHT[elbow]))
    angle = 2 * np.arcsin(STEP / 2 / forearm)
    turned = _UPRIGHT.copy()
    turned[wrist] = _UPRIGHT[elbow] + forearm * np.array((np.sin(angle), np.cos(angle), 0))
    before, after = round(2 * _STEP_RATE), round(5 * _STEP_RATE)

    def sequence(first: Floats, second: Floats) -> Floats:
        return np.concatenate([np.repeat(first[None], before, 0), np.repeat(second[None], after, 0)])

    still, roots = sequence(_UPRIGHT, _UPRIGHT), sequence(_ROOT, _ROOT)
    jump, shift = sequence(_UPRIGHT, turned), sequence(_ROOT, _ROOT + np.array((STEP, 0, 0)))
    joint = steadied(jump, roots, _STEP_RATE, settings)[0][:, wrist]
    root = steadied(still, shift, _STEP_RATE, settings)[1]
    return _lag(jump[:, wrist], joint), _lag(shift, root)


def _lag(given: Floats, found: Floats) -> float:
    """Milliseconds between the times at which two signals [T, 3] have made 63 % of the step of the first."""
    along = (given[-1] - given[0]) / STEP**2
    times = []
    for signal in (given, found):
        share = (signal - given[0]) @ along
        i = int(np.argmax(share >= 1 - np.exp(-1)))
        times.append(i - (share[i] - (1 - np.exp(-1))) / (share[i] - share[i - 1]))
    return float(times[1] - times[0]) / _STEP_RATE * 1000


_Sums = dict[str, tuple[float, int]]  # figure -> mean over a sequence, and what it weighs


def _measure(sequence: Sequence, poses: Floats, roots: Floats, rate: float) -> _Sums:
    """The figures of one sequence [T, 17, 3] with its roots [T, 3], in metres, over its measured frames."""
    measured = sequence.measured & np.isfinite(poses).all((1, 2))
    target, at = split_root(sequence.poses)
    predicted = np.where(measured[:, None, None], split_root(np.asarray(poses, np.float64))[0], np.nan)
    roots = np.where(measured[:, None], roots, np.nan)
    feet = [LAYOUT.index(joint) for joint in FEET[SKELETON]]
    true_speed = np.linalg.norm(np.diff(sequence.poses[:, feet], axis=0), axis=-1) * rate
    stands = np.concatenate([np.zeros((1, len(feet)), bool), true_speed < STILL])
    velocity = metrics.joint_errors(np.diff(predicted, axis=0), np.diff(target, axis=0))
    away = np.linalg.norm(roots - at[:, 0], axis=-1)
    away = away[np.isfinite(away)]
    known, true = predicted[measured], target[measured]
    frames, steps = len(known), int(np.isfinite(velocity).all(-1).sum())
    slide = metrics.foot_speed(predicted[:, feet] + roots[:, None], stands, rate)
    return {
        "jitter_mm": (metrics.jitter(predicted), steps),
        "foot_slide_mm_s": (slide, int((stands[1:] & stands[:-1]).sum())),
        "root_mm": (float(away.mean()) if len(away) else np.nan, len(away)),
        "bone_spread_mm": (metrics.bone_spread(predicted, LAYOUT.bones), frames),
        "mpjpe_mm": (metrics.mpjpe(known, true) if frames else np.nan, frames),
        "p_mpjpe_mm": (metrics.p_mpjpe(known, true) if frames else np.nan, frames),
        "mpjve_mm": (float(np.nanmean(velocity)) if steps else np.nan, steps),
    }


def _averages(sums: list[_Sums]) -> Figures:
    """Weighted means over sequences, in millimetres; None where no sequence tells."""
    out: Figures = {}
    for key in sums[0]:
        values, weights = np.array([each[key] for each in sums]).T
        tells = np.isfinite(values) & (weights > 0)
        out[key] = MILLIMETRES * float(np.average(values[tells], weights=weights[tells])) if tells.any() else None
    return out
