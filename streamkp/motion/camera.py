"""From pixels to the coordinates that lifters read, and between world and camera space.

Image axes: x right, y down. Camera axes: x right, y down, z away from the camera, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole camera in pixels: focal length (x, y) and principal point (x, y)."""

    focal: tuple[float, float]
    centre: tuple[float, float]

    @classmethod
    def assumed(cls, width: int, height: int) -> Intrinsics:
        """For an unknown camera: principal point in the middle, focal length of the longer side.

        That is a view of 53 degrees along the longer side, between a phone (65) and the cameras of Human3.6M (47).
        A wrong focal length scales the pose along the view axis; root-relative errors stay small.
        """
        focal = float(max(width, height))
        return cls((focal, focal), (width / 2, height / 2))


def screen_coordinates(points: Floats, width: float, height: float) -> Floats:
    """Pixels [..., 2] to VideoPose3D's (and MMPose's) coordinates: x in -1..1, y to the same scale."""
    out: Floats = points * (2 / width) - np.array([1, height / width], points.dtype)
    return out


def canonical_coordinates(points: Floats, camera: Intrinsics) -> Floats:
    """Pixels [..., 2] to the plane one metre before the camera: (x - centre) / focal."""
    out: Floats = (points - np.asarray(camera.centre)) / np.asarray(camera.focal)
    return out


def rotate(quaternion: ArrayLike, vectors: Floats) -> Floats:
    """Rotate vectors [..., 3] by unit quaternions (w, x, y, z) that broadcast against them."""
    q = np.asarray(quaternion)
    axis = q[..., 1:]
    twice = 2 * np.cross(axis, vectors)
    out: Floats = vectors + q[..., :1] * twice + np.cross(axis, twice)
    return out


def world_to_camera(points: Floats, orientation: ArrayLike, position: ArrayLike) -> Floats:
    """World points [..., 3] in the axes of a camera at `position` [3] with unit quaternion `orientation` [4]."""
    conjugate = np.asarray(orientation) * np.array([1, -1, -1, -1])
    return rotate(conjugate, points - np.asarray(position))


def project(
    points: Floats,
    focal: ArrayLike,
    centre: ArrayLike,
    radial: ArrayLike = (0.0, 0.0, 0.0),
    tangential: ArrayLike = (0.0, 0.0),
) -> Floats:
    """Camera points [..., 3] to the image [..., 2], in the units of `focal` and `centre`.

    Distortion as Human3.6M's camera model has it (three radial and two tangential terms). Directions further than
    45 degrees off the axis are clamped to it, as the reference does, so that points near the image plane stay finite.
    """
    plane = np.clip(points[..., :2] / points[..., 2:], -1, 1)
    squared = (plane**2).sum(-1, keepdims=True)
    growth = 1 + (np.asarray(radial) * squared ** np.arange(1, 4)).sum(-1, keepdims=True)
    shift = (np.asarray(tangential) * plane).sum(-1, keepdims=True)
    distorted = plane * (growth + shift) + np.asarray(tangential) * squared
    out: Floats = np.asarray(focal) * distorted + np.asarray(centre)
    return out
