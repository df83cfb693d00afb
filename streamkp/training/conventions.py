"""The same person as different layouts name their joints.

Motion capture has its thorax at the base of the neck, its spine where the back bends, and two joints up the head.
What `streamkp.skeletons` turns into Human3.6M joints from the layouts of 2D networks lies elsewhere: the thorax midway
between the shoulders, the spine midway to the hips, nose and eyes in place of neck and head. The lifter learns all of
them, and gives back the joints that it was shown.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from streamkp.training import bones
from streamkp.training.bones import JOINT
from streamkp.training.randomness import Random, about, constant

SHARES = {"mocap": 0.4, "face": 0.5, "body15": 0.1}

# From the base of the skull, metres: mean and deviation (forward, up).
NOSE = ((0.105, 0.0), (0.015, 0.02))
EYES = ((0.085, 0.035), (0.012, 0.015))
HEAD_TURN = 0.35  # radians, standard deviation of where the head looks


def vary(motion: Tensor, random: Random) -> Tensor:
    """Each of the batch [B, T, 17, 3] (metres, y up) in a layout drawn by `SHARES`."""
    drawn = random.drawn(constant(tuple(SHARES.values()), random.device), len(motion))[:, None, None, None]
    return torch.where(drawn == 0, motion, torch.where(drawn == 1, face(motion, random), body15(motion)))


def face(motion: Tensor, random: Random) -> Tensor:
    """As converted from COCO or BlazePose."""
    batch, frames = motion.shape[:2]
    neck, head = motion[..., JOINT["neck_nose"], :], motion[..., JOINT["head"], :]
    across = motion[..., JOINT["left_shoulder"], :] - motion[..., JOINT["right_shoulder"], :]
    looks = HEAD_TURN * (random.normal(batch, 1, 2) + random.wander((batch, 2), frames, 24.0)) / math.sqrt(2)
    axes = bones.frame(across, head - neck) @ about(1, looks[..., 0]) @ about(0, 0.6 * looks[..., 1])
    places = []
    for mean, deviation in (NOSE, EYES):
        forward, up = (m + d * random.normal(batch, 1) for m, d in zip(mean, deviation, strict=True))
        places.append(neck + axes[..., 2] * forward[..., None] + axes[..., 1] * up[..., None])
    return bones.replaced(_trunk(motion), (JOINT["neck_nose"], JOINT["head"]), torch.stack(places, -2))


def body15(motion: Tensor) -> Tensor:
    """As converted from body15: neck_nose midway from the thorax to the head."""
    out = _trunk(motion)
    middle = (out[..., JOINT["thorax"], :] + out[..., JOINT["head"], :]) / 2
    return bones.replaced(out, (JOINT["neck_nose"],), middle[..., None, :])


def _trunk(motion: Tensor) -> Tensor:
    thorax = (motion[..., JOINT["left_shoulder"], :] + motion[..., JOINT["right_shoulder"], :]) / 2
    spine = (motion[..., JOINT["hip"], :] + thorax) / 2
    return bones.replaced(motion, (JOINT["spine"], JOINT["thorax"]), torch.stack([spine, thorax], -2))
