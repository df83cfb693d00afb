from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkp import skeletons
from streamkp.motion import side_swaps
from streamkp.motion.side_swaps import JUMP, SwapFilter
from streamkp.training.invented import invent
from streamkp.training.randomness import Random

MIRROR = list(skeletons.get("h36m17").mirror)
LEGS, ARMS = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]
SIZE = 600.0
FPS = 30


def seen(seed: int, frames: int = 180) -> np.ndarray:
    """A motion of `frames` / 30 s before a camera, [T, 17, 3]: pixels and scores, a person of 600 pixels."""
    motion = invent(1, frames, Random(seed, torch.device("cpu")), (26.0, 90.0))[0].numpy().astype(float)
    pixels = motion[..., :2] * [1, -1] * SIZE / np.ptp(motion[..., 1])
    return np.concatenate([pixels, np.ones((frames, 17, 1))], -1).astype(np.float32)


def follow(poses: np.ndarray, sides: SwapFilter | None = None, start: float = 0.0) -> np.ndarray:
    sides = sides or SwapFilter()
    return np.array([sides("h36m17", pose, int((start + i / FPS) * 1e9), SIZE) for i, pose in enumerate(poses)])


def farthest(poses: np.ndarray, others: np.ndarray) -> float:
    """Pixels between the same joints, at most."""
    return float(np.linalg.norm((poses - others)[..., :2], axis=-1).max())


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_what_is_right_stays(seed: int) -> None:
    poses = seen(seed)
    assert farthest(follow(poses), poses) == 0


@given(st.lists(st.tuples(st.floats(0, JUMP), st.floats(0, 1)), min_size=1, max_size=12))
def test_pairs_that_are_all_where_they_were_going_have_not_been_exchanged(pairs: list[tuple[float, float]]) -> None:
    """Therefore nobody looks at how far the exchanged body would be."""
    stays, changes = np.array(pairs).T
    assert not side_swaps._is_exchange(stays, changes)


def test_exchanges_of_some_frames_are_undone() -> None:
    """Not all: while both sides are in one place, nothing tells them apart."""
    undone = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        poses = seen(seed)
        during = slice(first := int(rng.integers(5, 150)), first + int(rng.integers(1, 13)))
        wrong = poses.copy()
        wrong[during] = poses[during][:, MIRROR]
        undone.append(farthest(follow(wrong), poses) < 0.1 * SIZE)
    assert np.mean(undone) >= 0.95


@pytest.mark.parametrize("joints", [[13, 16], [12, 15], [3, 6], [1, 4], ARMS, LEGS, [2, 3, 5, 6]])
def test_a_part_of_the_body_is_never_exchanged_by_itself(joints: list[int]) -> None:
    for seed in range(5):
        poses = np.repeat(seen(seed)[:1], 20, 0)
        wrong = poses.copy()
        wrong[5:10, joints] = poses[5:10][:, MIRROR][:, joints]
        np.testing.assert_array_equal(follow(wrong), wrong)


def test_hands_that_meet_before_the_belly_are_not_exchanged() -> None:
    """Fast towards each other and back, as in a clap: going on as they went, they would have passed each other."""
    poses = np.repeat(seen(1)[:1], 60, 0)
    left, right = poses[0, 13, :2].copy(), poses[0, 16, :2].copy()
    middle = (left + right) / 2
    for i in range(60):
        apart = abs(np.cos(np.pi * i / 12))
        poses[i, 13, :2], poses[i, 16, :2] = middle + apart * (left - middle), middle + apart * (right - middle)
    np.testing.assert_array_equal(follow(poses), poses)


def test_both_joints_of_a_pair_in_one_place_between_two_opinions() -> None:
    poses = np.repeat(seen(1)[:1], 20, 0)
    wrong = poses.copy()
    wrong[5:10] = poses[5:10, MIRROR]
    wrong[8, [3, 6]] = poses[8, [3, 6]].mean(0)
    got = follow(wrong)
    assert farthest(got[[*range(8), *range(9, 20)]], poses[[*range(8), *range(9, 20)]]) == 0


def test_a_network_that_insists_is_believed() -> None:
    poses = np.repeat(seen(1)[:1], 3 * FPS, 0)
    wrong = poses.copy()
    wrong[:6] = poses[:6, MIRROR]  # it began with an error, and has seen it
    got = follow(wrong)
    assert farthest(got[:6], wrong[:6]) == 0
    assert farthest(got[30:], poses[30:]) == 0
    wrong = poses.copy()
    wrong[45:] = poses[45:, MIRROR]
    got = follow(wrong)
    assert farthest(got[:89], poses[:89]) == 0, "a second and a half"
    late = follow(np.concatenate([wrong, wrong[45:]]))
    assert farthest(late[95:], poses[0, MIRROR]) == 0


@pytest.mark.parametrize("pause", [0.25, 10.0])
def test_after_a_pause_nothing_is_known(pause: float) -> None:
    poses = seen(2)[:10]
    sides = SwapFilter()
    follow(poses, sides)
    exchanged = poses[:, MIRROR]
    assert farthest(follow(exchanged, sides, start=9 / FPS + pause), exchanged) == 0


def test_a_frame_from_before_changes_nothing() -> None:
    poses = np.repeat(seen(2)[:1], 10, 0)
    sides = SwapFilter()
    follow(poses, sides, start=1.0)
    np.testing.assert_array_equal(sides("h36m17", poses[0, MIRROR], 0, SIZE), poses[0, MIRROR])
    assert farthest(follow(poses[:, MIRROR], sides, start=1.0 + 10 / FPS)[:10], poses) == 0


def test_joints_that_are_not_seen_pass_and_are_followed_once_they_are() -> None:
    poses = np.repeat(seen(1)[:1], 12, 0)
    poses[:4, 3] = np.nan
    wrong = poses.copy()
    wrong[8:10] = poses[8:10, MIRROR]
    np.testing.assert_array_equal(follow(wrong), poses)


def test_another_layout_starts_anew() -> None:
    sides = SwapFilter()
    pose = seen(1)[0]
    sides("h36m17", pose, 0, SIZE)
    whole = np.random.default_rng(0).uniform(0, 600, (133, 3))
    np.testing.assert_array_equal(sides("wholebody133", whole, 10_000_000, SIZE), whole)
    np.testing.assert_array_equal(sides("hand21", whole[:21], 20_000_000, SIZE), whole[:21])
    np.testing.assert_array_equal(sides("hand21", whole[21:42], 30_000_000, SIZE), whole[21:42])


def test_what_comes_in_is_not_written_to() -> None:
    poses = np.repeat(seen(1)[:1], 3, 0)
    poses[2] = poses[2, MIRROR]
    before = poses.copy()
    follow(poses)
    np.testing.assert_array_equal(poses, before)
