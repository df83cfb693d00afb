"""Poses relative to their root joint, and the position of the root in space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.motion.camera import Intrinsics, canonical_coordinates

Floats = NDArray[np.floating[Any]]

LEAST_SPREAD = 1e-12  # of the joints on the plane one metre away: a person of 1 mm there is a point


def split_root(poses: Floats, root: int = 0) -> tuple[Floats, Floats]:
    """[..., K, C] -> poses relative to joint `root` [..., K, C], and that joint [..., 1, C]."""
    at = poses[..., root : root + 1, :]
    return poses - at, at


def locate(pose: Floats, pixels: Floats, camera: Intrinsics, weights: Floats | None = None) -> Floats:
    """Where the root must be for a pose to be seen where its joints are in the image.

    Every joint is to lie on its line of sight: (X + tx) - u (Z + tz) = 0 and (Y + ty) - v (Z + tz) = 0, with (u, v)
    its place on the plane one metre before the camera. That is linear in t; the least squares of all joints, in
    closed form. The size of the pose decides the depth: a pose 1 % too large is put 1 % too far away.

    Args:
        pose: [..., K, 3] metres, camera axes, relative to the root.
        pixels: [..., K, 2] of the same joints.
        camera: `Intrinsics.assumed` where it is unknown; depth is then true up to the error of its focal length.
        weights: [..., K] not negative, such as the scores of the joints; None for all the same.

    Returns [..., 3] metres, camera axes; NaN where the joints do not tell: fewer than two places, or no weight.
    """
    seen = canonical_coordinates(pixels, camera)
    weight = np.ones(pose.shape[:-1]) if weights is None else np.asarray(weights, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (weight / weight.sum(-1, keepdims=True))[..., None]
        across = seen * pose[..., 2:] - pose[..., :2]  # = (tx, ty) - seen * tz
        seen_mean, across_mean = (share * seen).sum(-2), (share * across).sum(-2)
        apart = seen - seen_mean[..., None, :]
        spread = (share * apart**2).sum((-2, -1))
        depth = -(share * apart * (across - across_mean[..., None, :])).sum((-2, -1)) / spread
        depth = np.where(spread > LEAST_SPREAD, depth, np.nan)[..., None]
    return np.concatenate([across_mean + seen_mean * depth, depth], -1)


def locate_all(poses: Floats, seen: Floats, cameras: Sequence[Intrinsics]) -> Floats:
    """`locate` for each of a batch, weighted by score: poses (B, n, 17, 3), seen (B, n, 17, 3) -> roots (B, n, 3).

    `poses` need not be relative to joint 0; `seen` are x and y in pixels and the score of the same joints.
    """
    found = [
        locate(relative, points[..., :2], camera, points[..., 2])
        for relative, points, camera in zip(split_root(poses)[0], seen, cameras, strict=True)
    ]
    return np.stack(found)
