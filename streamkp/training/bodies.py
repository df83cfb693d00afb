"""More motions and bodies from recorded ones.

Limbs of one recording on the body of another (cf. Li et al., "Cascaded deep monocular 3D human pose estimation with
evolutionary training data", CVPR 2020), other bone lengths, other directions of the limbs (cf. Gong et al.,
"PoseAug", CVPR 2021), and whole bodies turned over. A limb is moved as a whole, in the frame of the pelvis or chest
it hangs on, so that knees and elbows bend as somebody's did.

Motions are [B, T, 17, 3] in metres, y up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.training import bones
from streamkp.training.randomness import about, chance, rotations, wander

Floats = NDArray[np.floating[Any]]

MIRRORED = 0.5  # shares of the windows
OTHER_UPPER_BODY, OTHER_ARM, BENT_LIMBS, LEANING, TURNED_OVER = 0.25, 0.15, 0.5, 0.25, 0.1
LIMB_BEND = {"arm": 0.4, "leg": 0.3}  # radians, standard deviation
LEAN = 0.5
SIZE, PART = 0.06, 0.1  # standard deviation of the logarithm of a length
BUILD = 0.14  # radians, standard deviation: where a body has its shoulders, hips and neck

# Bones that grow together; left and right alike.
_PARTS = (
    bones.bones_to("left_hip", "right_hip"),
    bones.LEG["left"][:1] + bones.LEG["right"][:1],
    bones.LEG["left"][1:] + bones.LEG["right"][1:],
    bones.bones_to("spine", "thorax"),
    bones.bones_to("neck_nose", "head"),
    bones.bones_to("left_shoulder", "right_shoulder"),
    bones.ARM["left"][:1] + bones.ARM["right"][:1],
    bones.ARM["left"][1:] + bones.ARM["right"][1:],
)
_MIRROR = list(skeletons.get("h36m17").mirror)


def vary(motion: Floats, random: np.random.Generator) -> Floats:
    """Other people doing other things: [B, T, 17, 3] -> the same shape."""
    batch = len(motion)
    motion = mirror(motion, chance(random, MIRRORED, batch))
    directions, lengths = bones.split(motion)
    other = random.permutation(batch)
    directions = _exchange_upper_body(directions, other, chance(random, OTHER_UPPER_BODY, batch))
    for side in ("left", "right"):
        directions = _exchange_arm(directions, random.permutation(batch), side, chance(random, OTHER_ARM, batch))
    directions = build(directions, random)
    directions = _bend(directions, random, chance(random, BENT_LIMBS, batch))
    scale = _scales(batch, random)
    return bones.join(motion[..., 0, :] * scale.mean((1, 2))[:, None, None], directions * lengths * scale[:, None])


def mirror(motion: Floats, which: NDArray[np.bool_]) -> Floats:
    """The windows of the batch that `which` [B] names, as in a mirror."""
    flipped = motion[..., _MIRROR, :] * [-1, 1, 1]
    return np.where(which[:, None, None, None], flipped, motion)


def turn_over(motion: Floats, random: np.random.Generator) -> Floats:
    """Some of the batch leaning, and some lying, falling or turning cartwheels: turned about a level axis."""
    batch, frames = motion.shape[:2]
    over = chance(random, TURNED_OVER / (LEANING + TURNED_OVER), batch)
    start = np.where(over, random.uniform(-np.pi, np.pi, batch), LEAN * random.standard_normal(batch))
    turning = wander(random, (batch,), frames, 24.0) * random.choice([0.0, 0.5, 2.0], (batch, 1))
    angles = start[:, None] + np.where(over, 1.0, 0.3)[:, None] * turning
    heading = about(1, random.uniform(0, 2 * np.pi, (batch, 1)))
    turns = heading @ about(0, angles) @ np.swapaxes(heading, -1, -2)
    middle = motion[:, :, :1]
    turned = bones.turn(turns, motion - middle) + middle
    return np.where(chance(random, LEANING + TURNED_OVER, batch)[:, None, None, None], turned, motion)


def _exchange_upper_body(directions: Floats, other: NDArray[np.intp], which: NDArray[np.bool_]) -> Floats:
    here = bones.pelvis_frame(directions)
    change = here @ np.swapaxes(here[other], -1, -2)
    theirs = bones.turn(change, directions[other][..., bones.UPPER_BODY, :])
    return _replaced(directions, bones.UPPER_BODY, theirs, which)


def _exchange_arm(directions: Floats, other: NDArray[np.intp], side: str, which: NDArray[np.bool_]) -> Floats:
    here = bones.chest_frame(directions)
    change = here @ np.swapaxes(here[other], -1, -2)
    return _replaced(directions, bones.ARM[side], bones.turn(change, directions[other][..., bones.ARM[side], :]), which)


def build(directions: Floats, random: np.random.Generator) -> Floats:
    """Bone directions [B, T, 16, 3], those of the trunk turned by as much throughout a window, left and right alike.

    People differ in this, and so do the skeletons that motion capture puts into them.
    """
    out = directions.copy()
    for frame, middle, side in (
        (bones.pelvis_frame(directions), ("spine",), "hip"),
        (bones.chest_frame(directions), ("thorax", "neck_nose", "head"), "shoulder"),
    ):
        turns = BUILD * random.standard_normal((len(directions), 1, len(middle) + 1, 3))
        turns[:, :, :-1, 1:] /= 3  # what is in the middle of a body leans forward or back
        left = turns[:, :, -1:]
        right = left * (1, -1, -1) + 0.2 * BUILD * random.standard_normal(left.shape)
        which = bones.bones_to(*middle, f"left_{side}", f"right_{side}")
        inside = directions[..., which, :] @ frame  # in the axes of the pelvis or chest
        turned = (rotations(np.concatenate([turns, right], 2)) @ inside[..., None])[..., 0]
        out[..., which, :] = bones.turn(frame, turned)
    return out


def _bend(directions: Floats, random: np.random.Generator, which: NDArray[np.bool_]) -> Floats:
    batch, frames = directions.shape[:2]
    for limb, parts in (("arm", bones.ARM), ("leg", bones.LEG)):
        for side in ("left", "right"):
            steady = random.standard_normal((batch, 1, 3))
            vectors = LIMB_BEND[limb] * (steady + 0.5 * wander(random, (batch, 3), frames, 30.0))
            bent = bones.turn(rotations(vectors), directions[..., parts[side], :])
            directions = _replaced(directions, parts[side], bent, which)
    return directions


def _replaced(directions: Floats, part: list[int], new: Floats, which: NDArray[np.bool_]) -> Floats:
    out = directions.copy()
    out[..., part, :] = np.where(which[:, None, None, None], new, directions[..., part, :])
    return out


def _scales(batch: int, random: np.random.Generator) -> Floats:
    """Factors of the bone lengths [B, 16, 1]."""
    logarithms = np.repeat(random.normal(scale=SIZE, size=(batch, 1)), bones.BONES, 1)
    for part in _PARTS:
        logarithms[:, part] += random.normal(scale=PART, size=(batch, 1))
    return np.exp(logarithms)[..., None]
