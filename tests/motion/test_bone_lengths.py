from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.motion.bone_lengths import SAMPLES, BoneLengths, lengths, tree, with_lengths

LAYOUTS = ("h36m17", "blazepose33")
SECOND = 1_000_000_000
layouts = st.sampled_from(LAYOUTS)
seeds = st.integers(0, 10_000)


def somebody(skeleton: str, seed: int, *leading: int) -> np.ndarray:
    joints = len(skeletons.get(skeleton))
    return np.random.default_rng(seed).normal(0, 0.5, (*leading, joints, 3))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("skeleton", LAYOUTS)
def test_every_joint_hangs_on_the_tree(skeleton: str) -> None:
    bones = tree(skeleton)
    pose = somebody(skeleton, 1)
    root = bones.root @ pose
    assert_allclose(root + bones.to_joints @ (bones.to_bones @ pose), pose, atol=1e-12)
    assert_allclose(bones.shared.sum(1), 1)


def test_of_human36m_the_bones_are_those_that_are_drawn() -> None:
    pose = somebody("h36m17", 0)
    drawn = np.array([np.linalg.norm(pose[a] - pose[b]) for a, b in skeletons.get("h36m17").bones])
    found = lengths(pose, tree("h36m17"))
    assert found[0] == pytest.approx((drawn[0] + drawn[3]) / 2)  # the hips, right and left
    assert found[6] == pytest.approx(drawn[6])  # the spine has no other side


def test_another_skeleton_has_no_bones_to_hold() -> None:
    with pytest.raises(UsageError, match="coco17"):
        tree("coco17")


@given(layouts, seeds, seeds)
def test_any_pose_takes_the_lengths_and_keeps_its_directions(skeleton: str, seed: int, other: int) -> None:
    bones = tree(skeleton)
    pose = somebody(skeleton, seed, 4)
    wanted = lengths(somebody(skeleton, other), bones)
    held = with_lengths(pose, wanted, bones)
    assert_allclose(np.linalg.norm(bones.to_bones @ held, axis=-1), np.broadcast_to(wanted, (4, len(wanted))))
    assert_allclose(unit(bones.to_bones @ held), unit(bones.to_bones @ pose), atol=1e-9)
    assert_allclose(bones.root @ held, bones.root @ pose, atol=1e-12)


@given(layouts, seeds, st.tuples(*3 * [st.floats(-10, 10)]))
def test_where_the_person_is_does_not_matter(skeleton: str, seed: int, shift: tuple[float, ...]) -> None:
    poses = somebody(skeleton, seed, 5)
    here, there = BoneLengths(tree(skeleton)), BoneLengths(tree(skeleton))
    for i, pose in enumerate(poses):
        expected = here(pose, i * SECOND) + shift
        assert_allclose(there(pose + shift, i * SECOND), expected, atol=1e-5)


def test_a_pose_of_the_right_lengths_stays() -> None:
    for skeleton in LAYOUTS:
        pose = somebody(skeleton, 3)
        pose = (pose + pose[list(skeletons.get(skeleton).mirror)] * (-1, 1, 1)) / 2  # as long left as right
        assert_allclose(BoneLengths(tree(skeleton))(pose, 0), pose, atol=1e-6)


def test_a_bone_of_no_length_gives_no_nan() -> None:
    bones = tree("h36m17")
    wanted = lengths(somebody("h36m17", 0), bones)
    assert_allclose(with_lengths(np.zeros((17, 3)), wanted, bones), 0)


def test_lengths_settle_on_those_of_the_person_in_spite_of_bad_poses() -> None:
    bones = tree("h36m17")
    truth, rng = somebody("h36m17", 5), np.random.default_rng(0)
    hold = BoneLengths(bones)
    found = []
    for i in range(300):
        pose = truth + rng.normal(0, 0.02, truth.shape)
        if i % 5 == 0:
            pose[13] += 0.7  # a wrist somewhere else, one time in five, the first time among them
        found.append(np.linalg.norm(bones.to_bones @ hold(pose, i * SECOND // 10), axis=-1))
    expected = lengths(truth, bones)
    assert np.abs(found[-1] - expected).max() < 0.02
    assert np.std(found[-100:], axis=0).max() < 0.005  # of 0.03 that was put in


def test_old_lengths_are_forgotten() -> None:
    bones = tree("h36m17")
    hold = BoneLengths(bones)
    small, large = somebody("h36m17", 6), 2 * somebody("h36m17", 6)
    for i in range(3 * SAMPLES):
        out = hold(small if i < 2 * SAMPLES else large, i * SECOND)
    assert_allclose(lengths(out, bones), lengths(large, bones), rtol=1e-5)


def test_many_frames_a_second_do_not_shorten_the_memory() -> None:
    """At 1000 frames a second only every hundredth pose is measured."""
    bones = tree("h36m17")
    hold = BoneLengths(bones)
    pose = somebody("h36m17", 7)
    hold(pose, 0)
    assert_allclose(lengths(hold(3 * pose, SECOND // 1000), bones), lengths(pose, bones), rtol=1e-5)
