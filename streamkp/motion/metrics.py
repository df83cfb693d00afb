"""How far predicted 3D poses are from measured ones.

Poses are [..., J, 3], or [..., T, J, 3] where time matters, in any unit of length: errors come out in it. For
MPJPE, 3DPCK and AUC both sides are relative to their root, as the protocols ask; the functions do not move
them. Formulas: VideoPose3D (Pavllo et al. 2019), MPI-INF-3DHP (Mehta et al. 2017), MMPose 0.x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

PCK_THRESHOLD = 0.15  # metres
AUC_THRESHOLDS = np.linspace(0, PCK_THRESHOLD, 31)

# MPI-INF-3DHP scores these groups of Human3.6M joints: head, neck, shoulders, elbows, wrists, hips, knees, ankles.
MPII_GROUPS = ((10,), (8,), (11, 14), (12, 15), (13, 16), (1, 4), (2, 5), (3, 6))


def joint_errors(predicted: Floats, target: Floats) -> Floats:
    """Distance of every joint: [..., J, 3] twice -> [..., J]. Raises ValueError when the shapes differ."""
    if predicted.shape != target.shape:
        raise ValueError(f"poses of shape {predicted.shape} and {target.shape} cannot be compared")
    out: Floats = np.linalg.norm(predicted - target, axis=-1)
    return out


def mpjpe(predicted: Floats, target: Floats, mask: Mask | None = None) -> float:
    """Mean per-joint position error (protocol 1); `mask` [..., J] says which joints count."""
    return float(joint_errors(predicted, target)[... if mask is None else mask].mean())


def p_mpjpe(predicted: Floats, target: Floats, mask: Mask | None = None) -> float:
    """MPJPE after the best rotation, scale and translation of every pose (protocol 2)."""
    return mpjpe(align_rigid(predicted, target), target, mask)


def pa_mpjve(predicted: Floats, target: Floats) -> float:
    """Mean per-joint velocity error of one sequence [T, J, 3], per frame, after aligning it as a whole (rotation, scale
    and translation).

    As everywhere below, a frame of NaN is a gap: what touches it does not count. NaN where nothing is left.
    """
    return _mean(joint_errors(np.diff(align_sequence(predicted, target), axis=0), np.diff(target, axis=0)))


def jitter(poses: Floats) -> float:
    """Mean norm of the second differences of [T, K, 3], over joints and time: the poses' unit per frame squared.

    Real acceleration is in it, so that it says something next to that of a reference, on the same frames and rate.
    """
    return _mean(np.linalg.norm(np.diff(poses, n=2, axis=0), axis=-1))


def bone_spread(poses: Floats, bones: Sequence[tuple[int, int]]) -> float:
    """Standard deviation over time of each bone's length, mean over the bones: [T, K, 3] in, the poses' unit out."""
    starts, ends = np.asarray(bones).T
    lengths = np.linalg.norm(poses[:, ends] - poses[:, starts], axis=-1)
    return float(lengths[np.isfinite(lengths).all(1)].std(0).mean()) if np.isfinite(lengths).all(1).any() else np.nan


def foot_speed(feet: Floats, contact: Mask, rate: float) -> float:
    """Mean speed of feet [T, F, 3] between frames at both of which they stand, `contact` [T, F]: unit per second.

    `rate` is in frames per second. A foot that stands has no speed: this is the slide of a sequence in world axes.
    """
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * rate
    return _mean(speed[contact[1:] & contact[:-1]])


def pck(errors: Floats, threshold: float = PCK_THRESHOLD, inclusive: bool = False) -> float:
    """Share (0..1) of joint errors below the threshold; `inclusive` counts those on it."""
    return float((errors <= threshold if inclusive else errors < threshold).mean())


def auc(errors: Floats, thresholds: ArrayLike = AUC_THRESHOLDS, inclusive: bool = False) -> float:
    """Area under the PCK curve: its mean (0..1) over the thresholds."""
    return float(np.mean([pck(errors, t, inclusive) for t in np.asarray(thresholds)]))


def mpii_scores(
    sequences: Sequence[Floats],
    threshold: float = PCK_THRESHOLD,
    thresholds: ArrayLike = AUC_THRESHOLDS,
) -> tuple[float, float]:
    """3DPCK and AUC (0..1) as MPI-INF-3DHP reports them: the mean over groups, then over sequences.

    `sequences` are joint errors [T, 17], one array per test sequence.
    """
    grouped = [[errors[:, list(group)] for group in MPII_GROUPS] for errors in sequences]
    return (
        float(np.mean([[pck(group, threshold) for group in groups] for groups in grouped])),
        float(np.mean([[auc(group, thresholds) for group in groups] for groups in grouped])),
    )


def align_scale(predicted: Floats, target: Floats) -> Floats:
    """Each pose [..., J, 3] times the factor that brings it nearest to its target."""
    along = (predicted * target).sum((-2, -1), keepdims=True)
    squared = (predicted**2).sum((-2, -1), keepdims=True)
    out: Floats = predicted * (along / np.where(squared > 0, squared, 1))
    return out


def align_sequence(predicted: Floats, target: Floats) -> Floats:
    """A sequence [T, J, 3] turned, scaled and moved as a whole nearest to its target; frames of NaN stay NaN."""
    known = np.isfinite(predicted).all((1, 2)) & np.isfinite(target).all((1, 2))
    out: Floats = np.full_like(predicted, np.nan)
    if known.any():
        flat = align_rigid(predicted[known].reshape(-1, 3), target[known].reshape(-1, 3))
        out[known] = flat.reshape(-1, *predicted.shape[1:])
    return out


def align_rigid(predicted: Floats, target: Floats) -> Floats:
    """Each pose [..., J, 3] turned (never reflected), scaled and moved nearest to its target (Procrustes).

    A pose whose joints all coincide becomes the centre of its target.
    """
    centre = target.mean(-2, keepdims=True)
    moved, goal = predicted - predicted.mean(-2, keepdims=True), target - centre
    u, s, vt = np.linalg.svd(np.swapaxes(moved, -1, -2) @ goal)
    reflected = np.linalg.det(u @ vt) < 0
    s[..., -1] *= np.where(reflected, -1, 1)
    u[..., -1] *= np.where(reflected, -1, 1)[..., None]
    squared = (moved**2).sum((-2, -1), keepdims=True)
    scale = s.sum(-1)[..., None, None] / np.where(squared > 0, squared, 1)
    out: Floats = scale * (moved @ (u @ vt)) + centre
    return out


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan
