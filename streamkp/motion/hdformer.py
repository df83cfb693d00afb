"""What ModelScope's HDFormer pipeline does before and after the network."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.motion.camera import Intrinsics, canonical_coordinates
from streamkp.motion.mirror import flip_average, mirror

FRAMES = 96
STEP = 5  # frames between windows in the training configuration
MILLIMETRES = 1000.0

Floats = NDArray[np.floating[Any]]
_H36M17 = skeletons.get("h36m17")


def network_inputs(
    points: Floats, camera: Intrinsics, mean: Floats, std: Floats
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pixel windows to the network's input, and the same for the mirrored person.

    Args:
        points: [B, T, 17, 2] pixels, Human3.6M joints.
        mean, std: [17, 2] statistics of canonical coordinates, from mean_std_2d.npy.

    Returns two arrays [B, 2, T, 17].
    """
    # The reference counts pixels from their corners: the middle of the first is 0.5.
    canonical = canonical_coordinates(np.asarray(points, np.float64) - 0.5, camera)

    def scaled(poses: Floats) -> NDArray[np.float32]:
        return np.moveaxis((poses - mean) / std, -1, -3).astype(np.float32)

    return scaled(canonical), scaled(mirror(canonical, _H36M17))


def network_outputs(plain: Floats, flipped: Floats) -> Floats:
    """The network's outputs [B, 3, T, 17] in millimetres, for both inputs, to poses [B, T, 17, 3] in metres.

    Camera axes; the root is where the statistics put it (near the origin), and is not moved.
    """
    poses = [np.moveaxis(output, -3, -1) for output in (plain, flipped)]
    return flip_average(poses[0], poses[1], _H36M17) / MILLIMETRES
