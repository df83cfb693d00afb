"""Live 3D of single views against a reference from several calibrated, synchronised ones.

Both sides are h36m17 relative to the hip, on the frames that the model describes. A lifter whose rate is below the
camera's describes every n-th frame only; velocities and the like are then per n frames, and BlazePose's world landmarks
are measured on the same frames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.evaluation.multi_camera import reference as references
from streamkp.evaluation.multi_camera.calibration import CalibratedCamera
from streamkp.evaluation.multi_camera.live_views import SKELETON, ViewRecording, record
from streamkp.evaluation.multi_camera.reference import CUTOFF, Reference, in_world_time, nearest, zero_lag
from streamkp.motion import metrics

Floats = NDArray[np.floating[Any]]

BASELINE = "blazepose-world"
STEADIED = f"{BASELINE} + smooth-3d"
MILLIMETRES = 1000.0
FIGURES = {
    "p_mpjpe_mm": "each pose turned, scaled and moved onto the reference's",
    "p_mpjpe_body_mm": "the same of hip, thorax and limbs alone, aligned by them: face points are conventions",
    "pa_mpjve_mm": "error of the velocity, per frame at rate_hz, after one alignment of the whole sequence",
    "pa_mpjve_mm_s": "the same per second",
    "jitter_mm": "mean second difference of the poses, at the reference's size, per frame squared at rate_hz",
    "reference_jitter_mm": "that of the reference on the same frames",
    "bone_spread_mm": "standard deviation of a bone's length over time, mean of the bones, at the reference's size",
    "foot_speed_mm_s": "of the ankle while the reference's foot stands, with the hip put where the reference's is",
    "reference_foot_speed_mm_s": "that of the reference",
}

_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
_SAME_RATE = 0.01  # by how much rates may differ
_SAME_SIZE = 0.02  # and sizes, for encoders crop to whole blocks
_STANDS_SPEED = 0.25  # m/s and
_STANDS_HEIGHT = 0.06  # m above where the ankle is lowest: below both, a foot stands

_LAYOUT = skeletons.get(SKELETON)
_ANKLES = [_LAYOUT.index("left_ankle"), _LAYOUT.index("right_ankle")]
_BODY = [
    i for i, joint in enumerate(_LAYOUT.joints) if joint in ("hip", "thorax") or joint.startswith(("left_", "right_"))
]


def evaluate(
    cameras: Sequence[CalibratedCamera],
    videos: Mapping[str, Path],
    *,
    model: str,
    pose: str,
    given: Path | None = None,
    reference_pose: str | None = None,
    lookahead: int = 0,
    smooth_3d: Mapping[str, Any] | None = None,
    threads: int = 2,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Figures of each view, as `{"views": {camera: {model: ..., "blazepose-world": ...}}, "reference": ...}`.

    Args:
        cameras: those that have a video in `videos` count.
        videos: by the camera's name.
        model, pose: lifter and 2D network of the live graph. BlazePose's landmarks behind `smooth_3d` are called
            "blazepose-world + smooth-3d"; "blazepose-world" are always those of the network.
        given: the file of the reference; None to make it from the views.
        reference_pose: the 2D network for that; None for `pose`.
        lookahead, smooth_3d, threads: see `live_views.record`.
        advance: called after each view.

    Raises:
        StreamkpError: a file cannot be read, videos and calibration do not fit, or a model cannot be opened.
    """
    cameras = [camera for camera in cameras if camera.name in videos]
    paths = [videos[camera.name] for camera in cameras]
    truth = references.read(given) if given is not None else None
    views = []
    for path in paths:
        views.append(record(path, pose=pose, model=model, lookahead=lookahead, smooth_3d=smooth_3d, threads=threads))
        advance()
    check(cameras, paths, views)
    if truth is None:
        better = reference_pose if reference_pose != pose else None
        sources = views if better is None else [record(path, pose=better, threads=threads) for path in paths]
        truth = references.from_views(cameras, sources, better or pose)
    settings = {"model": model, "pose": pose, "lookahead": lookahead, "smooth_3d": smooth_3d is not None}
    return settings | compare(cameras, views, truth, model if smooth_3d is None or model != BASELINE else STEADIED)


