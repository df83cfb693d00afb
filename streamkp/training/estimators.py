"""What 2D networks make of the true keypoints of a window.

Keypoints tremble, wander over some frames, sit off their true place for as long as a person stands in some way, get
lost behind other limbs or the edge of the image, and change sides. Scores tell of it, more or less: each network has
its own scale. A filter after the network lags. Amounts are in sizes of the person, and drawn anew for every window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.training.randomness import chance, episodes, wander

Floats = NDArray[np.floating[Any]]

CLEAN = 0.2  # share of windows with nothing wrong
TREMBLES, WANDERS, SITS_OFF = 0.008, 0.012, 0.010  # greatest standard deviations, in heights of the person
LOST, STAYS_LOST = 0.004, 12.0  # chance per joint and frame, frames
WANDERS_WHEN_LOST = 0.06
SWAPS, STAYS_SWAPPED = 0.003, 10.0  # chance per frame of legs, arms or both; frames
CROPPED = 0.08  # share of windows without legs in the image
FILTERED = 0.5  # share of windows that a filter has smoothed
SMOOTHING = (0.35, 0.95)  # weight of the newest frame in it

# As large as the errors of the trunk are those of other joints, times: by the last word of their names.
_DIFFICULTY = {"knee": 1.2, "ankle": 1.5, "elbow": 1.3, "wrist": 1.7, "spine": 0.8, "thorax": 0.8, "hip": 1.2}
_H36M17 = skeletons.get("h36m17")
DIFFICULTY = np.array([_DIFFICULTY.get(joint.split("_")[-1], 1.0) for joint in _H36M17.joints])
_LEGS, _ARMS = (1, 2, 3, 4, 5, 6), (11, 12, 13, 14, 15, 16)
_BELOW_HIPS = (2, 3, 5, 6)


def disturb(points: Floats, pixel: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """True keypoints [B, T, 17, 2] to estimated ones, and their scores [B, T, 17].

    `pixel` [B] is the size of a pixel in the units of `points`: nothing is found more finely than to half of one.
    """
    batch, frames, joints = points.shape[:3]
    low, high = np.percentile(points, (2, 98), axis=2)
    size = np.median(np.linalg.norm(high - low, axis=-1), axis=1)

    def amount(greatest: float) -> Floats:
        out: Floats = greatest * random.uniform(0, 1, (batch, 1, 1)) * DIFFICULTY
        return out

    off = amount(TREMBLES)[..., None] * random.standard_normal(points.shape)
    off += amount(WANDERS)[..., None] * wander(random, (batch, joints, 2), frames, random.uniform(4, 20))
    off += amount(SITS_OFF)[..., None] * random.standard_normal((batch, 1, joints, 2))

    lost = episodes(random, (batch, joints), frames, LOST * float(random.uniform(0, 2)), STAYS_LOST)
    lost[:, :, _BELOW_HIPS] |= chance(random, CROPPED, batch)[:, None, None]
    far = WANDERS_WHEN_LOST * wander(random, (batch, joints, 2), frames, 10.0)
    off += lost[..., None] * far

    seen = points + size[:, None, None, None] * off
    seen += pixel[:, None, None, None] * random.uniform(-0.5, 0.5, seen.shape)
    stays = lost & chance(random, 0.5, batch)[:, None, None]  # the other networks leave a lost joint where it was
    seen = _hold(seen, stays)
    seen, swapped = _swap(seen, random)

    certain = random.uniform(0.6, 1.0, (batch, 1, 1))
    scores = certain - 0.3 * np.abs(off[..., 0]) / (0.03 * DIFFICULTY) * random.uniform(0, 1, (batch, 1, 1))
    scores = np.where(lost, random.uniform(0, 0.45, (batch, 1, joints)), scores)
    scores = np.where(swapped, scores * random.uniform(0.5, 1.1, (batch, 1, 1)), scores)
    scores += 0.03 * random.standard_normal(scores.shape)
    silent = chance(random, 0.1, batch)[:, None, None]  # whose scores tell nothing
    scores = np.clip(np.where(silent, certain, scores), 0.0, 1.0)

    smoothing = np.where(chance(random, FILTERED, batch), random.uniform(*SMOOTHING, batch), 1.0)
    seen = _smooth(seen, smoothing[:, None, None])
    clean = chance(random, CLEAN, batch)
    return np.where(clean[:, None, None, None], points, seen), np.where(clean[:, None, None], 1.0, scores)


def start_late(
    points: Floats, scores: Floats, share: float, random: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Some windows as they are soon after a person came: the oldest pose stands for what is missing.

    Returns points, scores, and [B, T]: which rows are of the person.
    """
    batch, frames = scores.shape[:2]
    first = np.where(chance(random, share, batch), random.integers(0, frames, batch), 0)
    row = np.maximum(np.arange(frames), first[:, None])
    of = np.arange(batch)[:, None]
    return points[of, row], scores[of, row], np.arange(frames) >= first[:, None]


def _hold(points: Floats, stays: NDArray[np.bool_]) -> Floats:
    """Joints that stay [B, T, K] are where they were in the last frame in which they did not."""
    frames = points.shape[1]
    row = np.where(stays, 0, np.arange(frames)[:, None])
    row = np.maximum.accumulate(row, axis=1)
    return np.take_along_axis(points, row[..., None], axis=1)


def _swap(points: Floats, random: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    batch, frames, joints = points.shape[:3]
    swapped = np.zeros((batch, frames, joints), bool)
    for limbs in (_LEGS, _ARMS, _LEGS + _ARMS):
        swapped[:, :, limbs] |= episodes(random, (batch,), frames, SWAPS, STAYS_SWAPPED)[..., None]
    return np.where(swapped[..., None], points[:, :, list(_H36M17.mirror)], points), swapped


def _smooth(points: Floats, weight: Floats) -> Floats:
    out = points.copy()
    for t in range(1, points.shape[1]):
        out[:, t] = out[:, t - 1] + weight * (points[:, t] - out[:, t - 1])
    return out
