"""Cameras to look at motion capture with: unknown to every model, the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from streamkp.motion import camera
from streamkp.motion.camera import Intrinsics

Floats = NDArray[np.floating[Any]]

SIZES = ((1920, 1080), (1280, 720), (1080, 1920), (1000, 1000), (1440, 1080))
VIEW = (40.0, 75.0)  # degrees along the longer side
DISTANCE = (2.5, 6.0)  # metres from the middle of the motion
HEIGHT = (0.4, 2.4)  # metres above the floor
AIM = 4.0  # degrees, standard deviation of the aim off the middle of the motion, across and up
ROLL = 4.0  # degrees, standard deviation
NEAREST = 0.8  # metres before the camera that a joint must keep


@dataclass(frozen=True)
class PlacedCamera:
    """A camera in a world with y up: unit quaternion (w, x, y, z), camera to world, and position in metres."""

    size: tuple[int, int]
    lens: Intrinsics
    orientation: Floats
    position: Floats

    def see(self, world: Floats) -> tuple[Floats, Floats]:
        """World points [..., 3] to pixels [..., 2] and camera space [..., 3]."""
        seen = camera.world_to_camera(world, self.orientation, self.position)
        return camera.project(seen, self.lens.focal, self.lens.centre), seen


def draw(world: Floats, random: np.random.Generator) -> PlacedCamera:
    """A camera that has nearly the whole motion [T, J, 3] (metres, y up) in its image.

    Lens, distance, height, direction, aim and roll are drawn; a camera that is too near steps back.
    """
    size = SIZES[random.integers(len(SIZES))]
    focal = max(size) / 2 / np.tan(np.radians(random.uniform(*VIEW)) / 2)
    lens = Intrinsics((focal, focal), (size[0] / 2, size[1] / 2))
    azimuth, distance, height = random.uniform(0, 2 * np.pi), random.uniform(*DISTANCE), random.uniform(*HEIGHT)
    across, up = np.clip(random.normal(scale=AIM, size=2), -8, 8)
    roll = random.normal(scale=ROLL)
    middle = (world.min((0, 1)) + world.max((0, 1))) / 2
    away = np.array([np.sin(azimuth), 0, np.cos(azimuth)])
    while True:
        position = middle + distance * away
        position[1] = height
        view = PlacedCamera(size, lens, _orientation(middle - position, across, up, roll), position)
        pixels, seen = view.see(world)
        inside = ((pixels >= 0) & (pixels < size)).all(-1)
        if seen[..., 2].min() > NEAREST and inside.mean() > 0.98:
            return view
        distance *= 1.1


def _orientation(forward: Floats, across: float, up: float, roll: float) -> Floats:
    """Quaternion of a camera (x right, y down, z forward) turned by degrees off a level view along `forward`."""
    z = forward / np.linalg.norm(forward)
    x = np.cross(z, [0.0, 1.0, 0.0])
    x /= np.linalg.norm(x)
    level = Rotation.from_matrix(np.stack([x, np.cross(z, x), z], -1))
    x_, y_, z_, w_ = (level * Rotation.from_euler("yxz", (across, up, roll), degrees=True)).as_quat()
    return np.array([w_, x_, y_, z_])
