"""Whatever people call an image, as the uint8 BGR that everything here works on."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.packet import Image


def as_bgr(image: NDArray[Any]) -> Image:
    """An image as uint8 (H, W, 3) BGR, C-contiguous; one that is so already is returned as it is.

    Takes (H, W) or (H, W, 1) grey, (H, W, 3) BGR and (H, W, 4) BGRA in OpenCV's order, alpha being ignored; of uint8,
    uint16 (0..65535), bool, or floating numbers in 0..1. Raises `UsageError`, saying what is wrong, for anything
    else: floating numbers outside 0..1 or not finite, other types, no pixels, channels first.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"an image is a numpy array of shape (height, width, 3), not {type(image).__name__}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
        hint = "; channels come last: use image.transpose(1, 2, 0)" if first else ""
        raise UsageError(f"an image has shape (height, width) or (height, width, 1, 3 or 4), not {image.shape}{hint}")
    if image.size == 0:
        raise UsageError(f"the image has no pixels: its shape is {image.shape}")
    pixels = _bytes(image)
    bgr: Image
    if channels == 1:
        bgr = cv2.cvtColor(pixels.reshape(image.shape[:2]), cv2.COLOR_GRAY2BGR)
    else:
        bgr = np.ascontiguousarray(pixels if channels == 3 else pixels[:, :, :3])
    return bgr


def _bytes(image: NDArray[Any]) -> Image:
    pixels: Image
    if image.dtype == np.uint8:
        pixels = image
    elif image.dtype == bool:
        pixels = image.astype(np.uint8) * np.uint8(255)
    elif image.dtype == np.uint16:
        pixels = np.right_shift(image, 8).astype(np.uint8)
    elif np.issubdtype(image.dtype, np.floating):
        low, high = float(image.min()), float(image.max())  # NaN if any is
        if not (low >= 0 and high <= 1):
            raise UsageError(
                f"an image of floating numbers has values in 0..1; this one has {low:g}..{high:g}"
                " (for 0..255 use image.astype('uint8'))"
            )
        pixels = np.rint(image * 255).astype(np.uint8)
    else:
        raise UsageError(f"an image is of uint8, uint16 or floating numbers, not {image.dtype}")
    return pixels
