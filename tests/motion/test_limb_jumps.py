from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamkp import skeletons
from streamkp.motion.limb_jumps import REFUSED, LimbFilter
from streamkp.training.invented import invent
from streamkp.training.randomness import Random

MOCAP = Path(__file__).parents[3] / "shared" / "assets" / "mocap" / "cmu17_test.npz"
JOINTS = skeletons.get("h36m17").joints
LIMBS = {name: [JOINTS.index(f"left_{joint}") for joint in joints] for name, joints in {
    "leg": ("knee", "ankle"), "foot": ("ankle",), "arm": ("elbow", "wrist"), "hand": ("wrist",),
}.items()}  # fmt: skip
SIZE = 600.0
FPS = 30


def seen(seed: int, frames: int = 120) -> np.ndarray:
    """A motion of `frames` / 30 s before a camera, [T, 17, 3]: pixels and scores, a person of 600 pixels."""
    motion = invent(1, frames, Random(seed, torch.device("cpu")), (26.0, 90.0))[0].numpy().astype(float)
    pixels = motion[..., :2] * [1, -1] * SIZE / np.ptp(motion[..., 1])
    return np.concatenate([pixels, np.full((frames, 17, 1), 0.9)], -1).astype(np.float32)


def still(frames: int = 60) -> np.ndarray:
    return np.repeat(seen(1)[:1], frames, 0)


def follow(poses: np.ndarray, limbs: LimbFilter | None = None, fps: float = FPS, start: float = 0.0) -> np.ndarray:
    limbs = limbs or LimbFilter()
    sizes = (np.nanmax(poses[..., :2], axis=1) - np.nanmin(poses[..., :2], axis=1)).max(1)
    frames = enumerate(zip(poses, sizes, strict=True))
    return np.array([limbs("h36m17", pose, round((start + i / fps) * 1e9), float(size)) for i, (pose, size) in frames])


def refused(got: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """[T, 17]: what has lost its score."""
    out: np.ndarray = got[..., 2] < poses[..., 2]
    return out


def thrown(poses: np.ndarray, limb: list[int], during: slice, sizes: float, angle: float = 0.6) -> np.ndarray:
    """The poses with a limb somewhere else for some frames."""
    wrong = poses.copy()
    away = sizes * SIZE * np.array([np.cos(angle), np.sin(angle)])
    for joint, share in zip(reversed(limb), (1.0, 0.7), strict=False):
        wrong[during, joint, :2] += share * away
    return wrong


@pytest.mark.parametrize("limb", LIMBS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_limb_that_is_thrown_off_is_held_with_a_low_score(limb: str, frames: int) -> None:
    poses = still()
    during = slice(30, 30 + frames)
    wrong = thrown(poses, LIMBS[limb], during, 0.45)
    got = follow(wrong)
    where = np.zeros((60, 17), bool)
    where[during, LIMBS[limb]] = True
    np.testing.assert_array_equal(refused(got, wrong), where)
    np.testing.assert_allclose(got[..., :2], poses[..., :2], atol=1e-3)
    assert got[..., 2][where].max() == np.float32(REFUSED)
    np.testing.assert_array_equal(got[~where], wrong[~where])


def test_in_motion_most_of_what_is_thrown_off_is_refused_and_the_limb_is_back_at_once() -> None:
    caught, late = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        poses, limb = seen(seed), LIMBS[list(LIMBS)[seed % 4]]
        frames = int(rng.integers(1, 7))
        during = slice(first := int(rng.integers(30, 90)), first + frames)
        wrong = thrown(poses, limb, during, rng.uniform(0.3, 0.5), rng.uniform(0, 6.3))
        lost = refused(follow(wrong), wrong)
        caught.append(lost[during, limb[-1]].mean())
        late.append(lost[during.stop :].sum())
    assert np.mean(caught) > 0.9
    assert np.mean(late) < 1


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_true_motion_is_hardly_ever_refused(stride: int) -> None:
    joints = lost = 0
    for seed in range(30):
        poses = seen(seed)[::stride]
        joints += 8 * len(poses)
        lost += int(refused(follow(poses, fps=FPS / stride), poses).sum())
    assert lost <= joints / 2000


@pytest.mark.skipif(not MOCAP.exists(), reason="the motion capture is not there")
@pytest.mark.parametrize("turn", [0.0, 1.3])
def test_cartwheels_and_kicks_are_hardly_ever_refused(turn: float) -> None:
    """CMU subjects 29 (martial arts) and 49 (cartwheels, jumps) before a camera at 4.5 m."""
    joints = lost = 0
    with np.load(MOCAP) as clips:
        for name in clips.files:
            motion = clips[name][:600].astype(float)
            motion -= motion[:, :1].mean(0)
            x, y, z = np.moveaxis(motion, -1, 0)
            across, depth = x * np.cos(turn) + z * np.sin(turn), z * np.cos(turn) - x * np.sin(turn) + 4.5
            pixels = 1000 * np.stack([across, -y], -1) / np.maximum(depth, 1.5)[..., None]
            poses = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 0.9)], -1).astype(np.float32)
            joints += 8 * len(poses)
            lost += int(refused(follow(poses), poses).sum())
    assert joints > 20_000
    assert lost <= joints / 3000


