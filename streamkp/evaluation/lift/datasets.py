"""Measured 3D poses with the 2D poses that a camera sees of them, from the files that people have.

Layouts, told apart by what the file holds:
* motion capture: clip name -> [T, 17, 3] metres, y up, Human3.6M joints. Cameras are drawn with a seed.
* Human3.6M as VideoPose3D prepares it: `data_3d_h36m.npz`, whose 2D is projected through the four cameras, or a
  `data_2d_h36m_*.npz` of detections with the former beside it. Subjects 9 and 11 are measured.
* the test set of MPI-INF-3DHP as P-STMO prepares it: `data` -> TS1..TS6 -> data_2d, data_3d (mm), valid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.errors import UsageError
from streamkp.evaluation import npz
from streamkp.evaluation.lift import cameras
from streamkp.motion import camera
from streamkp.motion.camera import Intrinsics

Floats = NDArray[np.floating[Any]]

VIEWS = 4  # cameras drawn for each clip of motion capture
H36M_TEST = ("S9", "S11")
# Human3.6M's 32 joints without those that do not move or repeat others.
H36M_MOVING = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
# MPI-INF-3DHP's joints in the order of Human3.6M's.
MPII_AS_H36M = (14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
MPII_SIZES = {"TS5": (1920, 1080), "TS6": (1920, 1080)}  # the others are 2048 x 2048


@dataclass(frozen=True)
class Sequence:
    """One person before one camera.

    `points` [T, K, 2] pixels and `skeleton` their layout; `poses` [T, 17, 3] metres in camera axes, Human3.6M
    joints; `measured` [T] says which frames count.
    """

    name: str
    action: str
    points: Floats
    skeleton: str
    poses: Floats
    size: tuple[int, int]
    lens: Intrinsics
    measured: NDArray[np.bool_]


@dataclass(frozen=True)
class Dataset:
    """Sequences and how they are averaged: over all frames, or (`by_action`) over the means of the actions."""

    name: str
    protocol: str
    sequences: tuple[Sequence, ...]
    rate: float
    by_action: bool = False
    mpii: bool = False


def read(path: Path, seed: int) -> Dataset:
    """The data set in a file. Raises `UsageError` when the file has none of the layouts."""
    content = npz.read(path)
    if "positions_3d" in content:
        return _h36m(path, content["positions_3d"], None)
    if "positions_2d" in content:
        beside = path.parent / "data_3d_h36m.npz"
        if not beside.is_file():
            raise UsageError(f"{path} has 2D poses only; put data_3d_h36m.npz beside it")
        return _h36m(path, _entry(npz.read(beside), "positions_3d", beside), content)
    if isinstance(content.get("data"), Mapping):
        return _mpii(path, content["data"])
    if content and all(_is_poses(value, 3) for value in content.values()):
        return _mocap(path, content, seed)
    held = ", ".join(list(content)[:5]) or "nothing"
    raise UsageError(
        f"{path} has none of the layouts that are read: clips of [T, 17, 3], VideoPose3D's data_3d_h36m.npz or "
        f"data_2d_h36m_*.npz, MPI-INF-3DHP's data_test_3dhp.npz. It holds {held}"
    )


def _mocap(path: Path, clips: Mapping[str, Any], seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    sequences = []
    for name, clip in clips.items():
        world = _finite(name, clip)
        for i in range(VIEWS):
            view = cameras.draw(world, random)
            points, poses = view.see(world)
            sequences.append(_sequence(f"{name} view {i}", name, points, poses, view.size, view.lens))
    protocol = f"{VIEWS} unseen cameras for each clip, drawn with seed {seed}; mean over all frames"
    return Dataset(path.stem, protocol, tuple(sequences), rate=30.0)


def _h36m(path: Path, positions: Any, detected: Mapping[str, Any] | None) -> Dataset:
    layout = "h36m17" if detected is None else _layout(detected, path)
    table = json.loads(resources.files("streamkp.evaluation.lift").joinpath("h36m_cameras.json").read_text("utf-8"))
    sequences = []
    for subject in H36M_TEST:
        for action, world in _entry(positions, subject, path).items():
            world = _finite(f"{subject} {action}", world)
            if world.ndim != 3 or world.shape[1:] not in ((32, 3), (17, 3)):
                raise UsageError(f"{path}: {subject} {action} has the shape {world.shape}, not [T, 32, 3]")
            world = world[:, list(H36M_MOVING)] if world.shape[1] == 32 else world
            for i, (lens, pose) in enumerate(zip(table["lenses"], table["poses"][subject], strict=True)):
                poses = camera.world_to_camera(world, pose["orientation"], pose["position"])
                if detected is None:
                    points = camera.project(poses, lens["focal"], lens["centre"], lens["radial"], lens["tangential"])
                else:
                    points = _views(detected, subject, action, path)[i][: len(poses)]
                name = f"{subject} {action} camera {lens['id']}"
                intrinsics = Intrinsics(tuple(lens["focal"]), tuple(lens["centre"]))
                poses, kind = poses[: len(points)], action.split(" ")[0]
                size = tuple(lens["size"])
                sequences.append(_sequence(name, kind, points, poses, size, intrinsics, skeleton=layout))
    what = "true 2D" if detected is None else f"2D of {path.stem}"
    protocol = f"Human3.6M subjects 9 and 11, all cameras, {what}; mean over actions"
    return Dataset(path.stem, protocol, tuple(sequences), rate=50.0, by_action=True)


def _layout(detected: Mapping[str, Any], path: Path) -> str:
    metadata = detected.get("metadata")
    layout = metadata.get("layout_name", "h36m") if isinstance(metadata, Mapping) else "h36m"
    if layout not in ("h36m", "coco"):
        raise UsageError(f"{path} has 2D poses in the layout {layout!r}; h36m and coco are known")
    return f"{layout}17"


def _views(detected: Mapping[str, Any], subject: str, action: str, path: Path) -> list[Floats]:
    views = _entry(_entry(_entry(detected, "positions_2d", path), subject, path), action, path)
    if len(views) != 4 or any(np.ndim(view) != 3 or view.shape[1] != 17 for view in views):
        raise UsageError(f"{path}: {subject} {action} is not four arrays [T, 17, 2], one for each camera")
    return [_finite(f"{subject} {action}", view)[..., :2] for view in views]


def _mpii(path: Path, data: Mapping[str, Any]) -> Dataset:
    sequences = []
    for name, parts in data.items():
        poses = _finite(name, _entry(parts, "data_3d", path))
        points = _finite(name, _entry(parts, "data_2d", path))
        valid = np.asarray(_entry(parts, "valid", path)).astype(bool).ravel()
        if poses.shape[1:] != (17, 3) or points.shape != (len(poses), 17, 2) or len(valid) != len(poses):
            raise UsageError(f"{path}: {name} is not data_3d [T, 17, 3], data_2d [T, 17, 2] and valid [T]")
        if not valid.any():
            raise UsageError(f"{path}: {name} has no valid frame")
        size = MPII_SIZES.get(name, (2048, 2048))
        order = list(MPII_AS_H36M)
        poses, points = poses[:, order] / 1000, points[:, order]
        sequences.append(_sequence(name, name, points, poses, size, Intrinsics.assumed(*size), valid))
    protocol = "MPI-INF-3DHP test set, valid frames; 3DPCK and AUC over joint groups, then over sequences"
    return Dataset(path.stem, protocol, tuple(sequences), rate=25.0, mpii=True)


def _sequence(
    name: str,
    action: str,
    points: Floats,
    poses: Floats,
    size: tuple[int, int],
    lens: Intrinsics,
    measured: NDArray[np.bool_] | None = None,
    skeleton: str = "h36m17",
) -> Sequence:
    thigh = float(np.median(np.linalg.norm(poses[:, 1] - poses[:, 2], axis=-1)))
    if not 0.1 < thigh < 1:
        raise UsageError(f"{name} has thighs of {thigh:.3g} m: its unit or its joint order is another one")
    measured = np.ones(len(poses), bool) if measured is None else measured
    return Sequence(name, action, points, skeleton, poses, size, lens, measured)


def _finite(name: str, values: Any) -> Floats:
    """The values as numbers, before anything is computed from them."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
        raise UsageError(f"{name} is empty or has values that are not finite numbers")
    return array.astype(np.float64)


def _is_poses(value: Any, channels: int) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[1:] == (17, channels)


def _entry(content: Any, key: str, path: Path) -> Any:
    if not isinstance(content, Mapping) or key not in content:
        raise UsageError(f"{path} has no {key}")
    return content[key]
