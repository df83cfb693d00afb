from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from streamkp.motion.camera import Intrinsics, project, screen_coordinates
from streamkp.motion.root import locate, locate_all, split_root


def test_mmpose_codec(golden: Path):
    codec = np.load(golden / "mmpose_video_pose_lift" / "codec.npz")
    frames = codec["keypoints"]
    labels = screen_coordinates(frames, 1000, 1002).reshape(len(frames), -1).T
    assert_allclose(labels, codec["keypoint_labels"], atol=1e-6)

    relative, root = split_root(codec["lifting_target"])
    assert_allclose(relative, codec["lifting_target_label"], atol=1e-6)
    assert_allclose(root[:, 0], codec["target_root"], atol=1e-6)
    assert_allclose(relative + root, codec["decoded"], atol=1e-6)


LENS = Intrinsics((900.0, 950.0), (640.0, 300.0))


def seen(pose: np.ndarray, root: np.ndarray) -> np.ndarray:
    return project(pose + root, LENS.focal, LENS.centre)


def people(seed: int, *leading: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses and roots in view of the lens, [..., 17, 3] and [..., 1, 3]."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 0.4, (*leading, 17, 3)).clip(-1, 1)
    return pose, np.array([0.0, 0.0, 5.0]) + rng.uniform(-1, 1, (*leading, 1, 3))


@given(st.integers(0, 10_000))
def test_finds_the_root_that_explains_the_image(seed: int) -> None:
    pose, root = people(seed, 3, 2)
    found = locate(pose, seen(pose, root), LENS)
    assert_allclose(found, root[..., 0, :], atol=1e-9)


def test_is_the_least_squares_solution() -> None:
    pose, root = people(0)
    rng = np.random.default_rng(1)
    pixels = seen(pose, root) + rng.normal(0, 5, (17, 2))
    weight = rng.uniform(0.1, 1, 17)
    rows, wanted = [], []
    for (x, y, z), (px, py), w in zip(pose, pixels, weight, strict=True):
        u, v = (px - 640) / 900, (py - 300) / 950
        rows += [np.sqrt(w) * np.array([1, 0, -u]), np.sqrt(w) * np.array([0, 1, -v])]
        wanted += [np.sqrt(w) * (u * z - x), np.sqrt(w) * (v * z - y)]
    expected = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    assert_allclose(locate(pose, pixels, LENS, weight), expected, atol=1e-9)


def test_a_joint_without_weight_does_not_count() -> None:
    pose, root = people(2)
    pixels = seen(pose, root)
    pixels[4] += 500
    weight = np.ones(17)
    weight[4] = 0
    assert_allclose(locate(pose, pixels, LENS, weight), root[0], atol=1e-9)


def test_a_person_twice_as_large_is_twice_as_far() -> None:
    pose, root = people(3)
    assert_allclose(locate(2 * pose, seen(pose, root), LENS), 2 * root[0], atol=1e-9)


def test_says_so_where_the_joints_do_not_tell() -> None:
    pose, root = people(4, 2)
    pixels = seen(pose, root)
    weight = np.stack([np.zeros(17), np.eye(17)[0]])
    assert np.isnan(locate(pose, pixels, LENS, weight)).all()
    assert np.isnan(locate(pose, np.full_like(pixels, 100.0), LENS)).all()


def test_a_batch_each_with_its_own_camera_and_scores() -> None:
    pose, root = people(5, 2, 3)
    cameras = [LENS, Intrinsics((500.0, 500.0), (320.0, 240.0))]
    pixels = np.stack([project(p + r, c.focal, c.centre) for p, r, c in zip(pose, root, cameras, strict=True)])
    points = np.concatenate([pixels, np.ones((2, 3, 17, 1))], -1)
    points[0, 1, 4] = (9999, 0, 0)  # no score
    found = locate_all(pose + 3, points, cameras)
    assert_allclose(found, (pose[..., :1, :] + root)[..., 0, :], atol=1e-9)
