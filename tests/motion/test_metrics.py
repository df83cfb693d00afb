from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.motion import metrics


@pytest.fixture(scope="module")
def poses(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "metrics" / "io.npz"))


@pytest.fixture(scope="module")
def published(golden: Path) -> dict[str, dict[str, float]]:
    return json.loads((golden / "metrics" / "manifest.json").read_text())


def test_videopose3d(poses, published):
    values, pred, gt = published["videopose3d"], poses["pred"], poses["gt"]
    assert metrics.mpjpe(pred, gt) == pytest.approx(values["mpjpe"], rel=1e-6)
    assert metrics.p_mpjpe(pred, gt) == pytest.approx(values["p_mpjpe"], rel=1e-5)
    assert metrics.mpjpe(metrics.align_scale(pred, gt), gt) == pytest.approx(values["n_mpjpe"], rel=1e-6)


@pytest.mark.parametrize("masked", [False, True], ids=["all", "masked"])
@pytest.mark.parametrize("alignment", ["none", "procrustes", "scale"])
def test_mmpose(poses, published, alignment, masked):
    align = {"none": lambda p, _: p, "procrustes": metrics.align_rigid, "scale": metrics.align_scale}[alignment]
    predicted = align(poses["pred"].astype(np.float64), poses["gt"].astype(np.float64))
    mask = poses["mask"] if masked else None
    errors = metrics.joint_errors(predicted, poses["gt"])[... if mask is None else mask]
    values, name = published["mmpose_0x"], alignment + ("_masked" if masked else "")
    assert metrics.mpjpe(predicted, poses["gt"], mask) == pytest.approx(values[f"mpjpe_{name}"], rel=1e-6)
    assert 100 * metrics.pck(errors) == pytest.approx(values[f"pck150_{name}_percent"], rel=1e-6)
    assert 100 * metrics.auc(errors) == pytest.approx(values[f"auc_{name}_percent"], rel=1e-5)


def test_mpi_inf_3dhp(poses, published):
    values = published["hdformer_eval"]
    errors = 1000 * metrics.joint_errors(poses["pred"], poses["gt"])
    thresholds = np.arange(0, 151, 5)
    pck, auc = metrics.mpii_scores([errors[:120], errors[120:]], 150, thresholds)
    assert pck == pytest.approx(values["mpii_pck150_two_sequences"], rel=1e-6)
    assert auc == pytest.approx(values["mpii_auc_two_sequences"], rel=1e-6)
    groups = np.stack([errors[..., list(group)].mean(-1) for group in metrics.MPII_GROUPS], -1)
    assert metrics.pck(groups, 150, inclusive=True) == pytest.approx(values["pck_groups"], rel=1e-6)
    assert metrics.auc(groups, thresholds, inclusive=True) == pytest.approx(values["auc_groups_mean"], rel=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_rigid_alignment_undoes_any_similarity(seed):
    random = np.random.default_rng(seed)
    target = random.normal(size=(3, 17, 3))
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    moved = random.uniform(0.1, 5) * target @ turn + random.normal(size=3)
    assert metrics.p_mpjpe(moved, target) < 1e-8


def test_rigid_alignment_does_not_reflect():
    target = np.random.default_rng(0).normal(size=(17, 3))
    assert metrics.p_mpjpe(target * [-1, 1, 1], target) > 0.1


def test_degenerate_poses_give_numbers():
    nothing, target = np.zeros((2, 17, 3)), np.random.default_rng(0).normal(size=(2, 17, 3))
    assert np.isfinite(metrics.p_mpjpe(nothing, target))
    scaled = metrics.align_scale(nothing, target)
    assert metrics.mpjpe(scaled, target) == pytest.approx(metrics.mpjpe(nothing, target))


def test_poses_of_different_shape_are_an_error():
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.mpjpe(np.zeros((2, 17, 3)), np.zeros((1, 17, 3)))


def _walk(random: np.random.Generator, frames: int = 20) -> np.ndarray:
    return random.normal(size=(1, 17, 3)) + random.normal(size=(frames, 17, 3)).cumsum(0) / 10


def test_one_alignment_of_the_sequence_keeps_its_velocities_but_for_scale():
    random = np.random.default_rng(1)
    target = _walk(random)
    turn, _ = np.linalg.qr(random.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    assert metrics.pa_mpjve(1.7 * target @ turn + 3, target) < 1e-8
    # each pose by itself would be aligned perfectly; as a sequence, a body that turns does not move as one that stands
    still = np.repeat(target[:1], 20, 0)
    assert metrics.pa_mpjve(still, target) == pytest.approx(np.linalg.norm(np.diff(target, axis=0), axis=-1).mean())


def test_jitter_is_the_mean_second_difference():
    frames = np.arange(6.0)[:, None, None]
    assert metrics.jitter(frames * np.ones((6, 2, 3))) == pytest.approx(0)
    assert metrics.jitter(frames**2 * np.array([[[3.0, 0, 4.0]]])) == pytest.approx(10)
    assert np.isnan(metrics.jitter(np.zeros((2, 17, 3))))


def test_gaps_do_not_count():
    poses = _walk(np.random.default_rng(2))
    gap = poses.copy()
    gap[9] = np.nan
    known = np.concatenate([np.diff(poses[:9], 2, axis=0), np.diff(poses[10:], 2, axis=0)])
    assert metrics.jitter(gap) == pytest.approx(np.linalg.norm(known, axis=-1).mean())
    assert metrics.pa_mpjve(gap, poses) < 1e-8
    assert np.isnan(metrics.align_sequence(gap, poses)[9]).all()
    bones = [(0, 1), (1, 2)]
    assert metrics.bone_spread(gap, bones) == pytest.approx(metrics.bone_spread(np.delete(poses, 9, 0), bones))
    nothing = np.full((4, 17, 3), np.nan)
    assert np.isnan(
        [metrics.jitter(nothing), metrics.bone_spread(nothing, bones), metrics.pa_mpjve(nothing, nothing)]
    ).all()


def test_bone_spread_is_the_mean_deviation_of_the_lengths():
    poses = np.zeros((4, 3, 3))
    poses[:, 1, 0] = 1  # a bone that keeps its length, though its end goes round
    poses[:, 2] = poses[:, 1] + np.array([[0, 1, 0], [0, 3, 0], [0, 0, 1], [0, 0, 3]])
    assert metrics.bone_spread(poses, [(0, 1), (1, 2)]) == pytest.approx(0.5)


def test_foot_speed_counts_only_while_the_foot_stands():
    feet = np.zeros((5, 2, 3))
    feet[:, 0, 0] = [0, 1, 2, 20, 40]  # slides one unit a frame, then swings
    contact = np.array([[True, False]] * 3 + [[False, False]] * 2)
    assert metrics.foot_speed(feet, contact, rate=30) == pytest.approx(30)
    assert np.isnan(metrics.foot_speed(feet, ~contact & False, rate=30))
