"""What ModelScope's canonical-pose pipeline (TPNet) does before its networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.motion.camera import Intrinsics, canonical_coordinates, screen_coordinates
from streamkp.motion.sliding_window import pad_edges

Floats = NDArray[np.floating[Any]]


def network_inputs(
    points: Floats,
    camera: Intrinsics,
    size: tuple[int, int],
    padding: tuple[int, int],
    offsets: bool = False,
    canonical: bool = True,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A pixel sequence to what the pose network and the trajectory network read.

    Args:
        points: [T, 17, 2] pixels, Human3.6M joints.
        size: image width and height.
        padding: frames to repeat before and after: the network's `padding`.
        offsets: USE_2D_OFFSETS, poses relative to their root instead of screen coordinates.
        canonical: USE_CANONICAL_COORDS; without it the reference adds the root to the other joints (of the
            canonical coordinates all the same), and the weights were trained with that.

    Returns two arrays [1, T + sum(padding), 17, 2].
    """
    screen = screen_coordinates(points, *size)
    if offsets:
        screen = screen - screen[:, :1]
    plane = canonical_coordinates(points, camera)
    if not canonical:
        plane = np.concatenate([plane[:, :1], plane[:, 1:] + plane[:, :1]], 1)
    pose, trajectory = (pad_edges(sequence, *padding)[None].astype(np.float32) for sequence in (screen, plane))
    return pose, trajectory
