from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.evaluation import npz
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.noise import MISSING_SCORE, disturb
from tests.reference.cameras import camera_to_world


def people(frames: int, seed: int = 0) -> np.ndarray:
    """Somebody of 17 joints who sways a little, metres, y up."""
    height = np.array([1, 1, 0.5, 0.1, 1, 0.5, 0.1, 1.2, 1.4, 1.55, 1.7, 1.4, 1.2, 1, 1.4, 1.2, 1])
    side = np.array([0, -1, -1, -1, 1, 1, 1, 0, 0, 0, 0, 1.5, 2, 2, -1.5, -2, -2]) * 0.12
    sway = 0.05 * np.sin(np.arange(frames) / 5)[:, None]
    pose = np.stack(np.broadcast_arrays(side + sway, height, sway + seed), -1)
    return pose.astype(np.float32)


def save(path: Path, **content: object) -> Path:
    """As the preparation scripts of the data sets do it: dicts become pickled arrays without axes."""
    np.savez_compressed(path, **content)
    return path


def test_motion_capture_is_seen_by_the_same_cameras_for_the_same_seed(tmp_path: Path) -> None:
    path = save(tmp_path / "clips.npz", a=people(20), b=people(7))
    first, again, other = (datasets.read(path, seed).sequences for seed in (3, 3, 4))
    assert [(s.action, len(s.poses)) for s in first] == [("a", 20)] * 4 + [("b", 7)] * 4
    assert all(np.array_equal(x.points, y.points) for x, y in zip(first, again, strict=True))
    assert not np.allclose(first[0].poses, other[0].poses)
    for sequence in first:
        bones = np.linalg.norm(sequence.poses[:, 1] - sequence.poses[:, 2], axis=-1)
        assert bones == pytest.approx(0.5, abs=1e-4)  # a camera keeps lengths
        assert sequence.poses[..., 2].min() > 0.5
        assert (sequence.points[:, 10, 1] < sequence.points[:, 3, 1]).all()  # the head is above the feet
        inside = ((sequence.points >= 0) & (sequence.points < sequence.size)).all(-1)
        assert inside.mean() > 0.98
        plane = sequence.poses[..., :2] / sequence.poses[..., 2:] * sequence.lens.focal + sequence.lens.centre
        assert np.allclose(plane, sequence.points)


def h36m_world(frames: int) -> np.ndarray:
    """32 joints in Human3.6M's world: z up, people near the origin."""
    world = np.zeros((frames, 32, 3), np.float32)
    world[:, list(datasets.H36M_MOVING)] = people(frames)[..., [0, 2, 1]]
    return world


def test_human36m_is_seen_by_its_own_cameras(tmp_path: Path) -> None:
    world = h36m_world(9)
    positions = {"S1": {"Directions": world}, "S9": {"Walking 1": world, "Walking": world}, "S11": {"Eating": world}}
    dataset = datasets.read(save(tmp_path / "data_3d_h36m.npz", positions_3d=positions), 0)
    assert [s.action for s in dataset.sequences] == ["Walking"] * 8 + ["Eating"] * 4
    assert dataset.by_action
    orientation = [0.15540587902069092, -0.15548215806484222, -0.7532095313072205, 0.6199594736099243]
    position = [2.04445849609375, 4.9351171875, 1.4812275390625]
    back = camera_to_world(dataset.sequences[0].poses, orientation, position)
    assert np.allclose(back, world[:, list(datasets.H36M_MOVING)], atol=1e-5)
    for sequence in dataset.sequences:
        assert (sequence.poses[..., 2] > 3).all()
        assert (np.abs(sequence.points - 500) < 400).all()
        assert (sequence.points[:, 10, 1] < sequence.points[:, 3, 1]).all()


