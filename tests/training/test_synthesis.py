"""Made training examples are people, seen by cameras, as estimators see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.errors import UsageError
from streamkp.motion import person_view
from streamkp.training import bodies, bones, clips, conventions, estimators, invented, views
from streamkp.training.bones import JOINT
from streamkp.training.randomness import episodes, wander
from streamkp.training.synthesis import Synthesis

FRAMES = 32


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture
def motion(random: np.random.Generator) -> np.ndarray:
    """[6, 32, 17, 3]: people who move, metres, y up."""
    return invented.invent(6, FRAMES, random)


def in_pelvis(motion: np.ndarray) -> np.ndarray:
    """Bone directions in the frame of each pelvis."""
    directions, _ = bones.split(motion)
    return bones.turn(np.swapaxes(bones.pelvis_frame(directions), -1, -2), directions)


def test_bones_and_back(motion: np.ndarray) -> None:
    directions, lengths = bones.split(motion)
    np.testing.assert_allclose(bones.join(motion[..., 0, :], directions * lengths), motion, atol=1e-12)
    frame = bones.pelvis_frame(directions)
    np.testing.assert_allclose(frame @ np.swapaxes(frame, -1, -2), np.broadcast_to(np.eye(3), frame.shape), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_invented_people_bend_as_people_do(seed: int) -> None:
    motion = invented.invent(8, FRAMES, np.random.default_rng(seed))
    _, lengths = bones.split(motion)
    assert np.ptp(lengths, axis=(0, 1)).max() < 1e-9  # one body
    assert motion[..., 1].min() == pytest.approx(0)
    for side in ("left", "right"):
        ends = [f"{side}_{joint}" for joint in ("knee", "ankle", "elbow", "wrist")]
        thigh, shin, arm, hand = (bones.split(motion)[0][..., i, :] for i in bones.bones_to(*ends))
        assert np.arccos(np.clip((thigh * shin).sum(-1), -1, 1)).max() < np.radians(131)
        assert np.arccos(np.clip((arm * hand).sum(-1), -1, 1)).max() < np.radians(141)
    # Knees bend backwards: of someone upright whose thighs hang, the ankles are behind.
    local = in_pelvis(motion)
    for side in ("left", "right"):
        thigh, shin = (local[..., i, :] for i in bones.LEG[side])
        hanging = (thigh[..., 1] < -0.95) & (shin[..., 1] < 0.9)
        assert not hanging.any() or shin[..., 2][hanging].mean() < 0


def test_a_limb_is_moved_as_a_whole(random: np.random.Generator, motion: np.ndarray) -> None:
    def elbows(poses: np.ndarray) -> np.ndarray:
        directions, _ = bones.split(poses)
        arms = [directions[..., bones.ARM[side], :] for side in ("left", "right")]
        return np.stack([(arm[..., 0, :] * arm[..., 1, :]).sum(-1) for arm in arms], -1)

    varied = bodies.vary(motion, random)
    assert varied.shape == motion.shape
    # Every angle of an elbow is one that somebody had at that time, on one side or the other.
    before, after = elbows(motion).transpose(1, 0, 2).reshape(FRAMES, -1), elbows(varied).transpose(1, 0, 2)
    nearest = np.abs(after.reshape(FRAMES, -1, 1) - before[:, None]).min(-1)
    assert nearest.max() < 1e-6


def test_bodies_differ_and_stay_the_same_over_time(random: np.random.Generator, motion: np.ndarray) -> None:
    _, lengths = bones.split(bodies.vary(motion, random))
    assert np.ptp(lengths, axis=1).max() < 1e-6
    assert np.ptp(lengths.mean(1), axis=0).min() > 0.001
    left, right = (lengths[..., bones.LEG[side], :] for side in ("left", "right"))
    np.testing.assert_allclose(left, right, atol=1e-9)


def test_a_build_is_the_same_throughout_and_leaves_the_limbs(random: np.random.Generator, motion: np.ndarray) -> None:
    directions, _ = bones.split(motion)
    built = bodies.build(directions, random)
    trunk = bones.bones_to("left_hip", "right_hip", "spine", "thorax", "neck_nose", "head")
    trunk += bones.bones_to("left_shoulder", "right_shoulder")
    limbs = [bone for bone in range(bones.BONES) if bone not in trunk]
    np.testing.assert_array_equal(built[..., limbs, :], directions[..., limbs, :])
    angles = np.arccos(np.clip((built * directions).sum(-1), -1, 1))[..., trunk]
    assert 0.02 < angles.mean() < 0.4
    for side in ("left_hip", "right_hip"):  # they are still in the axes of the pelvis as it was
        bone = bones.bones_to(side)[0]
        inside = np.einsum("btji,btj->bti", bones.pelvis_frame(directions), built[..., bone, :])
        before = np.einsum("btji,btj->bti", bones.pelvis_frame(directions), directions[..., bone, :])
        assert np.ptp(inside, axis=1).max() <= np.ptp(before, axis=1).max() + 1e-6


def test_mirror_twice_is_nothing(motion: np.ndarray) -> None:
    every = np.ones(len(motion), bool)
    np.testing.assert_array_equal(bodies.mirror(bodies.mirror(motion, every), every), motion)
    assert np.linalg.det(bones.pelvis_frame(bones.split(bodies.mirror(motion, every))[0])) == pytest.approx(1)


def test_turned_over_people_keep_their_shape(random: np.random.Generator, motion: np.ndarray) -> None:
    many = np.concatenate([motion] * 8)
    turned = bodies.turn_over(many, random)
    changed = np.abs(turned - many).max((1, 2, 3)) > 1e-3
    assert 0 < changed.sum() < len(many) / 2
    np.testing.assert_allclose(bones.split(turned)[1], bones.split(many)[1], atol=1e-9)


def test_layouts(random: np.random.Generator, motion: np.ndarray) -> None:
    seen = conventions.face(motion, random)
    shoulders = (motion[..., JOINT["left_shoulder"], :] + motion[..., JOINT["right_shoulder"], :]) / 2
    np.testing.assert_allclose(seen[..., JOINT["thorax"], :], shoulders)
    nose, neck = seen[..., JOINT["neck_nose"], :], motion[..., JOINT["neck_nose"], :]
    assert 0.05 < np.linalg.norm(nose - neck, axis=-1).mean() < 0.2
    forward = bones.chest_frame(bones.split(motion)[0])[..., 2]
    assert ((nose - neck) * forward).sum(-1).mean() > 0.05  # before the face, mostly
    limbs = [i for i in range(17) if i not in (7, 8, 9, 10)]
    np.testing.assert_array_equal(seen[..., limbs, :], motion[..., limbs, :])
    np.testing.assert_array_equal(conventions.body15(motion)[..., limbs, :], motion[..., limbs, :])


def test_the_camera_sees_the_poses(random: np.random.Generator, motion: np.ndarray) -> None:
    view = views.look(motion, random)
    assert np.isfinite(view.canonical).all()
    np.testing.assert_allclose(view.poses[:, :, 0], 0, atol=1e-9)
    np.testing.assert_allclose(bones.split(view.poses)[1], bones.split(motion)[1], atol=1e-9)
    # Image and pose show the same: joints to the right in space are to the right in the image; so is down.
    around = view.canonical - view.canonical[:, :, :1]
    for axis in (0, 1):
        assert np.corrcoef(around[..., axis].ravel(), view.poses[..., axis].ravel())[0, 1] > 0.8
    # People stand upright in most images: y is down.
    assert (view.canonical[:, :, JOINT["head"], 1] < view.canonical[:, :, JOINT["left_ankle"], 1]).mean() > 0.7


def test_estimators_disturb_some_windows_and_leave_others(random: np.random.Generator) -> None:
    points = np.concatenate([views.look(invented.invent(8, FRAMES, random), random).canonical for _ in range(6)])
    seen, scores = estimators.disturb(points, np.full(len(points), 1 / 1500), random)
    clean = (seen == points).all((1, 2, 3))
    assert 0.05 < clean.mean() < 0.4
    assert (scores[clean] == 1).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    size = np.linalg.norm(np.ptp(points, axis=2), axis=-1)[..., None, None]
    error = np.linalg.norm((seen - points) / size, axis=-1)[~clean]
    sure = scores[~clean] > 0.5
    assert np.median(error[sure]) < 0.03
    assert error[~sure].mean() > 1.5 * error[sure].mean()  # scores tell of it


def test_a_late_start_repeats_the_oldest_pose(random: np.random.Generator) -> None:
    points, scores = random.normal(size=(40, FRAMES, 17, 2)), random.random((40, FRAMES, 17))
    late, late_scores, known = estimators.start_late(points, scores, 0.5, random)
    assert 0 < (~known).any(1).mean() < 1
    for window, score, rows, true in zip(late, late_scores, known, points, strict=True):
        first = int(rows.argmax())
        assert rows[first:].all()
        assert not rows[:first].any()
        np.testing.assert_array_equal(window[first:], true[first:])
        assert (window[: first + 1] == true[first]).all()
        assert (score[: first + 1] == score[first]).all()


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_wandering_is_smooth(batch: int, seed: int) -> None:
    path = wander(np.random.default_rng(seed), (batch, 2), 60, 12.0)
    assert path.shape == (batch, 60, 2)
    steps = np.abs(np.diff(path, axis=1))
    assert np.abs(np.diff(path, n=2, axis=1)).max() <= steps.max() + 1e-9


def test_episodes_last(random: np.random.Generator) -> None:
    on = episodes(random, (50, 3), 100, 0.01, 10)
    starts = on[:, 1:] & ~on[:, :-1]
    assert 5 < on.sum() / (starts.sum() + on[:, 0].sum()) < 20


def test_short_clips_go_back_and_forth(random: np.random.Generator) -> None:
    clip = np.zeros((5, 17, 3), np.float32)
    clip[:, :, 0] = np.arange(5)[:, None]
    windows = clips.sample([clip], 20, FRAMES, random)
    x = windows[..., 0, 0]
    assert (x >= 0).all()
    assert (x <= 4).all()
    assert np.abs(np.diff(x, axis=1)).max() <= clips.SPEED[1] + 1e-6


def test_what_is_no_motion_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.npz"
    np.savez(file, walk=np.zeros((10, 16, 3)))
    with pytest.raises(UsageError, match="walk is not a motion"):
        clips.read(file)
    np.savez(file, walk=np.full((10, 17, 3), np.nan))
    with pytest.raises(UsageError, match="not finite"):
        clips.read(file)


def test_a_batch_depends_on_the_seed_and_its_number_alone(motion: np.ndarray) -> None:
    first, again = Synthesis(list(motion), 1, 4), Synthesis(list(motion), 1, 4)
    first[0]
    np.testing.assert_array_equal(first[3].inputs, again[3].inputs)
    np.testing.assert_array_equal(first[3].poses, again[3].poses)
    others = [first[4], Synthesis(list(motion), 2, 4)[3]]
    assert all((first[3].inputs != other.inputs).any() for other in others)


def test_examples_are_inputs_and_answers(motion: np.ndarray) -> None:
    made = Synthesis(list(motion), 0, 8)[0]
    assert made.inputs.shape == (8, person_view.CHANNELS, person_view.FRAMES, 17)
    assert made.poses.shape == (8, 3, person_view.FRAMES, 17)
    assert made.inputs.dtype == made.poses.dtype == np.float32
    assert np.isfinite(made.inputs).all()
    np.testing.assert_allclose(made.poses[..., 0], 0, atol=1e-6)
    for axis in (0, 1):
        assert np.corrcoef(made.inputs[:, axis, :, 1:].ravel(), made.poses[:, axis, :, 1:].ravel())[0, 1] > 0.7
    assert set(np.unique(made.known)) <= {0.0, 1.0}
    changes = np.abs(np.diff(made.known, axis=1)).sum(1)
    assert (changes <= 1).all()  # the person comes
