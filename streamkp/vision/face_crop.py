"""Where to crop a face for `mobilenetv2-face106`: upright, and around the points that were found before.

Follows EasyCV's face pipeline: the whole image is turned about its centre until the eyes are level, the enlarged box
is cropped and stretched to 96x96, and each further pass crops around the points of the last one. All coordinates are
image pixels; boxes here are corners (N, 4): left, top, right, bottom.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp.poses import Region
from streamkp.vision.affine import invert
from streamkp.vision.warp import warp

Floats = NDArray[np.float64]

INPUT = 96
MEAN = (0.4076 * 255, 0.458 * 255, 0.485 * 255)  # BGR, for affine.network_input(..., rgb=False)
STD = (255.0, 255.0, 255.0)
REFINEMENTS = 6  # the number of passes after the first in the reference
_ENLARGE = 0.1
_LARGEST = 1024  # side in pixels of a region that is turned at its own size
_EYES = (74, 83)  # centres of the image-left and the image-right eye


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


def enlarged_region(box: NDArray[np.float32]) -> Region:
    """The region of a box (4,) x, y, w, h, a tenth larger on every side, at least a pixel in size."""
    x, y, w, h = (float(v) for v in box)
    grown = 1 + 2 * _ENLARGE
    return np.array((x + w / 2, y + h / 2, max(w * grown, 1), max(h * grown, 1), 0), np.float32)


def upright_region(points: NDArray[np.float32], region: Region) -> Region:
    """Where to look next: around the 106 points (106, 2) in pixels of an upright crop of `region`, the eyes level.

    The same enlargement as `bounds_of_face`, without its whole pixels and its stop at the edge of the image.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    eyes = points[_EYES, :] * region[2:4]
    turn = np.arctan2(*(eyes[1] - eyes[0])[::-1])
    centre = upright_to_image(((low + high) / 2)[None], region)[0]
    size = (1 + _ENLARGE) * (high - low) * region[2:4] / INPUT
    return np.array((*centre, *np.maximum(size, 1), region[4] + turn), np.float32)


def crop_upright(image: NDArray[np.uint8], region: Region, out: NDArray[np.uint8]) -> None:
    """Fill `out` (96, 96, 3) with a turned region of the image, stretched, black outside the image.

    As in the reference the image is turned at its own size first and then scaled; for a region of whole pixels that
    is not turned the result is that of `crop`.
    """
    size = np.clip(np.rint(region[2:4]), 1, _LARGEST).astype(int)
    turned = np.empty((size[1], size[0], 3), np.uint8)
    warp(image, invert(_to_image(region, *size)[None])[0], turned)
    cv2.resize(turned, (INPUT, INPUT), dst=out)


def upright_to_image(points: NDArray[Any], region: Region) -> Floats:
    """Points (K, 2) in pixels of an upright crop to pixels of the image."""
    matrix = _to_image(region, INPUT, INPUT)
    moved: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _to_image(region: Region, width: int, height: int) -> Floats:
    """The matrix (2, 3) from a crop of the region, of that size in pixels, to the image."""
    cx, cy, w, h, angle = (float(v) for v in region)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([w / width, h / height])
    return np.column_stack([linear, np.array([cx, cy]) - linear @ (width / 2, height / 2)])


def _inside(corners: Floats, width: int, height: int) -> NDArray[np.int64]:
    limit = np.array([width, height, width, height])
    return np.clip(np.trunc(corners), 0, limit).astype(np.int64)
