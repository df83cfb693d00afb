"""The anchors of MediaPipe's single-shot detectors: of one size, in the middle of the cells of several grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamkp.packet import FloatArray


def square_anchors(size: int, strides: Sequence[int], each: int = 2) -> FloatArray:
    """Anchor centres x, y (N, 2), read-only, in units of the input's size, which is `size` pixels.

    `strides` are those of the layers in pixels of the input, ascending; layers of the same stride share a grid. There
    are `each` anchors for a cell and layer.
    """
    grids = []
    for stride in dict.fromkeys(strides):
        cells = size // stride
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack((x, y), axis=-1).reshape(-1, 2) + 0.5) / cells
        grids.append(np.repeat(centres, each * list(strides).count(stride), axis=0))
    found: FloatArray = np.concatenate(grids).astype(np.float32)
    found.flags.writeable = False
    return found
