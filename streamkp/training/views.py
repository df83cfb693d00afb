"""Cameras of every kind around a motion: phones, webcams, cameras on ceilings, far and near, held by hand.

What is known of a camera at work is its image size: the focal length is assumed. So a view gives the pixels that such
a camera makes, and the poses relative to the hip in its true axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from streamkp.motion.camera import Intrinsics
from streamkp.training import bones
from streamkp.training.randomness import Random, about, constant

SIZES = ((1920, 1080), (1280, 720), (640, 480), (1080, 1920), (1000, 1000), (1440, 1080))
VIEW = (35.0, 85.0)  # degrees along the longer side
DISTANCE = (1.8, 8.0)  # metres
HEIGHT = (0.2, 2.6)  # metres above the floor
CEILING, CEILING_HEIGHT = 0.3, (1.8, 4.5)
OFF_AXIS = 0.6  # of half the view: how far from the middle the person may be
ROLL, TILTED, TILT = 4.0, 0.35, 18.0  # degrees, standard deviation; share of cameras held askew, and theirs
BY_HAND, TREMOR = 0.2, 1.5  # share, degrees
NEAREST = 0.6  # metres
KNOWN = 0.25  # share of the windows whose focal length is known


@dataclass(frozen=True)
class Views:
    """`canonical` [B, T, 17, 2]: (pixel - centre) / assumed focal length; `poses` [B, T, 17, 3] relative to the hip,
    metres, camera axes; `pixel` [B]: the size of a pixel in canonical units.
    """

    canonical: Tensor
    poses: Tensor
    pixel: Tensor


def look(motion: Tensor, random: Random) -> Views:
    """A camera for each motion [B, T, 17, 3] (metres, y up)."""
    batch, frames = motion.shape[:2]
    size = random.integers(len(SIZES), batch)
    longer = constant(tuple(float(max(each)) for each in SIZES), random.device)[size]
    assumed = constant(tuple(Intrinsics.assumed(*each).focal[0] for each in SIZES), random.device)[size]
    half = random.uniform(math.radians(VIEW[0]), math.radians(VIEW[1]), batch) / 2
    focal = longer / 2 / half.tan()
    middle = motion[:, :, 0].mean(1)
    distance = random.uniform(math.log(DISTANCE[0]), math.log(DISTANCE[1]), batch).exp()
    ceiling = random.chance(CEILING, batch)
    height = torch.where(ceiling, random.uniform(*CEILING_HEIGHT, batch), random.uniform(*HEIGHT, batch))
    azimuth = random.uniform(0, 2 * math.pi, batch)
    floor = motion[..., 1].amin((1, 2))
    position = torch.stack(
        [middle[:, 0] + distance * azimuth.sin(), floor + height, middle[:, 2] + distance * azimuth.cos()], -1
    )
    axes = _toward(middle - position)
    aim = (half * OFF_AXIS)[:, None] * random.uniform(-1, 1, batch, 2)
    roll = torch.where(random.chance(TILTED, batch), TILT, ROLL) * math.pi / 180 * random.normal(batch)
    axes = about(2, roll) @ about(0, aim[:, 1]) @ about(1, aim[:, 0]) @ axes
    shaken = random.chance(BY_HAND, batch, 1, 1) * math.radians(TREMOR) * random.wander((batch, 2), frames, 12.0)
    axes = about(0, shaken[..., 0]) @ about(1, shaken[..., 1]) @ axes[:, None]
    seen = bones.turn(axes, motion - position[:, None, None])
    nearer = (NEAREST - seen[..., 2].amin((1, 2))).clamp(min=0)
    depth = seen[..., 2:] + nearer[:, None, None, None]
    assumed = torch.where(random.chance(KNOWN, batch), focal, assumed)
    canonical = seen[..., :2] / depth * (focal / assumed)[:, None, None, None]
    return Views(canonical, seen - seen[:, :, :1], 1 / assumed)


def _toward(directions: Tensor) -> Tensor:
    """Rotations [B, 3, 3], world with y up to level cameras (y down) that look along `directions` [B, 3]."""
    z = bones.unit(directions)
    x = bones.unit(torch.linalg.cross(z, constant((0.0, 1.0, 0.0), z.device).expand_as(z)))
    return torch.stack([x, torch.linalg.cross(z, x), z], -2)
