"""Made training examples are people, seen by cameras, as estimators see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamkp.errors import UsageError
from streamkp.training import bodies, bones, clips, conventions, estimators, invented, synthesis, views
from streamkp.training.bones import JOINT
from streamkp.training.randomness import Random

FRAMES = 32
CPU = torch.device("cpu")


@pytest.fixture
def random() -> Random:
    return Random(5, CPU)


@pytest.fixture
def motion(random: Random) -> Tensor:
    """[6, 32, 17, 3]: people who move, metres, y up."""
    return invented.invent(6, FRAMES, random)


def in_pelvis(motion: Tensor) -> Tensor:
    """Bone directions in the frame of each pelvis."""
    directions, _ = bones.split(motion)
    return bones.turn(bones.pelvis_frame(directions).transpose(-1, -2), directions)


def spread(values: Tensor, *axes: int) -> Tensor:
    """The largest less the smallest."""
    return values.amax(axes) - values.amin(axes)


def test_bones_and_back(motion: Tensor) -> None:
    directions, lengths = bones.split(motion)
    torch.testing.assert_close(bones.join(motion[..., 0, :], directions * lengths), motion, atol=1e-5, rtol=0)
    frame = bones.pelvis_frame(directions)
    torch.testing.assert_close(frame @ frame.transpose(-1, -2), torch.eye(3).expand_as(frame), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_invented_people_bend_as_people_do(seed: int) -> None:
    motion = invented.invent(8, FRAMES, Random(seed, CPU))
    directions, lengths = bones.split(motion)
    assert spread(lengths, 0, 1).max() < 1e-5  # one body
    assert float(motion[..., 1].min()) == pytest.approx(0)
    for side in ("left", "right"):
        ends = [f"{side}_{joint}" for joint in ("knee", "ankle", "elbow", "wrist")]
        thigh, shin, arm, hand = (directions[..., i, :] for i in bones.bones_to(*ends))
        assert torch.rad2deg((thigh * shin).sum(-1).clamp(-1, 1).acos()).max() < 131
        assert torch.rad2deg((arm * hand).sum(-1).clamp(-1, 1).acos()).max() < 141
    # Knees bend backwards: of someone upright whose thighs hang, the ankles are behind.
    local = in_pelvis(motion)
    for side in ("left", "right"):
        thigh, shin = (local[..., i, :] for i in bones.LEG[side])
        hanging = (thigh[..., 1] < -0.95) & (shin[..., 1] < 0.9)
        assert not hanging.any() or shin[..., 2][hanging].mean() < 0


def test_a_limb_is_moved_as_a_whole(random: Random, motion: Tensor) -> None:
    def elbows(poses: Tensor) -> Tensor:
        directions, _ = bones.split(poses)
        arms = [bones.of(directions, bones.ARM[side]) for side in ("left", "right")]
        return torch.stack([(arm[..., 0, :] * arm[..., 1, :]).sum(-1) for arm in arms], -1)

    varied = bodies.vary(motion, random)
    assert varied.shape == motion.shape
    # Every angle of an elbow is one that somebody had at that time, on one side or the other.
    before, after = elbows(motion).transpose(0, 1).reshape(FRAMES, -1), elbows(varied).transpose(0, 1)
    nearest = (after.reshape(FRAMES, -1, 1) - before[:, None]).abs().amin(-1)
    assert nearest.max() < 1e-4


def test_bodies_differ_and_stay_the_same_over_time(random: Random, motion: Tensor) -> None:
    _, lengths = bones.split(bodies.vary(motion, random))
    assert spread(lengths, 1).max() < 1e-4
    assert spread(lengths.mean(1), 0).min() > 0.001
    left, right = (bones.of(lengths, bones.LEG[side]) for side in ("left", "right"))
    torch.testing.assert_close(left, right, atol=1e-5, rtol=0)


def test_a_build_is_the_same_throughout_and_leaves_the_limbs(random: Random, motion: Tensor) -> None:
    directions, _ = bones.split(motion)
    built = bodies.build(directions, random)
    trunk = bones.bones_to("left_hip", "right_hip", "spine", "thorax", "neck_nose", "head")
    trunk += bones.bones_to("left_shoulder", "right_shoulder")
    limbs = [bone for bone in range(bones.BONES) if bone not in trunk]
    assert torch.equal(built[..., limbs, :], directions[..., limbs, :])
    angles = bones.of((built * directions).sum(-1, keepdim=True).clamp(-1, 1).acos(), trunk)
    assert 0.02 < angles.mean() < 0.4
    for side in ("left_hip", "right_hip"):  # they are still in the axes of the pelvis as it was
        back = bones.pelvis_frame(directions).transpose(-1, -2)
        inside, before = (bones.turn(back, bones.of(each, bones.bones_to(side))) for each in (built, directions))
        assert spread(inside, 1).max() <= spread(before, 1).max() + 1e-5


def test_mirror_twice_is_nothing(motion: Tensor) -> None:
    every = torch.ones(len(motion), dtype=torch.bool)
    mirrored = bodies.mirror(motion, every)
    assert torch.equal(bodies.mirror(mirrored, every), motion)
    torch.testing.assert_close(torch.linalg.det(bones.pelvis_frame(bones.split(mirrored)[0])), torch.ones(6, FRAMES))


def test_turned_over_people_keep_their_shape(random: Random, motion: Tensor) -> None:
    many = torch.cat([motion] * 8)
    turned = bodies.turn_over(many, random)
    changed = (turned - many).abs().amax((1, 2, 3)) > 1e-3
    assert 0 < changed.sum() < len(many) * 0.6
    torch.testing.assert_close(bones.split(turned)[1], bones.split(many)[1], atol=1e-5, rtol=0)


def test_balanced_people_stand_above_their_feet(motion: Tensor) -> None:
    """One who stands on a leg and holds the other straight ahead leans back."""
    still = invented.invent(1, 1, Random(0, CPU), transition=(1000.0, 1001.0))
    directions, lengths = bones.split(still)
    for bone in range(bones.BONES):
        directions[..., bone, :] = torch.tensor([0.0, 1.0, 0.0])
    others = {"left_hip": (1, 0, 0), "right_hip": (-1, 0, 0), "right_knee": (0, 0, 1), "right_ankle": (0, 0, 1)}
    for name, toward in ({"left_knee": (0, -1, 0), "left_ankle": (0, -1, 0)} | others).items():
        directions[..., bones.bones_to(name)[0], :] = torch.tensor(toward, dtype=torch.float32)
    standing = bones.join(still[..., 0, :], directions * lengths).expand(1, 20, 17, 3)
    turned = bodies.balanced(standing, torch.tensor([True]))
    torch.testing.assert_close(bones.split(turned)[1], bones.split(standing)[1], atol=1e-5, rtol=0)
    head = turned[0, 0, JOINT["head"]] - turned[0, 0, JOINT["left_ankle"]]
    assert -0.6 < head[2] < -0.05
    assert torch.equal(bodies.balanced(motion, torch.zeros(6, dtype=torch.bool)), motion)


def test_layouts(random: Random, motion: Tensor) -> None:
    seen = conventions.face(motion, random)
    shoulders = (motion[..., JOINT["left_shoulder"], :] + motion[..., JOINT["right_shoulder"], :]) / 2
    torch.testing.assert_close(seen[..., JOINT["thorax"], :], shoulders)
    nose, neck = seen[..., JOINT["neck_nose"], :], motion[..., JOINT["neck_nose"], :]
    assert 0.05 < (nose - neck).norm(dim=-1).mean() < 0.2
    forward = bones.chest_frame(bones.split(motion)[0])[..., 2]
    assert ((nose - neck) * forward).sum(-1).mean() > 0.05  # before the face, mostly
    limbs = [i for i in range(17) if i not in (7, 8, 9, 10)]
    assert torch.equal(seen[..., limbs, :], motion[..., limbs, :])
    assert torch.equal(conventions.body15(motion)[..., limbs, :], motion[..., limbs, :])


def test_the_camera_sees_the_poses(random: Random, motion: Tensor) -> None:
    view = views.look(motion, random)
    assert view.canonical.isfinite().all()
    assert view.poses[:, :, 0].abs().max() == 0
    torch.testing.assert_close(bones.split(view.poses)[1], bones.split(motion)[1], atol=1e-4, rtol=0)
    # Image and pose show the same: joints to the right in space are to the right in the image; so is down.
    around = view.canonical - view.canonical[:, :, :1]
    for axis in (0, 1):
        assert np.corrcoef(around[..., axis].ravel(), view.poses[..., axis].ravel())[0, 1] > 0.8
    # People stand upright in most images: y is down.
    upright = view.canonical[:, :, JOINT["head"], 1] < view.canonical[:, :, JOINT["left_ankle"], 1]
    assert upright.float().mean() > 0.7


def test_estimators_disturb_some_windows_and_leave_others(random: Random) -> None:
    points = torch.cat([views.look(invented.invent(8, FRAMES, random), random).canonical for _ in range(6)])
    seen, scores = estimators.disturb(points, torch.full((len(points),), 1 / 1500), random)
    clean = (seen == points).flatten(1).all(1)
    assert 0.05 < clean.float().mean() < 0.4
    assert (scores[clean] == 1).all()
    assert scores.min() >= 0
    assert scores.max() <= 1
    size = spread(points, 2).norm(dim=-1)[..., None, None]
    error = ((seen - points) / size).norm(dim=-1)[~clean]
    sure = scores[~clean] > 0.5
    assert error[sure].median() < 0.03
    assert error[~sure].mean() > 1.5 * error[sure].mean()  # scores tell of it


def test_a_filter_lags_as_one_that_goes_row_by_row(random: Random) -> None:
    points, weight = random.normal(3, 20, 17, 2), torch.tensor([0.3, 0.9, 1.0])
    expected = [points[:, 0]]
    for row in range(1, 20):
        expected.append(expected[-1] + weight[:, None, None] * (points[:, row] - expected[-1]))
    torch.testing.assert_close(estimators._smooth(points, weight), torch.stack(expected, 1), atol=1e-5, rtol=0)


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_wandering_is_smooth(batch: int, seed: int) -> None:
    path = Random(seed, CPU).wander((batch, 2), 60, 12.0)
    assert path.shape == (batch, 60, 2)
    steps = path.diff(dim=1).abs()
    assert path.diff(n=2, dim=1).abs().max() <= steps.max() + 1e-6


def test_wandering_has_unit_variance(random: Random) -> None:
    path = random.wander((4000,), 30, torch.tensor(7.0))
    torch.testing.assert_close(path.std(0), torch.ones(30), atol=0.05, rtol=0)


def test_episodes_last(random: Random) -> None:
    on = random.episodes((50, 3), 100, 0.01, 10)
    starts = on[:, 1:] & ~on[:, :-1]
    assert 5 < on.sum() / (starts.sum() + on[:, 0].sum()) < 20


def test_short_clips_go_back_and_forth(random: Random) -> None:
    clip = np.zeros((5, 17, 3), np.float32)
    clip[:, :, 1] = np.arange(5)[:, None]
    windows = clips.Clips([clip], CPU, [1.0]).sample(20, FRAMES, random)
    y = windows[..., 0, 1]
    assert (y >= 0).all()
    assert (y <= 4).all()
    assert y.diff(dim=1).abs().max() <= 1.7 * clips.SPEED[1]


def test_clips_are_drawn_by_their_weights(random: Random) -> None:
    one, other = (np.full((50, 17, 3), height, np.float32) for height in (1, 2))
    windows = clips.Clips([one, other], CPU, [3.0, 1.0]).sample(2000, 4, random)
    assert float((windows[:, 0, 0, 1] == 1).float().mean()) == pytest.approx(0.75, abs=0.04)


def test_what_is_no_motion_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wrong.npz"
    np.savez(file, walk=np.zeros((10, 16, 3)))
    with pytest.raises(UsageError, match="walk is not a motion"):
        clips.read(file)
    np.savez(file, walk=np.full((10, 17, 3), np.nan))
    with pytest.raises(UsageError, match="not finite"):
        clips.read(file)


def test_examples_go_on_where_the_state_says(motion: Tensor) -> None:
    recorded = clips.Clips([each.numpy() for each in motion], CPU, [1.0] * len(motion))
    random = Random(1, CPU)
    synthesis.make(recorded, 4, FRAMES, random)
    state = random.state()
    made, other = (synthesis.make(recorded, 4, FRAMES, random) for _ in range(2))
    again = Random(2, CPU)
    again.restore(state)
    assert torch.equal(synthesis.make(recorded, 4, FRAMES, again).points, made.points)
    assert not torch.equal(other.points, made.points)


def test_examples_are_inputs_and_answers(motion: Tensor) -> None:
    recorded = clips.Clips([each.numpy() for each in motion], CPU, [1.0] * len(motion))
    made = synthesis.make(recorded, 8, FRAMES, Random(0, CPU))
    assert made.points.shape == (8, FRAMES, 17, 2)
    assert made.scores.shape == (8, FRAMES, 17)
    assert made.poses.shape == (8, FRAMES, 17, 3)
    assert made.points.isfinite().all()
    around = made.points - made.points[:, :, :1]
    for axis in (0, 1):
        assert np.corrcoef(around[:, :, 1:, axis].ravel(), made.poses[:, :, 1:, axis].ravel())[0, 1] > 0.7
