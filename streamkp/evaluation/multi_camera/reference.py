"""3D poses of one person from several calibrated views at once: what single views are measured against.

Either given, or made from the views: the person is found whose views agree best, the joints are triangulated from the
2D as the network sees it (smoothing it first would spread its mistakes over frames that have none), and the result is
smoothed without lag. World axes of the calibration, metres; h36m17.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.evaluation import npz
from streamkp.evaluation.multi_camera.calibration import CalibratedCamera
from streamkp.evaluation.multi_camera.live_views import SKELETON, ViewRecording
from streamkp.vision.triangulate import reprojection_errors, triangulate_robust

Floats = NDArray[np.floating[Any]]

CUTOFF = 6.0  # Hz; a Butterworth filter of 2nd order run forth and back, the custom in gait analysis (Winter)
_CONTRADICTS = 0.05  # of the person's size in the image: a view of a joint further off than this is left out
_SAME_PERSON = 0.25  # of the same: mean distance of the joints up to which a track is of the person of the reference
_MOST_TRACKS = 6  # looked at per view, the longest ones
_SAMPLED = 12  # frames on which combinations of tracks are compared
_LEAST_COMMON = 5  # frames that the tracks of a combination must have in common
_BRIDGE = 0.1  # seconds for which a joint that cannot be triangulated is interpolated
_LEAST_WEIGHT = 0.05  # of a joint that a view thinks hidden: its guess still serves where there is nothing better
_BY_JOINTS = {33: "blazepose33", 17: SKELETON}


@dataclass(frozen=True, eq=False)
class Reference:
    """`poses` [T, 17, 3] in the world, metres; a frame without is NaN. `reprojection_px` is None where not known."""

    origin: str
    poses: Floats
    reprojection_px: float | None = None


def read(path: Path) -> Reference:
    """A reference from an `.npz` file: `xyz` [T, J, 3] in metres, J = 33 (BlazePose) or 17 (h36m17); `valid` [T].

    Raises UsageError when the file is not that.
    """
    data = npz.read(path)
    xyz = data.get("xyz")
    if not isinstance(xyz, np.ndarray) or xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.shape[1] not in _BY_JOINTS:
        raise UsageError(f"{path} must hold xyz of shape (frames, 33 or 17, 3), in metres")
    valid = data.get("valid", np.ones(len(xyz), bool))
    if not isinstance(valid, np.ndarray) or valid.shape != xyz.shape[:1]:
        raise UsageError(f"{path}: valid must be one value for each of the {len(xyz)} frames of xyz")
    poses = skeletons.convert(xyz.astype(np.float64), _BY_JOINTS[xyz.shape[1]], SKELETON, scored=False)
    poses[~(valid.astype(bool) & np.isfinite(poses).all((1, 2)))] = np.nan
    return Reference(path.name, poses)


def from_views(cameras: Sequence[CalibratedCamera], views: Sequence[ViewRecording], pose: str) -> Reference:
    """Triangulate the person whose views agree best. `pose` says which network made the 2D.

    Raises UsageError with fewer than two views, when nobody is seen by all of them at the same time, or when they never
    agree on where somebody is.
    """
    if len(views) < 2:
        raise UsageError("a reference is made from two views or more: name more videos, or give one with --reference")
    skeleton, rate = views[0].skeleton, views[0].rate
    frames = max(0, *(len(view.pts) - camera.frame_offset for camera, view in zip(cameras, views, strict=True)))
    seen = [in_world_time(camera, view, "raw", frames) for camera, view in zip(cameras, views, strict=True)]
    first, _ = _triangulated(cameras, _best_combination(cameras, seen))
    _check_agreement(first)
    # a person's track may end and another begin: what is near the person in space belongs to them
    body = skeletons.convert(_bridged(first), skeleton, SKELETON, scored=False)
    person = [
        picked(tracks, nearest(camera, [skeletons.convert(t, skeleton, SKELETON) for t in tracks], body))
        for camera, tracks in zip(cameras, seen, strict=True)
    ]
    points, errors = _triangulated(cameras, person)
    poses = skeletons.convert(_bridged(points, int(_BRIDGE * rate)), skeleton, SKELETON, scored=False)
    poses = zero_lag(np.where(np.isfinite(poses).all((1, 2), keepdims=True), poses, np.nan), rate, CUTOFF)
    _check_agreement(poses)
    return Reference(f"{len(views)} views of {pose}, triangulated", poses, float(np.nanmedian(errors)))


def in_world_time(camera: CalibratedCamera, view: ViewRecording, what: str, frames: int) -> list[Floats]:
    """`raw`, `smooth`, `world` or `lifted` of each track as an array [frames, K, 3]; NaN where there is nothing."""
    joints = len(skeletons.get(view.skeleton if what in ("raw", "smooth") else SKELETON))
    out = []
    for track in view.tracks.values():
        array = np.full((frames, joints, 3), np.nan)
        for frame, points in getattr(track, what).items():
            if 0 <= frame - camera.frame_offset < frames:
                array[frame - camera.frame_offset] = points
        out.append(array)
    return out


def nearest(camera: CalibratedCamera, tracks: Sequence[Floats], poses: Floats) -> NDArray[np.intp]:
    """Which of the tracks (2D [T, 17, 2 or 3] each, pixels) is the person of `poses` [T, 17, 3]: [T], -1 for none.

    Whether a track is of this person is decided by all its frames, so that its mistakes are kept; which of several,
    by each frame.
    """
    where = camera.project(poses)
    sizes = np.ptp(where, axis=1).max(1)
    off = np.array([np.linalg.norm(track[..., :2] - where, axis=-1).mean(1) / sizes for track in tracks])
    for row in off:
        row[~np.isfinite(row)] = np.inf
        if not np.isfinite(row).any() or np.median(row[np.isfinite(row)]) > _SAME_PERSON:
            row[:] = np.inf
    return np.where(np.isfinite(off.min(0)), off.argmin(0), -1)


def zero_lag(values: Floats, rate: float, cutoff: float) -> Floats:
    """Low-pass [T, ...] without delay, each run of frames without NaN by itself; `rate` and `cutoff` in Hz."""
    out = values.copy()
    if cutoff >= rate / 2:
        return out
    sections = butter(2, cutoff, fs=rate, output="sos")
    known = np.isfinite(values.reshape(len(values), -1)).all(1)
    edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start > 1:
            out[start:end] = sosfiltfilt(sections, values[start:end], axis=0, padlen=min(9, end - start - 1))
    return out


def picked(tracks: Sequence[Floats], which: NDArray[np.intp]) -> Floats:
    """Of each frame the track that `which` names; NaN for none."""
    out: Floats = np.stack(tracks)[which, np.arange(len(which))]
    out[which < 0] = np.nan
    return out


def _best_combination(cameras: Sequence[CalibratedCamera], seen: Sequence[Sequence[Floats]]) -> list[Floats]:
    """One track per view, those that agree best: the lowest median reprojection error of their common frames."""
    longest = [
        sorted(tracks, key=lambda track: -int(np.isfinite(track[:, 0, 0]).sum()))[:_MOST_TRACKS] for tracks in seen
    ]
    best, least = None, np.inf
    for combination in itertools.product(*longest):
        common = np.flatnonzero(np.all([np.isfinite(track[:, 0, 0]) for track in combination], axis=0))
        if len(common) < _LEAST_COMMON:
            continue
        some = common[np.linspace(0, len(common) - 1, _SAMPLED).astype(int)]
        _, errors = _triangulated(cameras, [track[some] for track in combination], robust=False)
        if (error := float(np.median(errors))) < least:
            best, least = list(combination), error
    if best is None:
        raise UsageError("nobody is seen by all views at the same time: are the videos of one scene, and synchronised?")
    return best


def _triangulated(
    cameras: Sequence[CalibratedCamera], person: Sequence[Floats], *, robust: bool = True
) -> tuple[Floats, Floats]:
    """Joints [T, K, 3] from the 2D [T, K, 3] in each view, and their reprojection errors in pixels [V, T, K].

    Errors of views that were left out, or do not see the person, are NaN. So are joints whose views contradict each
    other until two are left: any two nearly agree, so that nothing says which of them are right.
    """
    shape = person[0].shape
    projections = np.array([camera.projection for camera in cameras])
    pixels = np.array([c.undistort(p[..., :2].reshape(-1, 2)) for c, p in zip(cameras, person, strict=True)])
    scores = np.array([p[..., 2].reshape(-1) for p in person])
    weights = np.where(np.isfinite(scores), np.clip(scores, _LEAST_WEIGHT, 1), 0.0)
    size = np.nanmedian([np.ptp(p[..., :2], axis=1).max(-1) for p in person])
    limit = _CONTRADICTS * size if robust else np.inf
    points, used = triangulate_robust(projections, pixels, weights, limit)
    errors = np.where(used, reprojection_errors(projections, points, pixels), np.nan)
    doubtful = (used.sum(0) < np.minimum(3, (weights > 0).sum(0))) | (np.where(used, errors, 0).max(0) > limit)
    points[doubtful], errors[:, doubtful] = np.nan, np.nan
    return points.reshape(shape), errors.reshape(len(cameras), *shape[:2])


def _check_agreement(points: Floats) -> None:
    if not np.isfinite(points).any():
        raise UsageError("the views never agree on where the person is: do calibration and videos belong together?")


def _bridged(points: Floats, longest: int | None = None) -> Floats:
    """Gaps of [T, K, 3] filled along straight lines, each joint by itself.

    With `longest`, gaps of more frames stay, and those at the ends; without, the first and last pose stand still there.
    """
    flat = points.reshape(len(points), -1).copy()
    frames = np.arange(len(flat))
    for column in flat.T:
        known = np.isfinite(column)
        if not known.any():
            continue
        column[~known] = np.interp(frames[~known], frames[known], column[known])
        edges = np.flatnonzero(np.diff(~known, prepend=False, append=False))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if longest is not None and (end - start > longest or start == 0 or end == len(flat)):
                column[start:end] = np.nan
    return flat.reshape(points.shape)
