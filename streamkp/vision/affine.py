"""From a box in the image to the crop that a network sees, and back.

A crop is defined by its centre and size in the image, (N, 2) each, and made by a 2x3 matrix that maps image pixels to
crop pixels. Boxes are (N, 4): x, y, w, h in image pixels; they may lie partly or wholly outside the image, where the
crop is black. Sizes in pixels are (width, height). The conventions are those of MMPose 1.x: no half-pixel shift.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp.vision.warp import warp

Array = NDArray[Any]
Floats = NDArray[np.float64]
Size = tuple[int, int]

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # RGB, of pixels in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


def crop_region(boxes: ArrayLike, crop_size: Size, padding: float = 1.25) -> tuple[Floats, Floats]:
    """Centre and size (N, 2) of the region to crop: the box widened to the crop's aspect ratio and padded.

    A side of less than a pixel counts as one pixel. Raises ValueError when a box is not finite.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes must be finite numbers, got {boxes[~np.isfinite(boxes).all(axis=1)][0].tolist()}")
    centre: Floats = boxes[:, :2] + boxes[:, 2:] / 2
    width, height = (np.maximum(boxes[:, 2:], 1) * padding).T
    aspect = crop_size[0] / crop_size[1]
    size: Floats = np.stack([np.maximum(width, height * aspect), np.maximum(height, width / aspect)], axis=-1)
    return centre, size


def crop_matrix(centre: Floats, size: Floats, crop_size: Size, rotation: ArrayLike = 0.0) -> Floats:
    """Matrices (N, 2, 3) from image to crop pixels: the region, turned by `rotation` degrees, becomes upright.

    `rotation` is one number or (N,); positive turns from x towards y. The scale is that of the widths.
    """
    scale = crop_size[0] / size[:, 0]
    return _matrix(centre, np.deg2rad(rotation), np.stack([scale, scale], axis=-1), np.array(crop_size) / 2)


def _matrix(centre: Floats, radians: ArrayLike, scale: Floats, target: Array) -> Floats:
    cos, sin = np.broadcast_to(np.cos(radians), len(centre)), np.broadcast_to(np.sin(radians), len(centre))
    linear = scale[:, :, None] * np.stack([cos, sin, -sin, cos], axis=-1).reshape(-1, 2, 2)
    shift = target - np.einsum("nij,nj->ni", linear, centre)
    matrix: Floats = np.concatenate([linear, shift[:, :, None]], axis=-1)
    return matrix


def invert(matrices: Floats) -> Floats:
    """Inverse of each 2x3 matrix (N, 2, 3): crop to image."""
    linear = np.linalg.inv(matrices[:, :, :2])
    inverse: Floats = np.concatenate([linear, -linear @ matrices[:, :, 2:]], axis=-1)
    return inverse


def transform(matrices: Floats, points: Array) -> Floats:
    """Points (N, K, 2) through the matrices (N, 2, 3), one matrix for all K points of a crop."""
    moved: Floats = np.einsum("nij,nkj->nki", matrices[:, :, :2], points) + matrices[:, None, :, 2]
    return moved


def crop(image: NDArray[np.uint8], matrices: Floats, crop_size: Size) -> NDArray[np.uint8]:
    """Crops (N, H, W, 3) of an image, uint8, bilinear, black outside the image."""
    crops = np.empty((len(matrices), crop_size[1], crop_size[0], image.shape[2]), np.uint8)
    for matrix, out in zip(matrices, crops, strict=True):
        warp(image, matrix, out)
    return crops
