"""The heatmaps that a network is trained to give, as MMPose makes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Size = tuple[int, int]


def gaussian_targets(
    points: Floats, input_size: Size, heatmap_size: Size, sigma: float = 2.0, unbiased: bool = False
) -> Floats:
    """Training heatmaps (N, K, H, W), 1 at the joint, from points (N, K, 2) in crop pixels.

    The Gaussian sits on the nearest heatmap pixel and ends 3 `sigma` away from it on each axis; `unbiased` (DARK)
    puts it on the joint itself and does not end it. A joint further than 3 sigma outside gives zeros.
    """
    width, height = heatmap_size
    centre: NDArray[np.float32] = points * (np.array(heatmap_size, np.float32) / np.array(input_size, np.float32))
    if not unbiased:
        centre = np.trunc(centre + 0.5)
    reach = 3 * sigma
    low, high = centre - reach, centre + reach + 1
    visible: NDArray[np.bool_] = np.all((low < heatmap_size) & (high >= 0), axis=-1)
    dx = np.arange(width, dtype=np.float32) - centre[..., 0, None]
    dy = np.arange(height, dtype=np.float32) - centre[..., 1, None]
    columns, rows = np.exp(-(dx**2) / (2 * sigma**2)), np.exp(-(dy**2) / (2 * sigma**2))
    if not unbiased:
        columns, rows = columns * (np.abs(dx) <= reach), rows * (np.abs(dy) <= reach)
    targets: Floats = (rows[..., :, None] * columns[..., None, :] * visible[..., None, None]).astype(np.float32)
    return targets
