"""Affine warping of images of any size: OpenCV's own stops at 32,767 pixels a side."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.packet import Image

_LIMIT = 32766  # of a side, in cv2.warpAffine
_MARGIN = 2  # pixels around the region that bilinear sampling may touch


def warp(image: Image, matrix: NDArray[Any], out: Image, border: int = cv2.BORDER_CONSTANT) -> None:
    """Fill `out` (h, w, 3) from `image`, bilinear; `matrix` (2, 3) maps image pixels to pixels of `out`.

    `border` is OpenCV's border mode; the constant is black. Of an image beyond OpenCV's limit only the part around
    the region is used, and if that is beyond it too, every n-th pixel.
    """
    height, width = out.shape[:2]
    if max(image.shape[:2]) > _LIMIT:
        image, matrix = _part(image, np.asarray(matrix, np.float64), width, height)
    cv2.warpAffine(image, matrix, (width, height), dst=out, flags=cv2.INTER_LINEAR, borderMode=border)


def _part(image: Image, matrix: NDArray[np.float64], width: int, height: int) -> tuple[Image, NDArray[np.float64]]:
    """The part of the image that lands in `width` x `height`, and the matrix for it."""
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) - matrix[:, 2]
    in_image = np.linalg.solve(matrix[:, :2], corners.T).T
    size = np.array(image.shape[1::-1])
    left, top = np.clip(np.floor(in_image.min(axis=0)) - _MARGIN, 0, size - 1).astype(int)
    right, bottom = np.clip(np.ceil(in_image.max(axis=0)) + _MARGIN, (left + 1, top + 1), size).astype(int)
    step = -(-max(right - left, bottom - top) // _LIMIT)
    part = np.ascontiguousarray(image[top:bottom:step, left:right:step])
    linear = matrix[:, :2] * step
    return part, np.column_stack([linear, matrix[:, :2] @ (left, top) + matrix[:, 2]])