@pytest.mark.parametrize(("layout", "skeleton"), [("h36m", "h36m17"), ("coco", "coco17")])
def test_human36m_with_detected_keypoints(tmp_path: Path, layout: str, skeleton: str) -> None:
    world = h36m_world(9)
    save(tmp_path / "data_3d_h36m.npz", positions_3d={s: {"Walking": world} for s in datasets.H36M_TEST})
    views = [np.full((11, 17, 2), 100 * i, np.float32) for i in range(4)]  # longer than the 3D poses, as there
    metadata = {"layout_name": layout, "num_joints": 17, "keypoints_symmetry": [[4, 5], [1, 2]]}
    content = {"positions_2d": {s: {"Walking": views} for s in datasets.H36M_TEST}, "metadata": metadata}
    path = save(tmp_path / "data_2d_h36m_cpn.npz", **content)
    dataset = datasets.read(path, 0)
    assert [s.points[0, 0, 0] for s in dataset.sequences] == [0, 100, 200, 300] * 2
    assert {s.skeleton for s in dataset.sequences} == {skeleton}
    assert all(len(s.points) == len(s.poses) == 9 for s in dataset.sequences)
    (tmp_path / "data_3d_h36m.npz").unlink()
    with pytest.raises(UsageError, match=r"put data_3d_h36m\.npz beside it"):
        datasets.read(path, 0)


def test_mpi_inf_3dhp(tmp_path: Path) -> None:
    order = np.argsort(datasets.MPII_AS_H36M)
    poses = (people(6) * (1, -1, 1) + (0, 0, 4))[:, order]
    one = {"data_3d": poses * 1000, "data_2d": poses[..., :2] * 500 + 1000, "valid": np.array([1, 1, 0, 1, 1, 1])}
    dataset = datasets.read(save(tmp_path / "test.npz", data={"TS1": one, "TS6": one}), 0)
    assert dataset.mpii
    assert [(s.name, s.size) for s in dataset.sequences] == [("TS1", (2048, 2048)), ("TS6", (1920, 1080))]
    assert dataset.sequences[0].measured.tolist() == [True, True, False, True, True, True]
    assert np.allclose(dataset.sequences[0].poses, people(6) * (1, -1, 1) + (0, 0, 4), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": np.zeros((4, 5))}, "none of the layouts"),
        ({"a": np.full((4, 17, 3), np.nan)}, "not finite"),
        ({"a": people(4) * 1000}, "unit or its joint order"),
        ({"positions_3d": {"S1": {}}}, "has no S9"),
        ({"data": {"TS1": {"data_3d": people(4), "data_2d": people(4)[..., :2], "valid": np.zeros(4)}}}, "no valid"),
    ],
)
def test_other_contents_are_errors(tmp_path: Path, content: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        datasets.read(save(tmp_path / "data.npz", **content), 0)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("must not run",)


def test_no_pickle_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "data.npz", positions_3d=np.array({"S9": Malicious()}, dtype=object))
    with pytest.raises(UsageError, match=r"data\.npz: not plain data, and refused"):
        npz.read(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04 cut"])
def test_other_files_are_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not an \.npz file"):
        npz.read(path)


def test_noise_is_of_the_same_size_relative_to_the_person() -> None:
    layout = skeletons.get("h36m17")
    points = np.random.default_rng(0).uniform(0, 500, (1, 17, 2)).repeat(600, 0)
    small, large = (disturb(scale * points, layout, np.random.default_rng(1)) for scale in (1, 3))
    assert np.allclose(3 * small[..., :2], large[..., :2], rtol=1e-3)
    error = np.linalg.norm(small[..., :2] - points, axis=-1)
    assert error[:, layout.index("left_wrist")].mean() > 1.3 * error[:, layout.index("thorax")].mean()
    steps = np.linalg.norm(np.diff(small[..., :2], axis=0), axis=-1)
    assert steps.mean() < 0.8 * error.mean()  # it wanders: independent errors would step by 1.4 times their size


def test_missing_joints_stay_where_they_were() -> None:
    walk = np.cumsum(np.ones((400, 17, 2)), 0) * 5
    seen = disturb(
        walk + 300 * np.random.default_rng(0).random((17, 2)), skeletons.get("h36m17"), np.random.default_rng(1)
    )
    missing = seen[..., 2] == np.float32(MISSING_SCORE)
    assert 0.005 < missing.mean() < 0.1
    t, joint = (i[0] for i in np.nonzero(missing[1:]))
    assert np.array_equal(seen[t + 1, joint, :2], seen[t, joint, :2])
    assert (seen[~missing][:, 2] >= 0.3).all()
