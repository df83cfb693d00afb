"""EasyCV's face pipeline as its authors have it, to compare with: the whole image is turned until the eyes are level.

All coordinates are image pixels; boxes are corners (N, 4): left, top, right, bottom.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

INPUT = 96
_ENLARGE = 0.1


def enlarge(corners: ArrayLike, width: int, height: int) -> Floats:
    """Boxes a tenth larger on every side (whole pixels), inside the image of `width` x `height`.

    As in the reference, what the image cuts off on the left is taken from the right margin too, but not what it cuts
    off at the top from the bottom.
    """
    corners = np.array(corners, np.float64).reshape(-1, 4)
    size = corners[:, 2:] - corners[:, :2]
    margin = np.trunc(size * _ENLARGE)
    low = np.maximum(corners[:, :2] - margin, 0)
    kept = corners[:, :2] - low
    margin[:, 0] = kept[:, 0]
    high = np.clip(low + size + kept + margin, 0, np.array([width, height]) - 1)
    return np.concatenate([low, high], axis=-1)


def eye_angle(eyes: ArrayLike) -> Floats:
    """Angle in degrees (N,) of the line from the image-left to the image-right eye, (N, 2, 2)."""
    left, right = np.moveaxis(np.asarray(eyes, np.float64).reshape(-1, 2, 2), 1, 0)
    angle: Floats = np.rad2deg(np.arctan2(*(right - left).T[::-1]))
    return angle


def rotation(angle: ArrayLike, width: int, height: int) -> Floats:
    """Matrices (N, 2, 3) that turn an image by `angle` degrees (N,) about its centre, so that such a line is level."""
    radians = np.deg2rad(np.atleast_1d(angle))
    cos, sin = np.cos(radians), np.sin(radians)
    x, y = width // 2, height // 2
    rows = [[cos, sin, (1 - cos) * x - sin * y], [-sin, cos, sin * x + (1 - cos) * y]]
    return np.moveaxis(np.array(rows, np.float64), -1, 0)


def bounds(points: ArrayLike, width: int, height: int) -> NDArray[np.int64]:
    """Smallest whole-pixel boxes (N, 4) around points (N, K, 2), inside the image."""
    points = np.asarray(points, np.float64)
    return _inside(np.concatenate([points.min(axis=1), points.max(axis=1)], axis=-1), width, height)


def bounds_of_face(points: ArrayLike, width: int, height: int) -> NDArray[np.int64]:
    """Boxes (N, 4) to crop for the next pass: around the 106 points (N, K, 2), a twentieth larger on every side."""
    points = np.asarray(points, np.float64)
    low = points.min(axis=1)
    size = points.max(axis=1) - low + 1
    low = np.maximum(np.trunc(low - _ENLARGE / 2 * size), 0)
    return _inside(np.concatenate([low, low + np.trunc((1 + _ENLARGE) * size)], axis=-1), width, height)


def crop(image: NDArray[np.uint8], corners: NDArray[np.int64]) -> NDArray[np.uint8]:
    """BGR crops (N, 96, 96, 3) of whole-pixel boxes (N, 4), stretched; black for an empty box."""
    crops = np.zeros((len(corners), INPUT, INPUT, 3), np.uint8)
    for out, (left, top, right, bottom) in zip(crops, corners, strict=True):
        if right > left and bottom > top:
            cv2.resize(image[top:bottom, left:right], (INPUT, INPUT), dst=out)
    return crops


def to_image(points: NDArray[Any], corners: NDArray[np.int64]) -> Floats:
    """Points (N, K, 2) in 96x96 crops to pixels of the image that was cropped."""
    low, size = corners[:, None, :2], (corners[:, 2:] - corners[:, :2])[:, None]
    moved: Floats = points * (size / INPUT) + low
    return moved


def _inside(corners: Floats, width: int, height: int) -> NDArray[np.int64]:
    limit = np.array([width, height, width, height])
    return np.clip(np.trunc(corners), 0, limit).astype(np.int64)
