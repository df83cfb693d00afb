"""The same person as different layouts name their joints.

Motion capture has its thorax at the base of the neck, its spine where the back bends, and two joints up the head.
What `streamkp.skeletons` turns into Human3.6M joints from the layouts of 2D networks lies elsewhere: the thorax midway
between the shoulders, the spine midway to the hips, nose and eyes in place of neck and head. The lifter learns all of
them, and gives back the joints that it was shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.training import bones
from streamkp.training.bones import JOINT
from streamkp.training.randomness import about, wander

Floats = NDArray[np.floating[Any]]

SHARES = {"mocap": 0.4, "face": 0.5, "body15": 0.1}

# From the base of the skull, metres: mean and deviation (forward, up).
NOSE = ((0.105, 0.0), (0.015, 0.02))
EYES = ((0.085, 0.035), (0.012, 0.015))
HEAD_TURN = 0.35  # radians, standard deviation of where the head looks


def vary(motion: Floats, random: np.random.Generator) -> Floats:
    """Each of the batch [B, T, 17, 3] (metres, y up) in a layout drawn by `SHARES`."""
    drawn = random.choice(len(SHARES), len(motion), p=list(SHARES.values()))
    forms = np.stack([motion, face(motion, random), body15(motion)])
    return forms[drawn, np.arange(len(motion))]


def face(motion: Floats, random: np.random.Generator) -> Floats:
    """As converted from COCO or BlazePose."""
    batch, frames = motion.shape[:2]
    out = _trunk(motion)
    neck, head = motion[..., JOINT["neck_nose"], :], motion[..., JOINT["head"], :]
    across = motion[..., JOINT["left_shoulder"], :] - motion[..., JOINT["right_shoulder"], :]
    looks = HEAD_TURN * (random.standard_normal((batch, 1, 2)) + wander(random, (batch, 2), frames, 24.0)) / np.sqrt(2)
    axes = bones.frame(across, head - neck) @ about(1, looks[..., 0]) @ about(0, 0.6 * looks[..., 1])
    for joint, (mean, deviation) in (("neck_nose", NOSE), ("head", EYES)):
        forward, up = random.normal(mean, deviation, (batch, 2)).T
        offset = np.stack([np.zeros(batch), up, forward], -1)
        out[..., JOINT[joint], :] = neck + np.einsum("btij,bj->bti", axes, offset)
    return out


def body15(motion: Floats) -> Floats:
    """As converted from body15: neck_nose midway from the thorax to the head."""
    out = _trunk(motion)
    out[..., JOINT["neck_nose"], :] = (out[..., JOINT["thorax"], :] + out[..., JOINT["head"], :]) / 2
    return out


def _trunk(motion: Floats) -> Floats:
    out = motion.copy()
    thorax = (motion[..., JOINT["left_shoulder"], :] + motion[..., JOINT["right_shoulder"], :]) / 2
    out[..., JOINT["thorax"], :] = thorax
    out[..., JOINT["spine"], :] = (motion[..., JOINT["hip"], :] + thorax) / 2
    return out
