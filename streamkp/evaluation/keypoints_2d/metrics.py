"""How far predicted 2D keypoints are from annotated ones.

Points are [..., K, 2] pixels; `visible` [..., K] says which are annotated: the others do not count. Definitions:
COCO (OKS), MMPose (PCK, AUC and EPE of hands, NME of faces).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

HAND_PCK = 0.2  # of the longer side of the hand's box
HAND_AUC_PIXELS = 30.0
HAND_AUC_STEPS = 20


def oks(predicted: Floats, target: Floats, visible: Mask, area: ArrayLike, sigmas: ArrayLike) -> Floats:
    """Object keypoint similarity (0..1) of poses [..., K, 2]; 0 for a pose of which nothing is annotated.

    `area` [...] is that of the annotated person in square pixels, `sigmas` [K] the spread of each joint.
    """
    squared = ((predicted - target) ** 2).sum(-1)
    spread = 2 * (2 * np.asarray(sigmas)) ** 2 * np.maximum(np.asarray(area), np.spacing(1.0))[..., None]
    likeness = np.where(visible, np.exp(-squared / spread), 0.0)
    out: Floats = likeness.sum(-1) / np.maximum(visible.sum(-1), 1)
    return out


def epe(predicted: Floats, target: Floats, visible: Mask) -> float:
    """End point error: mean distance in pixels."""
    return float(np.linalg.norm(predicted - target, axis=-1)[visible].mean())


def pck(predicted: Floats, target: Floats, visible: Mask, size: ArrayLike, threshold: float = HAND_PCK) -> float:
    """Share (0..1) of joints whose distance, divided by `size` (of each pose, or one), is below the threshold.

    It is the mean over joints; joints that are annotated nowhere do not count.
    """
    return float(np.mean(_near(predicted, target, visible, size, threshold)))


def auc(
    predicted: Floats,
    target: Floats,
    visible: Mask,
    pixels: float = HAND_AUC_PIXELS,
    steps: int = HAND_AUC_STEPS,
) -> float:
    """Area under the curve of `pck` over distances from 0 to `pixels`: its mean at `steps` thresholds i / steps."""
    return float(np.mean([pck(predicted, target, visible, pixels, i / steps) for i in range(steps)]))


def nme(predicted: Floats, target: Floats, visible: Mask, size: Floats) -> float:
    """Normalised mean error: distances divided by `size` [N], for faces the distance between the outer eye corners.

    Poses are [N, K, 2]. Faces of size 0 do not count.
    """
    known = visible & (size > 0)[:, None]
    distances = np.linalg.norm(predicted - target, axis=-1) / np.where(size > 0, size, 1)[:, None]
    return float(distances[known].mean())


def _near(predicted: Floats, target: Floats, visible: Mask, size: ArrayLike, threshold: float) -> Floats:
    """Per joint that is annotated anywhere: the share of its distances below the threshold."""
    distances = np.linalg.norm(predicted - target, axis=-1) / np.asarray(size, float)[..., None]
    near = (distances < threshold) & visible
    counts = visible.reshape(-1, visible.shape[-1]).sum(0)
    hits = near.reshape(-1, visible.shape[-1]).sum(0)
    out: Floats = hits[counts > 0] / counts[counts > 0]
    return out
