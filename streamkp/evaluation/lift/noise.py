"""What an estimator does to true 2D keypoints: they tremble, wander, and go missing.

Figures are relative to the person's size in the image, so that no image size or distance is special.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from streamkp.skeletons import Skeleton

Floats = NDArray[np.floating[Any]]

TREMBLE = 0.005  # standard deviation, new in every frame, in heights of the person
WANDER = 0.008  # standard deviation of the error that lasts
LASTS = 10  # frames after which a lasting error has faded to 1/e
GOES_MISSING = 0.004  # chance per joint and frame
STAYS_MISSING = 8  # mean number of frames
SCORE, MISSING_SCORE = 0.9, 0.1

# The ends of the limbs are found less well than the trunk. By the last word of a joint's name; others: 1.
DIFFICULTY = {"knee": 1.2, "ankle": 1.5, "elbow": 1.3, "wrist": 1.6, "spine": 0.8, "thorax": 0.8}


def disturb(points: Floats, skeleton: Skeleton, random: np.random.Generator) -> NDArray[np.float32]:
    """True keypoints as an estimator might give them.

    Args:
        points: [T, K, 2] pixels, one person, in the layout `skeleton`.

    Returns [T, K, 3]: x, y in pixels and a score. A missing joint stays where it was last seen, with a low score.
    """
    frames, joints = points.shape[:2]
    low, high = np.percentile(points, (2, 98), axis=1)
    size = float(np.median(np.linalg.norm(high - low, axis=-1)))
    keep = np.exp(-1 / LASTS)
    drive = random.normal(size=(frames, joints, 2))
    drive[1:] *= np.sqrt(1 - keep**2)  # a process that has always been running
    lasting = lfilter([1], [1, -keep], drive, axis=0)
    error = WANDER * lasting + TREMBLE * random.normal(size=(frames, joints, 2))
    difficulty = np.array([DIFFICULTY.get(joint.rpartition("_")[2], 1.0) for joint in skeleton.joints])
    missing = _missing(frames, joints, random)
    out = np.empty((frames, joints, 3), np.float32)
    out[..., :2] = _hold(points + size * difficulty[:, None] * error, missing)
    scores = SCORE - np.abs(random.normal(scale=0.08, size=(frames, joints)))
    out[..., 2] = np.where(missing, MISSING_SCORE, np.clip(scores, 0.3, 1))
    return out


def _missing(frames: int, joints: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """[T, J]: whether a joint is missing, in spells of geometrically distributed length; never in the first frame."""
    changes = random.random((frames, joints))
    missing = np.zeros((frames, joints), bool)
    for t in range(1, frames):
        stays = changes[t] < 1 - 1 / STAYS_MISSING
        missing[t] = np.where(missing[t - 1], stays, changes[t] < GOES_MISSING)
    return missing


def _hold(points: Floats, missing: NDArray[np.bool_]) -> Floats:
    """Every missing joint where it was last seen."""
    frames = np.arange(len(points))[:, None]
    last = np.maximum.accumulate(np.where(missing, 0, frames), axis=0)
    out: Floats = np.take_along_axis(points, last[..., None], axis=0)
    return out
