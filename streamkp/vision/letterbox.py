"""Putting a whole image into a network's square input without changing its shape."""

from __future__ import annotations

import cv2
import numpy as np

from streamkp.packet import FloatArray, Image


def letterbox_corner(image: Image, out: Image, fill: int) -> float:
    """Scale `image` into the top-left corner of `out` (h, w, 3), the rest is `fill`; returns the scale.

    A point of `out` divided by the scale is that point of `image`.
    """
    height, width = out.shape[:2]
    scale: float = min(height / image.shape[0], width / image.shape[1])
    h = min(height, max(1, round(image.shape[0] * scale)))
    w = min(width, max(1, round(image.shape[1] * scale)))
    # Bilinear sampling skips pixels below half size; so do the reference pipelines of these networks.
    out[:h, :w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    out[h:] = fill
    out[:h, w:] = fill
    return scale


def boxes_to_source(boxes: FloatArray, scale: float, image: Image) -> FloatArray:
    """Boxes x0, y0, x1, y1 in the letterbox as x, y, w, h in the image, cut at its edges: (N, 4)."""
    edge = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    corners: FloatArray = np.clip(boxes / np.float32(scale), 0, edge)
    corners[:, 2:] -= corners[:, :2]
    return corners
