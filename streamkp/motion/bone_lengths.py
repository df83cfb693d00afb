"""Constant bone lengths: their running estimate for a track, and poses that are fitted to them.

A lifter estimates every frame by itself, so that the lengths of its bones vary; those of a person do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import UsageError

Floats = NDArray[np.floating[Any]]

SAMPLES = 128  # lengths that are remembered of each bone
EVERY = 0.1  # seconds between them: poses of neighbouring frames are wrong in the same way

# BlazePose has no spine: its bones start at the middle of the hips (`pelvis`) and of the shoulders (`thorax`), and
# the head is a star around the nose.
_BLAZEPOSE33_CHAINS = (
    ("pelvis", "left_hip", "left_knee", "left_ankle", "left_heel"),
    ("pelvis", "right_hip", "right_knee", "right_ankle", "right_heel"),
    ("left_ankle", "left_foot_index"),
    ("right_ankle", "right_foot_index"),
    ("pelvis", "thorax", "left_shoulder", "left_elbow", "left_wrist"),
    ("thorax", "right_shoulder", "right_elbow", "right_wrist"),
    *((f"{side}_wrist", f"{side}_{finger}") for side in ("left", "right") for finger in ("pinky", "index", "thumb")),
    ("thorax", "nose"),
    *(("nose", joint) for joint in skeletons.get("blazepose33").joints[1:11]),
)
_MIDDLES = {"pelvis": ("left_hip", "right_hip"), "thorax": ("left_shoulder", "right_shoulder")}


@dataclass(frozen=True)
class Tree:
    """The bones of a skeleton, each once, from the root outwards.

    Joints and bone vectors are linear in each other, by two matrices. `to_bones` [B, K]: joints to the
    vectors of the bones, from parent to child. `to_joints` [K, B]: those vectors to joints relative to the root, the
    inverse. `root` [K]: the joints whose mean the root is, as weights. `shared` [B, B]: the mean over a bone and its
    mirror image.
    """

    to_bones: NDArray[np.float64]
    to_joints: NDArray[np.float64]
    root: NDArray[np.float64]
    shared: NDArray[np.float64]


@cache
def tree(skeleton: str) -> Tree:
    """The tree of `h36m17` or `blazepose33`. Raises UsageError for a skeleton that has none."""
    layout = skeletons.get(skeleton)
    if skeleton == "h36m17":
        bones = [(layout.joints[parent], layout.joints[child]) for parent, child in layout.bones]
        middles = {}
    elif skeleton == "blazepose33":
        bones = [pair for chain in _BLAZEPOSE33_CHAINS for pair in pairwise(chain)]
        middles = _MIDDLES
    else:
        raise UsageError(f"the bones of {skeleton} are not known; they are of h36m17 and blazepose33")
    place = dict(zip(layout.joints, np.eye(len(layout)), strict=True))
    place |= {name: (place[left] + place[right]) / 2 for name, (left, right) in middles.items()}
    paths = {bones[0][0]: np.zeros(len(bones))}
    for i, (parent, child) in enumerate(bones):
        paths[child] = paths[parent] + np.eye(len(bones))[i]
    names = [layout.joints[j] for j in layout.mirror]
    flipped = dict(zip(layout.joints, names, strict=True))
    at = {bone: i for i, bone in enumerate(bones)}
    shared = np.zeros((len(bones), len(bones)))
    for (parent, child), i in at.items():
        shared[i, i] += 0.5
        shared[i, at[flipped.get(parent, parent), flipped.get(child, child)]] += 0.5
    return Tree(
        to_bones=np.stack([place[child] - place[parent] for parent, child in bones]),
        to_joints=np.stack([paths[joint] for joint in layout.joints]),
        root=place[bones[0][0]],
        shared=shared,
    )


def lengths(points: Floats, bones: Tree) -> NDArray[np.float64]:
    """Poses [..., K, 3] to the lengths of their bones [..., B], left and right averaged, in the unit of `points`."""
    out: NDArray[np.float64] = np.linalg.norm(bones.to_bones @ points, axis=-1) @ bones.shared.T
    return out


def with_lengths(points: Floats, wanted: Floats, bones: Tree) -> NDArray[np.float64]:
    """Poses [..., K, 3] whose bones point where they did and have the lengths `wanted` [..., B].

    The root stays. A bone of no length has no direction and stays one.
    """
    vectors = bones.to_bones @ points
    found = np.linalg.norm(vectors, axis=-1)
    scale = np.divide(wanted, found, out=np.ones_like(found), where=found > 0)
    root = (bones.root @ points)[..., None, :]
    out: NDArray[np.float64] = root + bones.to_joints @ (vectors * scale[..., None])
    return out


class BoneLengths:
    """The bone lengths of one person: the median of those measured every tenth of a second so far."""

    def __init__(self, bones: Tree) -> None:
        self._bones = bones
        self._measured = np.empty((SAMPLES, len(bones.to_bones)), np.float32)
        self._count = 0
        self._due: int | None = None
        self._lengths: NDArray[np.float64]

    def __call__(self, points: Floats, pts: int) -> NDArray[np.float64]:
        """A pose [K, 3] (finite) at `pts` ns with the lengths known by then, its own among them."""
        if self._due is None or pts >= self._due:
            self._measured[self._count % SAMPLES] = lengths(points, self._bones)
            self._count += 1
            self._due = pts + int(EVERY * 1e9)
            self._lengths = np.median(self._measured[: self._count], axis=0).astype(np.float64)
        return with_lengths(points, self._lengths, self._bones)