def compare(
    cameras: Sequence[CalibratedCamera], views: Sequence[ViewRecording], truth: Reference, model: str
) -> dict[str, Any]:
    """`views` and `reference` of `evaluate`, from what the live graph has given.

    Raises UsageError when a view does not show the person of the reference.
    """
    rate = views[0].rate
    known = np.isfinite(truth.poses).all((1, 2))
    stands = standing(truth.poses, rate)
    return {
        "views": {
            camera.name: _view_figures(camera, view, truth, stands, model)
            for camera, view in zip(cameras, views, strict=True)
        },
        "reference": {
            "origin": truth.origin,
            "frames": int(known.sum()),
            "rate_hz": rate,
            "reprojection_px": truth.reprojection_px,
            "jitter_mm": _number(MILLIMETRES * metrics.jitter(_relative(truth.poses))),
            "bone_spread_mm": _number(MILLIMETRES * metrics.bone_spread(truth.poses, _LAYOUT.bones)),
            "standing": _number(float(stands[known].mean()) if known.any() else np.nan),
        },
    }


def match_videos(cameras: Sequence[CalibratedCamera], files: Sequence[Path]) -> dict[str, Path]:
    """Each camera's video: the one name stands as a word in the other. Folders give the videos in them.

    Cameras without a video are left out. Raises UsageError when a file is of no camera, or two are of one.
    """
    found: dict[str, Path] = {}
    for path in _expanded(files):
        names = [c.name for c in cameras if _names(c.name, path.stem) or _names(path.stem, c.name)]
        if not names:
            known = ", ".join(camera.name for camera in cameras)
            raise UsageError(f"{path} names no camera of the calibration ({known}): rename it so that it does")
        name = max(names, key=len)
        if name in found:
            raise UsageError(f"{found[name]} and {path} are both of camera {name}: name the files, one per camera")
        found[name] = path
    if not found:
        raise UsageError(f"no video in {', '.join(map(str, files))} (files that end in {', '.join(_VIDEOS)})")
    return found


def _expanded(files: Sequence[Path]) -> list[Path]:
    out: list[Path] = []
    for path in files:
        if path.is_dir():
            out += sorted(file for file in path.iterdir() if file.suffix.lower() in _VIDEOS)
        else:
            out.append(path)
    return out


