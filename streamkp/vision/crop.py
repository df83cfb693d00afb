"""Cutting a turned region out of an image, and taking points of the crop back to the image.

Pixel (0, 0) of the crop is the region's corner itself, not half a pixel inside it: MediaPipe's convention, which its
networks were trained with.
"""

from __future__ import annotations

from math import cos, sin

import cv2
import numpy as np

from streamkp.packet import FloatArray, Image
from streamkp.poses import Region
from streamkp.vision.warp import warp


def crop(image: Image, region: Region, out: Image, border: int = cv2.BORDER_REPLICATE) -> None:
    """Fill `out` (h, w, 3) with the region of `image`, bilinear, in one pass; `border` is OpenCV's border mode."""
    height, width = out.shape[:2]
    cx, cy, w, h, angle = (float(v) for v in region)
    xx, xy = cos(angle) * w / width, -sin(angle) * h / height
    yx, yy = sin(angle) * w / width, cos(angle) * h / height
    to_source = np.array(
        [
            [xx, xy, cx - xx * width / 2 - xy * height / 2],
            [yx, yy, cy - yx * width / 2 - yy * height / 2],
        ]
    )
    warp(image, cv2.invertAffineTransform(to_source), out, border)


def points_to_source(points: FloatArray, regions: FloatArray) -> FloatArray:
    """Points (N, K, 2) in units of the crop's size, one crop per region (N, 5), as source pixels (N, K, 2)."""
    return turn((points - np.float32(0.5)) * regions[:, None, 2:4], regions[:, 4]) + regions[:, None, :2]


def turn(points: FloatArray, angles: FloatArray) -> FloatArray:
    """Points (N, K, 2) turned about the origin by one angle per row (N,): x towards y."""
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y = points[..., 0], points[..., 1]
    return np.stack((c * x - s * y, s * x + c * y), axis=-1)
