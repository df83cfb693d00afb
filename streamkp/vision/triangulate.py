"""Points in space from their images in several calibrated cameras.

Linear triangulation (DLT; Hartley and Zisserman, Multiple View Geometry, 12.2) with the equations of each view divided
by the depth found before, so that what is minimised is close to the error in pixels. Pixels are those of cameras
without distortion. V views, N points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_PASSES = 3


def triangulate(projections: Floats, pixels: Floats, weights: Floats) -> Floats:
    """Points [N, 3] in the world of `projections` [V, 3, 4], from `pixels` [V, N, 2] and `weights` [V, N] >= 0.

    A weight of 0 leaves a view out, whatever its pixel is. A point with fewer than two views is NaN, as is one that
    the views do not determine.
    """
    used = weights > 0
    seen = np.where(used[..., None], pixels, 0.0).astype(np.float64)
    # [V, N, 2, 4]: the two equations of each view, x (p3 . X) = p1 . X and y (p3 . X) = p2 . X
    equations = seen[..., None] * projections[:, None, 2:3] - projections[:, None, :2]
    equations = equations * weights[..., None, None]
    depth = np.ones(weights.shape)
    homogeneous = np.empty((pixels.shape[1], 4))
    for _ in range(_PASSES):
        system = np.moveaxis(equations / depth[..., None, None], 0, 1).reshape(pixels.shape[1], -1, 4)
        homogeneous = np.linalg.svd(system)[2][:, -1]
        depth = np.abs(projections[:, 2] @ homogeneous.T)
        depth = np.where(depth > 0, depth, 1.0)
    determined = (used.sum(0) >= 2) & (np.abs(homogeneous[:, 3]) > 1e-12)
    scale = np.where(determined, homogeneous[:, 3], np.nan)
    out: Floats = homogeneous[:, :3] / scale[:, None]
    return out


def reprojection_errors(projections: Floats, points: Floats, pixels: Floats) -> Floats:
    """Distance in pixels [V, N] between `points` [N, 3] as the views see them and `pixels` [V, N, 2]."""
    homogeneous = np.concatenate([points, np.ones_like(points[:, :1])], 1)
    seen = homogeneous @ np.swapaxes(projections, 1, 2)
    out: Floats = np.linalg.norm(seen[..., :2] / seen[..., 2:] - pixels, axis=-1)
    return out


def triangulate_robust(
    projections: Floats, pixels: Floats, weights: Floats, limit: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """As `triangulate`, leaving out views that contradict the others.

    While one view of a point is more than `limit` pixels off and more than two are left, the view goes without which
    the rest agrees best; that finds a single bad view, and most of the time several among many. A view whose pixel
    is not finite is not used. Returns the points [N, 3] and which views made them [V, N].
    """
    weights = np.where(np.isfinite(pixels).all(-1), weights, 0.0)
    points = triangulate(projections, pixels, weights)
    for _ in range(len(projections) - 2):
        bad = (_worst(projections, points, pixels, weights) > limit) & ((weights > 0).sum(0) > 2)
        if not bad.any():
            break
        some, kept = pixels[:, bad], weights[:, bad]
        trials = []
        for view in range(len(projections)):
            without = kept.copy()
            without[view] = 0
            found = triangulate(projections, some, without)
            worst = _worst(projections, found, some, without)
            trials.append(np.where(kept[view] > 0, worst, np.inf))  # a view already left out cannot go again
        out = np.argmin(trials, axis=0)
        weights[out, np.flatnonzero(bad)] = 0
        points[bad] = triangulate(projections, some, weights[:, bad])
    return points, weights > 0


def _worst(projections: Floats, points: Floats, pixels: Floats, weights: Floats) -> Floats:
    """The largest error among the views of each point [N]."""
    errors = reprojection_errors(projections, points, pixels)
    out: Floats = np.where(weights > 0, errors, 0.0).max(0)
    return out
