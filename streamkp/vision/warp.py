"""Affine warping of images of any size: OpenCV's own stops at 32,767 pixels a side."""

from __future__ import annotations

from math import isfinite
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.packet import Image

_LIMIT = 32766  # of a side, in cv2.warpAffine
_MARGIN = 2  # pixels around the region that bilinear sampling may touch
_LINE = 21  # pixels of 3 bytes in a cache line of 64
_DENSE = 4.0  # image pixels to a pixel of the crop; above it most lines of the image are not read


def warp(image: Image, matrix: NDArray[Any], out: Image, border: int = cv2.BORDER_CONSTANT) -> None:
    """Fill `out` (h, w, 3) from `image`, bilinear; `matrix` (2, 3) maps image pixels to pixels of `out`.

    `border` is OpenCV's border mode; the constant is black. Of an image beyond OpenCV's limit only the part around
    the region is used, and if that is beyond it too, every n-th pixel.
    """
    height, width = out.shape[:2]
    if max(image.shape[:2]) > _LIMIT:
        image, matrix = _part(image, np.asarray(matrix, np.float64), width, height)
    _fetch(image, matrix, width, height)
    cv2.warpAffine(image, matrix, (width, height), dst=out, flags=cv2.INTER_LINEAR, borderMode=border)


def _fetch(image: Image, matrix: NDArray[Any], width: int, height: int) -> None:
    """Bring the part of the image that is about to be read into this core's cache, in the order of memory.

    A frame that another core has just decoded is in that one's cache. OpenCV goes through it in tiles along the turned
    region, which no hardware prefetcher can follow: waiting for memory takes longer than the warping itself.
    """
    (a, b, c), (d, e, f) = matrix.tolist()
    area = a * e - b * d
    if abs(area) * _DENSE**2 < 1:
        return
    corners = [(u - c, v - f) for u in (0, width) for v in (0, height)]
    xs = [(e * u - b * v) / area for u, v in corners]
    ys = [(a * v - d * u) / area for u, v in corners]
    if not isfinite(sum(xs) + sum(ys)):
        return
    left, right = max(0, int(min(xs))), int(max(xs)) + _MARGIN
    top, bottom = max(0, int(min(ys))), int(max(ys)) + _MARGIN
    lines = image[top : max(bottom, 0), left : max(right, 0) : _LINE, 0]
    if lines.size:
        lines.max()


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