def _names(name: str, stem: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", stem, re.IGNORECASE) is not None


def check(cameras: Sequence[CalibratedCamera], paths: Sequence[Path], views: Sequence[ViewRecording]) -> None:
    """Raise a UsageError if the videos do not fit each other and their cameras."""
    for camera, path, view in zip(cameras, paths, views, strict=True):
        if len(view.pts) < 2:
            raise UsageError(f"{path} has a single frame: nothing moves in it that could be measured")
        if camera.size is not None and not np.allclose(view.size, camera.size, rtol=_SAME_SIZE):
            raise UsageError(
                f"{path} is {view.size[0]} x {view.size[1]}, but camera {camera.name} was calibrated for "
                f"{camera.size[0]} x {camera.size[1]}: use the videos as recorded"
            )
        if abs(view.rate / views[0].rate - 1) > _SAME_RATE:
            raise UsageError(
                f"{path} has {view.rate:g} frames a second, {paths[0]} {views[0].rate:g}: they must be equal"
            )


def standing(poses: Floats, rate: float) -> NDArray[np.bool_]:
    """When each ankle of world poses [T, 17, 3] (metres) stands: [T, 2], left and right.

    It is slower than 0.25 m/s and less than 6 cm above its lowest place (5 % of the frames are lower). What is up is
    the axis of the world that is nearest to the direction from the feet to the neck.
    """
    feet = zero_lag(poses, rate, CUTOFF)[:, _ANKLES]
    if len(feet) < 2 or not np.isfinite(feet).any():
        return np.zeros(feet.shape[:2], bool)
    height = feet @ upwards(poses)
    speed = np.linalg.norm(np.gradient(feet, axis=0), axis=-1) * rate
    out: NDArray[np.bool_] = (speed < _STANDS_SPEED) & (height < np.nanpercentile(height, 5, axis=0) + _STANDS_HEIGHT)
    return out


def upwards(poses: Floats) -> Floats:
    """The unit vector, along an axis of the world, in which people of poses [T, 17, 3] mostly stand."""
    rise = np.nanmean(poses[:, _LAYOUT.index("thorax")] - poses[:, _ANKLES].mean(1), axis=0)
    up = np.zeros(3)
    axis = int(np.argmax(np.abs(rise)))
    up[axis] = np.sign(rise[axis])
    return up


def _view_figures(
    camera: CalibratedCamera, view: ViewRecording, truth: Reference, stands: NDArray[np.bool_], model: str
) -> dict[str, Any]:
    frames = len(truth.poses)
    smooth = in_world_time(camera, view, "smooth", frames)
    flat = [skeletons.convert(points, view.skeleton, SKELETON) for points in smooth]
    who = nearest(camera, flat, truth.poses)
    lifted, world = (references.picked(in_world_time(camera, view, what, frames), who) for what in ("lifted", "world"))
    lifted[~np.isfinite(lifted).all((1, 2))] = np.nan
    seen = np.isfinite(lifted).all((1, 2))
    if not seen.any():
        raise UsageError(f"camera {camera.name}: {model} gave no pose of the person of the reference")
    world[~seen] = np.nan
    out = {model: figures(lifted, truth.poses, stands, view.rate)}
    if model != BASELINE and np.isfinite(world).any():
        out[BASELINE] = figures(world, truth.poses, stands, view.rate)
    return out


def figures(poses: Floats, reference: Floats, stands: NDArray[np.bool_], rate: float) -> dict[str, float | None]:
    """The keys of `FIGURES`, `frames` and `rate_hz`.

    `poses` and `reference` are [T, 17, 3] in metres, in any axes; frames without a pose are NaN, and count on neither
    side. `stands` [T, 2] is when the ankles do, `rate` the frames per second. What was not measured is None.
    """
    known = np.isfinite(np.concatenate([poses, reference], 1)).all((1, 2))
    if not known.any():
        raise ValueError("no frame has both a pose and a reference")
    step = int(np.median(np.diff(np.flatnonzero(known)))) if known.sum() > 1 else 1
    poses, reference = (np.where(known[:, None, None], side, np.nan) for side in (poses, reference))
    poses, reference, hips = (_phases(p, step) for p in (_relative(poses), _relative(reference), reference[:, :1]))
    stands = _phases(stands.astype(float), step) == 1
    rate, at = rate / step, ~np.isnan(poses[:, 0, 0])
    aligned = metrics.align_sequence(poses, reference)
    # not the scale of the alignment, which shrinks what fits badly
    size = _bone_length(reference[at]) / _bone_length(poses[at])
    velocity = metrics.pa_mpjve(poses, reference)
    feet, true_feet = (p[:, _ANKLES] + hips for p in (aligned, reference))
    out = {
        "p_mpjpe_mm": metrics.p_mpjpe(poses[at], reference[at]),
        "p_mpjpe_body_mm": metrics.p_mpjpe(poses[at][:, _BODY], reference[at][:, _BODY]),
        "pa_mpjve_mm": velocity,
        "pa_mpjve_mm_s": velocity * rate,
        "jitter_mm": size * metrics.jitter(poses),
        "reference_jitter_mm": metrics.jitter(reference),
        "bone_spread_mm": size * metrics.bone_spread(poses, _LAYOUT.bones),
        "foot_speed_mm_s": metrics.foot_speed(feet, stands, rate),
        "reference_foot_speed_mm_s": metrics.foot_speed(true_feet, stands, rate),
    }
    counts = {"frames": int(known.sum()), "rate_hz": rate}
    return {key: _number(MILLIMETRES * value) for key, value in out.items()} | counts


def _relative(poses: Floats) -> Floats:
    out: Floats = poses - poses[:, :1]
    return out


def _bone_length(poses: Floats) -> float:
    starts, ends = np.asarray(_LAYOUT.bones).T
    return float(np.linalg.norm(poses[:, ends] - poses[:, starts], axis=-1).mean())


def _phases(values: Floats, step: int) -> Floats:
    """Every `step`-th frame of [T, ...], for each of the `step` beginnings in turn, with a frame of NaN between."""
    gap = np.full((1, *values.shape[1:]), np.nan)
    return np.concatenate([part for start in range(step) for part in (values[start::step], gap)])


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
