from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import UsageError
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.datasets import Dataset
from streamkp.evaluation.lift.steadiness import FIGURES, evaluate, rows, step_lags
from streamkp.motion.camera import Intrinsics
from streamkp.motion.steady import Settings

ROWS = ["none", "one-euro", "bones", "contact", "one-euro+bones", "all"]


@pytest.fixture(scope="module")
def clips(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some frames of real motion capture: somebody who stands, somebody who walks."""
    path = tmp_path_factory.mktemp("mocap") / "slice.npz"
    with np.load(assets / "mocap" / "cmu17_test.npz") as whole:
        np.savez(path, **{name: whole[name][60:130] for name in ("49_02", "29_01")})
    return path


class Trembling:
    """A lifter that knows the truth, and trembles."""

    def __init__(self, dataset: Dataset, deviation: float) -> None:
        self._left = iter(dataset.sequences)
        self._random, self._deviation = np.random.default_rng(1), deviation

    def __call__(self, points: Any, size: tuple[int, int], lens: Intrinsics) -> np.ndarray:
        true = next(self._left).poses
        poses = true - true[:, :1] + self._random.normal(0, self._deviation, true.shape)
        return np.asarray(poses - poses[:, :1])


@pytest.fixture(scope="module")
def table(clips: Path) -> dict[str, dict[str, float]]:
    dataset = datasets.read(clips, 0)
    found: Any = evaluate(dataset, Trembling(dataset, 0.01), "h36m17", 0, rows(1.0, 3.0))
    return dict(found)


def test_one_row_for_each_part_and_one_for_the_truth(table: dict[str, dict[str, float]]) -> None:
    assert list(table) == [*ROWS, "truth"]
    assert all(list(row) == list(FIGURES) for row in table.values())
    assert all(np.isfinite(list(table[name].values())).all() for name in ROWS)


def test_the_truth_has_no_error(table: dict[str, dict[str, float]]) -> None:
    truth = table["truth"]
    for key in ("mpjpe_mm", "p_mpjpe_mm", "mpjve_mm", "root_mm"):
        assert truth[key] == pytest.approx(0, abs=1e-6)
    assert truth["bone_spread_mm"] < 2
    assert 0 < truth["foot_slide_mm_s"] < 100
    assert truth["lag_ms"] is None


def test_errors_that_were_put_in_are_found(table: dict[str, dict[str, float]]) -> None:
    """16 joints of 17 are off by the distance of two normal vectors, the third is the pelvis itself."""
    distance = 10 * np.sqrt(2) * np.sqrt(8 / np.pi)
    assert table["none"]["mpjpe_mm"] == pytest.approx(16 / 17 * distance, rel=0.02)
    assert table["none"]["mpjve_mm"] == pytest.approx(16 / 17 * distance * np.sqrt(2), rel=0.02)
    assert table["none"]["lag_ms"] == table["none"]["root_lag_ms"] == 0


def test_each_part_does_what_it_is_for(table: dict[str, dict[str, float]]) -> None:
    none = table["none"]
    assert table["one-euro"]["jitter_mm"] < 0.5 * none["jitter_mm"]
    assert table["one-euro"]["lag_ms"] > 5
    assert table["bones"]["bone_spread_mm"] < 0.5 * none["bone_spread_mm"]
    assert table["contact"]["foot_slide_mm_s"] < 0.5 * none["foot_slide_mm_s"]
    for key in ("jitter_mm", "bone_spread_mm", "foot_slide_mm_s"):
        assert table["all"][key] < 0.6 * none[key]


def test_contact_moves_the_root_alone(table: dict[str, dict[str, float]]) -> None:
    changed = {key for key in FIGURES if table["contact"][key] != pytest.approx(table["none"][key])}
    assert changed == {"foot_slide_mm_s", "root_mm"}


@pytest.mark.parametrize("cutoff", [0.5, 1.0, 2.0])
def test_lag_is_that_of_the_low_pass(cutoff: float) -> None:
    """63 % of a step after one time constant; between two frames, the filter is a straight line."""
    joint, root = step_lags(Settings(True, False, False, min_cutoff=cutoff, beta=0.0))
    assert joint == pytest.approx(1000 / (2 * np.pi * cutoff), abs=1000 / 30 / 2)
    assert root == pytest.approx(joint)
    assert step_lags(Settings(True, False, False, min_cutoff=cutoff, beta=5.0))[0] < joint


def test_frames_that_were_not_measured_do_not_count(clips: Path) -> None:
    dataset = datasets.read(clips, 0)
    first = dataset.sequences[0]
    half = replace(dataset, sequences=(replace(first, measured=np.arange(70) < 35),))

    class Wild(Trembling):
        def __call__(self, *args: Any) -> np.ndarray:
            poses = super().__call__(*args)
            poses[35:, 1:] += 3
            return poses

    row = evaluate(half, Wild(half, 0.0), "h36m17", 0, {"none": rows(1.0, 1.0)["none"]})["none"]
    assert row["mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert row["jitter_mm"] is not None
    assert row["jitter_mm"] < 20


def test_poses_that_the_lifter_does_not_give_do_not_count(clips: Path) -> None:
    dataset = datasets.read(clips, 0)

    class Late(Trembling):
        def __call__(self, *args: Any) -> np.ndarray:
            poses = super().__call__(*args)
            poses[-10:] = np.nan
            return poses

    found = evaluate(dataset, Late(dataset, 0.0), "h36m17", 0, {"none": rows(1.0, 1.0)["none"]})
    assert found["none"]["mpjpe_mm"] == pytest.approx(0, abs=1e-6)
    assert found["none"]["root_mm"] is not None


def test_a_single_frame_tells_no_motion(tmp_path: Path, clips: Path) -> None:
    with np.load(clips) as whole:
        np.savez(tmp_path / "one.npz", one=whole["29_01"][:1])
    dataset = datasets.read(tmp_path / "one.npz", 0)
    row = evaluate(dataset, Trembling(dataset, 0.01), "h36m17", 0, rows(1.0, 1.0))["all"]
    assert row["jitter_mm"] is row["mpjve_mm"] is row["foot_slide_mm_s"] is None
    assert row["mpjpe_mm"] is not None


def test_the_command(clips: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from streamkp.models import checkpoint, zoo

    torch.manual_seed(0)
    convolutions, windows = tmp_path / "small.safetensors", tmp_path / "lifter.safetensors"
    checkpoint.write(zoo.create("videopose3d-27f", channels=16), convolutions, "videopose3d-27f")
    network = zoo.create("hdformer", in_channels=4, channels=(8, 8, 8, 8, 8))
    checkpoint.write(network, windows, "hdformer-streamkp")
    with np.load(clips) as whole:
        np.savez(tmp_path / "short.npz", clip=whole["49_02"][:12])

    def run(weights: Path, *options: str) -> str:
        arguments = ["eval", "steadiness", "--model", str(weights), "--data", str(tmp_path / "short.npz"), *options]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "80"})
        assert result.exit_code == 0, result.output
        return result.stdout

    report = json.loads(run(convolutions, "--json"))
    assert (report["model"], report["rate_hz"], report["lookahead"]) == (str(convolutions), 30, None)
    for name in ROWS:
        assert list(report[name]) == list(FIGURES)
    shown = run(windows, "--min-cutoff", "2", "--lookahead", "3")
    for text in ("live with lookahead 3", "min_cutoff 2", "foot_slide_mm_s", "p_mpjpe_mm", "per frame squared"):
        assert text in " ".join(shown.split())
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    with pytest.raises(UsageError, match="leave them out"):
        run(convolutions, "--lookahead", "3")
    with pytest.raises(UsageError, match="at most 15"):
        run(windows, "--lookahead", "16")
