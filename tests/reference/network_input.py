"""Crops as the input of a network, in numpy; in the program the runtime does this (`runtimes.base.Pixels`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamkp.vision.affine import IMAGENET_MEAN, IMAGENET_STD


def network_input(
    crops: NDArray[np.uint8],
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    rgb: bool = True,
) -> NDArray[np.float32]:
    """BGR crops (N, H, W, 3) to a network's input (N, 3, H, W) float32: (pixel - mean) / std.

    `mean` and `std` are in the order of the network's channels, in the range 0..255; `rgb` says that order is RGB.
    """
    channels = crops[..., ::-1] if rgb else crops
    pixels = np.ascontiguousarray(channels.transpose(0, 3, 1, 2), np.float32)
    pixels -= np.array(mean, np.float32)[:, None, None]
    pixels /= np.array(std, np.float32)[:, None, None]
    return pixels