def test_a_network_that_insists_is_believed_and_the_sooner_the_less_it_was_sure() -> None:
    def frames_until_believed(before: float, now: float) -> int:
        poses = still(90)
        poses[:30, :, 2] = before
        wrong = thrown(poses, LIMBS["leg"], slice(30, 90), 0.6)
        wrong[30:, :, 2] = now
        lost = refused(follow(wrong), wrong)[:, LIMBS["leg"][-1]]
        assert not lost[:30].any()
        assert not lost[50:].any()
        return int(lost.sum())

    assert 10 <= frames_until_believed(0.9, 0.9) <= 16
    assert 2 <= frames_until_believed(0.2, 0.9) <= 5


def test_a_low_score_is_not_raised() -> None:
    wrong = thrown(still(), LIMBS["leg"], slice(30, 33), 0.5)
    wrong[30:33, LIMBS["leg"], 2] = 0.02
    np.testing.assert_array_equal(follow(wrong)[..., 2], wrong[..., 2])


def test_the_whole_body_may_jump() -> None:
    """A camera that is pushed, or one that cuts."""
    poses = still()
    poses[30:, :, :2] += 0.5 * SIZE
    np.testing.assert_array_equal(follow(poses), poses)


def test_a_shoulder_that_jumps_by_itself_takes_no_arm_along() -> None:
    poses = still()
    poses[30:33, JOINTS.index("left_shoulder"), :2] += 0.3 * SIZE
    np.testing.assert_array_equal(follow(poses), poses)


@pytest.mark.parametrize("frames", [1, 4, 20])
def test_legs_that_are_exchanged_are_not_refused(frames: int) -> None:
    poses = still()
    poses[:, 3, 0] += 100  # astride
    wrong = poses.copy()
    mirrored = [6, 5, 3, 2]
    wrong[30 : 30 + frames, [3, 2, 6, 5]] = poses[30 : 30 + frames][:, mirrored]
    np.testing.assert_array_equal(follow(wrong), wrong)


def test_both_legs_in_one_place_do_not_make_the_way_back_wrong() -> None:
    poses = still()
    poses[:, 3, 0] += 200
    wrong = poses.copy()
    wrong[30:36, 3] = poses[30:36, 6]
    np.testing.assert_array_equal(follow(wrong), wrong)


def test_hands_and_feet_go_with_wrists_and_ankles() -> None:
    layout = skeletons.get("blazepose33")
    rng = np.random.default_rng(3)
    pose = np.concatenate([rng.uniform(0, 300, (33, 2)), np.full((33, 1), 0.9)], -1).astype(np.float32)
    foot = [layout.joints.index(f"left_{name}") for name in ("ankle", "heel", "foot_index")]
    hand = [layout.joints.index(f"right_{name}") for name in ("wrist", "pinky", "index", "thumb")]
    for part in (foot, hand):
        limbs = LimbFilter()
        for i in range(20):
            limbs("blazepose33", pose, round(i * 1e9 / FPS), 300.0)
        wrong = pose.copy()
        wrong[part, :2] += (500, -400)
        got = limbs("blazepose33", wrong, round(20e9 / FPS), 300.0)
        np.testing.assert_allclose(got[:, :2], pose[:, :2], atol=1e-3)
        np.testing.assert_array_equal(np.flatnonzero(got[:, 2] < 0.5), sorted(part))


def test_after_a_pause_or_with_another_layout_nothing_is_known() -> None:
    limbs = LimbFilter()
    poses = still(10)
    follow(poses, limbs)
    elsewhere = thrown(poses, LIMBS["leg"], slice(0, 10), 0.5)
    np.testing.assert_array_equal(follow(elsewhere, limbs, start=1.0), elsewhere)
    other = np.random.default_rng(0).uniform(0, 600, (133, 3))
    for i, layout in enumerate(("wholebody133", "hand21", "wholebody133")):
        points = other[: len(skeletons.get(layout).joints)]
        np.testing.assert_array_equal(limbs(layout, points, round((1.4 + i / FPS) * 1e9), SIZE), points)


def test_a_frame_from_before_passes_and_changes_nothing() -> None:
    limbs = LimbFilter()
    poses = still(30)
    follow(poses, limbs, start=1.0)
    wrong = thrown(poses[:1], LIMBS["leg"], slice(0, 1), 0.5)
    np.testing.assert_array_equal(follow(wrong, limbs), wrong)
    np.testing.assert_array_equal(follow(poses, limbs, start=1.0 + 30 / FPS), poses)


@pytest.mark.parametrize("missing", [LIMBS["foot"], LIMBS["leg"], [JOINTS.index("left_hip")]])
def test_joints_that_are_not_finite_pass_and_are_followed_again(missing: list[int]) -> None:
    poses = still()
    poses[20:24, missing] = np.nan
    np.testing.assert_array_equal(follow(poses), poses)
    wrong = thrown(poses, LIMBS["hand"], slice(40, 42), 0.5)
    assert refused(follow(wrong), wrong)[40:42, LIMBS["hand"]].all()


def test_what_comes_in_is_not_written_to() -> None:
    wrong: Any = thrown(still(), LIMBS["arm"], slice(30, 34), 0.5)
    before = wrong.copy()
    follow(wrong)
    np.testing.assert_array_equal(wrong, before)
