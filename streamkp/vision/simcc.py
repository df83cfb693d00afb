"""Before and after RTMPose (Jiang et al. 2023): crops, and keypoints from its two 1D distributions per joint.

The ONNX files of the RTMPose project take `input` (N, 3, 256, 192) and give `simcc_x` (N, K, 384) and `simcc_y`
(N, K, 512): SimCC (Li et al., ECCV 2022) with two bins per pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp.vision import affine

PADDING = 1.25
SPLIT = 2.0


def prepare(
    image: NDArray[np.uint8], boxes: ArrayLike, crop_size: affine.Size = (192, 256)
) -> tuple[NDArray[np.float32], affine.Floats]:
    """Network input (N, 3, H, W) for boxes (N, 4) x, y, w, h of a BGR image, and the matrices image -> crop."""
    matrices = affine.crop_matrix(*affine.crop_region(boxes, crop_size, PADDING), crop_size)
    return affine.network_input(affine.crop(image, matrices, crop_size)), matrices


def decode(
    simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32], split: float = SPLIT
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (N, K, 2) in crop pixels and scores (N, K), from the distributions (N, K, W split) and (N, K, H split).

    The score is the lower of the two maxima; a joint with none above zero lies at (-1, -1) / split, outside the crop.
    Raises ValueError when a maximum is NaN.
    """
    scores = np.minimum(simcc_x.max(axis=-1), simcc_y.max(axis=-1))
    if np.isnan(scores).any():
        raise ValueError("the network gave distributions with NaN: its weights or its input are not finite")
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1)
    points = (bins / split).astype(np.float32)
    points[scores <= 0] = -1 / split
    return points, scores


def to_image(points: NDArray[np.float32], matrices: affine.Floats) -> affine.Floats:
    """Crop points (N, K, 2) to image pixels, with the matrices of `prepare`."""
    return affine.transform(affine.invert(matrices), points)
