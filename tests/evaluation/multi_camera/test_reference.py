from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.evaluation.multi_camera import reference
from streamkp.evaluation.multi_camera.calibration import CalibratedCamera
from streamkp.evaluation.multi_camera.live_views import TrackRecording
from tests.evaluation.ring import RATE, ring, shifting, watch

FRAMES = 90
POSES = shifting(FRAMES)


def error(found: reference.Reference) -> float:
    return float(np.linalg.norm(found.poses - POSES, axis=-1).mean())


def test_the_poses_come_back_from_noisy_views():
    cameras = ring(4)
    found = reference.from_views(cameras, [watch(c, POSES, noise=4, seed=n) for n, c in enumerate(cameras)], "x")
    assert error(found) < 0.008
    assert found.reprojection_px is not None
    assert found.reprojection_px < 4


def test_the_person_is_the_one_whose_views_agree():
    """Somebody else is seen in each view, by each camera elsewhere."""
    cameras = ring(3)
    views = []
    for n, camera in enumerate(cameras):
        stranger = POSES + np.array([0.8 * np.cos(n), 0.9 * np.sin(n), 0.1 * n])
        views.append(watch(camera, *((stranger, POSES) if n % 2 else (POSES, stranger))))
    assert error(reference.from_views(cameras, views, "x")) < 0.005


def test_a_view_that_swaps_the_sides_for_a_while_is_left_out():
    cameras = ring(4)
    views = [watch(c, POSES) for c in cameras]
    swapped = [0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13]
    raw = views[1].tracks[0, 1].raw
    for t in range(30, 60):
        raw[t] = raw[t][swapped]
    assert error(reference.from_views(cameras, views, "x")) < 0.01


@pytest.mark.parametrize("frames", [range(30, 34), range(30, 60)], ids=["short", "long"])
def test_a_joint_about_which_the_views_contradict_each_other(frames):
    """Three views, one of them wrong: any two of them may be the right ones."""
    cameras = ring(3)
    views = [watch(c, POSES) for c in cameras]
    for t in frames:
        views[2].tracks[0, 1].raw[t] = views[2].tracks[0, 1].raw[t].copy()
        views[2].tracks[0, 1].raw[t][13, :2] += 150
    found = reference.from_views(cameras, views, "x")
    known = np.isfinite(found.poses).all((1, 2))
    if len(frames) == 4:  # bridged
        assert known.all()
    else:
        assert np.flatnonzero(~known).tolist() == list(frames)
    assert np.linalg.norm(found.poses - POSES, axis=-1)[known].max() < 0.05


def test_a_person_whose_number_changes_in_one_view():
    cameras = ring(3)
    views = [watch(c, POSES) for c in cameras]
    whole = views[0].tracks[0, 1]
    later = dataclasses.replace(whole, raw={t: whole.raw.pop(t) for t in range(70, FRAMES)})
    views[0].tracks[0, 9] = later
    assert error(reference.from_views(cameras, views, "x")) < 0.005


def test_frames_in_which_one_view_does_not_see_the_person():
    cameras = ring(3)
    views = [watch(c, POSES) for c in cameras]
    for t in range(20, 40):
        del views[2].tracks[0, 1].raw[t]
    assert error(reference.from_views(cameras, views, "x")) < 0.01
    for t in range(25, 35):  # longer than what is bridged
        del views[1].tracks[0, 1].raw[t]
    lost = np.isnan(reference.from_views(cameras, views, "x").poses).all((1, 2))
    assert np.flatnonzero(lost).tolist() == list(range(25, 35))


def test_a_video_that_starts_earlier():
    cameras = ring(3)
    cameras[1] = dataclasses.replace(cameras[1], frame_offset=7)
    assert error(reference.from_views(cameras, [watch(c, POSES) for c in cameras], "x")) < 0.005


def test_a_low_pass_without_lag():
    t = np.arange(120) / RATE
    slow, fast = np.sin(2 * np.pi * t), np.sin(2 * np.pi * 20 * t)
    values = (slow + fast)[:, None]
    values[50] = np.nan
    smooth = reference.zero_lag(values, RATE, 6.0)[:, 0]
    assert np.isnan(smooth[50])
    inner = np.r_[10:40, 60:110]
    assert np.abs(smooth - slow)[inner].max() < 0.03
    assert np.array_equal(reference.zero_lag(values, 10.0, 6.0), values, equal_nan=True)


def test_nearest_takes_no_stranger():
    (camera,) = ring(1)
    seen = camera.project(POSES)
    with_gap = seen.copy()
    with_gap[10:20] = np.nan
    far = seen + 600
    assert reference.nearest(camera, [far, with_gap], POSES).tolist() == [1] * 10 + [-1] * 10 + [1] * (FRAMES - 20)


@pytest.mark.parametrize("shape", [(5, 33, 3), (5, 17, 3)])
def test_a_file(tmp_path, shape):
    xyz = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / "truth.npz"
    np.savez(path, xyz=xyz, valid=np.arange(5) != 2)
    found = reference.read(path)
    assert found.poses.shape == (5, 17, 3)
    assert np.isfinite(found.poses).all((1, 2)).tolist() == [True, True, False, True, True]
    if shape[1] == 33:
        assert np.allclose(found.poses[0, 0], xyz[0, 23:25].mean(0))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"poses": np.zeros((5, 17, 3))}, "must hold xyz"),
        ({"xyz": np.zeros((5, 21, 3))}, "must hold xyz"),
        ({"xyz": np.zeros((5, 17, 3)), "valid": np.ones(4, bool)}, "one value for each of the 5 frames"),
    ],
)
def test_a_file_that_is_no_reference(tmp_path, arrays, message):
    path = tmp_path / "truth.npz"
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match=message):
        reference.read(path)


def test_one_view_is_not_enough():
    cameras = ring(1)
    with pytest.raises(UsageError, match="two views or more"):
        reference.from_views(cameras, [watch(cameras[0], POSES)], "x")


def test_nobody_whom_all_see():
    cameras: list[CalibratedCamera] = ring(2)
    views = [watch(c, POSES) for c in cameras]
    for n, view in enumerate(views):
        raw = view.tracks[0, 1].raw
        for t in list(raw):
            if (t < FRAMES // 2) == bool(n):
                del raw[t]
    with pytest.raises(UsageError, match="nobody is seen by all views"):
        reference.from_views(cameras, views, "x")


def test_views_of_something_else():
    cameras = ring(3)
    with pytest.raises(UsageError, match="never agree"):
        reference.from_views(cameras, [watch(c, POSES + 1.5 * np.eye(3)[n]) for n, c in enumerate(cameras)], "x")


def test_a_track_that_was_only_predicted():
    cameras = ring(3)
    views = [watch(c, POSES) for c in cameras]
    views[1].tracks[0, 7] = TrackRecording()
    assert error(reference.from_views(cameras, views, "x")) < 0.005
