"""HDFormer of streamkp: every person in a normalised camera view, scores as input, 16 frames at 30 Hz.

The pose relative to the camera must not depend on where in the image a person stands, although a person off the
middle is seen from the side. So each window is turned to a virtual camera whose axis goes through the person (cf. Yu
et al., "PCLs: Geometry-aware Neural Reconstruction of 3D Pose with Perspective Crop Layers", CVPR 2021) and scaled by
the person's size; the poses that come out are turned back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.motion.camera import Intrinsics, canonical_coordinates
from streamkp.motion.root import locate_all

Floats = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

FRAMES = 16  # longer windows cost more and were no better, least of all in fast turns: see docs/hdformer-streamkp.md
RATE = 30.0  # Hz, of the motion capture that it is trained on
CHANNELS = 4  # x, y, score, logarithm of the person's size
NEAREST = 0.2  # what lies further off the virtual axis than atan(1 / NEAREST) is taken to lie there
SMALLEST = 1e-4  # of a person's size, in focal lengths
_MIRROR = list(skeletons.get("h36m17").mirror)


class PersonViewNetwork:
    """A `WindowNetwork` around the network itself.

    `run` takes float32 (B, 4, 16, 17) and gives (B, 3, 16, 17). With `flip` it is averaged with the mirrored person.
    """

    frames = FRAMES
    rate = RATE

    def __init__(self, run: Callable[[Float32], Float32], *, flip: bool = True, trajectory: bool = False) -> None:
        self._run, self._flip, self._trajectory = run, flip, trajectory

    def rows(
        self, windows: Floats, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[Floats, Floats | None]:
        """See `WindowNetwork`."""
        pixels, scores = windows[..., :2], windows[..., 2]
        canonical = np.stack([canonical_coordinates(p, camera) for p, camera in zip(pixels, cameras, strict=True)])
        inputs, turns = network_inputs(canonical, scores)
        if self._flip:
            inputs = np.concatenate([inputs, mirrored(inputs)])
        raw: Floats = self._run(inputs)[:, :, start:stop]
        if self._flip:
            raw = (raw[: len(windows)] + mirrored(raw[len(windows) :])) / 2
        poses = network_outputs(raw, turns)
        return poses, locate_all(poses, windows[:, start:stop], cameras) if self._trajectory else None


def network_inputs(canonical: Floats, scores: Floats) -> tuple[Float32, Floats]:
    """Windows of 2D poses to the network's input and the rotation to each virtual camera.

    Args:
        canonical: (B, T, 17, 2), (pixel - centre) / focal length, Human3.6M joints.
        scores: (B, T, 17), 0..1.

    Returns (B, 4, T, 17) and rotations (B, 3, 3), camera axes to virtual camera. Joint 0 carries the path of the
    hip; the others are relative to it.
    """
    rays = np.concatenate([canonical, np.ones_like(canonical[..., :1])], -1)
    turns = _look_along(rays[:, :, 0].mean(1))
    seen = np.einsum("bij,btkj->btki", turns, rays)
    plane = seen[..., :2] / np.maximum(seen[..., 2:], NEAREST)
    hip = plane[:, :, :1]
    around = plane - hip
    weights = np.clip(scores, 0.05, 1.0)
    squared = ((around**2).sum(-1) * weights).sum((1, 2)) / weights.sum((1, 2))
    size = np.maximum(np.sqrt(squared), SMALLEST)
    around[:, :, :1] = hip
    out = np.empty((len(canonical), CHANNELS, *scores.shape[1:]), np.float32)
    out[:, :2] = np.moveaxis(around / size[:, None, None, None], -1, 1)
    out[:, 2] = scores
    out[:, 3] = np.log(size)[:, None, None]
    return out, turns


def mirrored(inputs: Float32) -> Float32:
    """Inputs (B, C, T, 17) of the mirrored person; also for outputs. x is the first channel."""
    flipped: Float32 = inputs[..., _MIRROR]
    flipped[:, 0] *= -1
    return flipped


def network_outputs(raw: Floats, turns: Floats) -> Floats:
    """The network's (B, 3, T, 17) in metres, virtual camera, to poses (B, T, 17, 3) in the camera's axes."""
    out: Floats = np.einsum("bji,bjtk->btki", turns, raw)
    return out


def _look_along(directions: Floats) -> Floats:
    """Rotations (B, 3, 3) to level cameras (no roll) that look along `directions` (B, 3), given z forward, y down."""
    z = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    x = np.cross(np.broadcast_to([0.0, 1.0, 0.0], z.shape), z)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], -2)
