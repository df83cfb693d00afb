"""Cameras of every kind around a motion: phones, webcams, cameras on ceilings, far and near, held by hand.

What is known of a camera at work is its image size: the focal length is assumed. So a view gives the pixels that such
a camera makes, and the poses relative to the hip in its true axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.motion.camera import Intrinsics
from streamkp.training import bones
from streamkp.training.randomness import about, chance, wander

Floats = NDArray[np.floating[Any]]

SIZES = ((1920, 1080), (1280, 720), (640, 480), (1080, 1920), (1000, 1000), (1440, 1080))
VIEW = (35.0, 85.0)  # degrees along the longer side
DISTANCE = (1.8, 8.0)  # metres
HEIGHT = (0.2, 2.6)  # metres above the floor
CEILING, CEILING_HEIGHT = 0.3, (1.8, 4.5)
OFF_AXIS = 0.6  # of half the view: how far from the middle the person may be
ROLL, TILTED, TILT = 4.0, 0.35, 18.0  # degrees, standard deviation; share of cameras held askew, and theirs
BY_HAND, TREMOR = 0.2, 1.5  # share, degrees
NEAREST = 0.6  # metres
KNOWN = 0.15  # share of the windows whose focal length is known


@dataclass(frozen=True)
class Views:
    """`canonical` [B, T, 17, 2]: (pixel - centre) / assumed focal length; `poses` [B, T, 17, 3] relative to the hip,
    metres, camera axes; `pixel` [B]: the size of a pixel in canonical units.
    """

    canonical: Floats
    poses: Floats
    pixel: Floats


def look(motion: Floats, random: np.random.Generator) -> Views:
    """A camera for each motion [B, T, 17, 3] (metres, y up)."""
    batch, frames = motion.shape[:2]
    size = np.array(SIZES)[random.integers(len(SIZES), size=batch)]
    longer = size.max(1).astype(float)
    half = np.radians(random.uniform(*VIEW, batch)) / 2
    focal = longer / 2 / np.tan(half)
    middle = motion[:, :, 0].mean(1)
    near, far = np.log(DISTANCE)
    distance = np.exp(random.uniform(near, far, batch))
    height = np.where(
        chance(random, CEILING, batch), random.uniform(*CEILING_HEIGHT, batch), random.uniform(*HEIGHT, batch)
    )
    azimuth = random.uniform(0, 2 * np.pi, batch)
    away = np.stack([np.sin(azimuth), np.zeros(batch), np.cos(azimuth)], -1)
    position = middle + distance[:, None] * away
    position[:, 1] = motion[..., 1].min((1, 2)) + height
    axes = _toward(middle - position)
    aim = (half * OFF_AXIS)[:, None] * random.uniform(-1, 1, (batch, 2))
    roll = np.radians(np.where(chance(random, TILTED, batch), TILT, ROLL) * random.standard_normal(batch))
    axes = about(2, roll) @ about(0, aim[:, 1]) @ about(1, aim[:, 0]) @ axes
    tremor = np.radians(TREMOR) * chance(random, BY_HAND, batch)[:, None, None]
    shaken = tremor * wander(random, (batch, 2), frames, 12.0)
    axes = about(0, shaken[..., 0]) @ about(1, shaken[..., 1]) @ axes[:, None]
    seen = bones.turn(axes, motion - position[:, None, None])
    nearest = seen[..., 2].min((1, 2))
    seen[..., 2] += np.maximum(NEAREST - nearest, 0)[:, None, None]
    assumed = np.array([Intrinsics.assumed(*each).focal[0] for each in size])
    assumed = np.where(chance(random, KNOWN, batch), focal, assumed)
    canonical = seen[..., :2] / seen[..., 2:] * (focal / assumed)[:, None, None, None]
    return Views(canonical, seen - seen[:, :, :1], 1 / assumed)


def _toward(directions: Floats) -> Floats:
    """Rotations [B, 3, 3], world with y up to level cameras (y down) that look along `directions` [B, 3]."""
    z = bones.unit(directions)
    x = bones.unit(np.cross(z, np.broadcast_to([0.0, 1.0, 0.0], z.shape)))
    return np.stack([x, np.cross(z, x), z], -2)
