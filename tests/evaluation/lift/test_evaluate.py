from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import ModelError, UsageError
from streamkp.evaluation.lift import datasets
from streamkp.evaluation.lift.evaluate import PROTOCOLS, score

torch = pytest.importorskip("torch")

from streamkp.models import checkpoint, zoo  # noqa: E402


@pytest.fixture(scope="module")
def clips(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few frames of real motion capture."""
    path = tmp_path_factory.mktemp("mocap") / "slice.npz"
    with np.load(assets / "mocap" / "cmu17_test.npz") as whole:
        np.savez(path, **{name: whole[name][:40] for name in ("49_02", "29_01")})
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VideoPose3D with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint.write(zoo.create("videopose3d-27f", channels=16), path, "videopose3d-27f")
    return path


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["eval", "lifter", *map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_the_truth_has_no_error(clips: Path) -> None:
    dataset = datasets.read(clips, 0)
    figures = score(dataset, [sequence.poses for sequence in dataset.sequences])
    for key in ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm", "mpjve_mm"):
        assert figures[key] == pytest.approx(0, abs=1e-6)
    assert figures["pck150"] == 1
    assert figures["auc"] == pytest.approx(30 / 31)  # nothing is nearer than the threshold 0
    assert figures["frames"] == 4 * 80


def test_known_errors(clips: Path) -> None:
    dataset = datasets.read(clips, 0)
    shifted = []
    for sequence in dataset.sequences:
        poses = 2 * (sequence.poses - sequence.poses[:, :1])
        poses[:, 16] += (0, 0.17, 0)
        shifted.append(poses)
    figures = score(dataset, [poses / 2 for poses in shifted])
    assert figures["mpjpe_mm"] == pytest.approx(85 / 17)  # one joint of 17 is 85 mm off
    assert figures["mpjve_mm"] == pytest.approx(0, abs=1e-6)
    assert figures["p_mpjpe_mm"] > 0
    doubled = score(dataset, shifted)
    assert doubled["n_mpjpe_mm"] == pytest.approx(figures["n_mpjpe_mm"])
    assert doubled["p_mpjpe_mm"] == pytest.approx(figures["p_mpjpe_mm"])


def test_only_valid_frames_count_and_actions_weigh_the_same(clips: Path) -> None:
    dataset = datasets.read(clips, 0)
    first, second = dataset.sequences[0], dataset.sequences[4]
    measured = np.arange(40) < 10
    pair = (replace(first, measured=measured), second)
    wrong = first.poses.copy()
    wrong[10:, 1:] += 1
    wrong[:10, 3] += (0.034, 0, 0)
    data = datasets.Dataset("x", "x", pair, 30.0)
    assert score(data, [wrong, second.poses])["mpjpe_mm"] == pytest.approx(2 * 10 / 50)
    by_action = datasets.Dataset("x", "x", pair, 30.0, by_action=True)
    assert score(by_action, [wrong, second.poses])["mpjpe_mm"] == pytest.approx(1)


def test_eval_lifter_is_finite_and_the_same_for_the_same_seed(clips: Path, small: Path) -> None:
    arguments = ("--model", "videopose3d-27f", "--checkpoint", small, "--data", clips)
    first, again, other = run(*arguments), run(*arguments), run(*arguments, "--seed", 1)
    assert first == again
    assert other["clean"]["mpjpe_mm"] != first["clean"]["mpjpe_mm"]
    for column in ("clean", "noisy"):
        assert all(np.isfinite(first[column][key]) for key in PROTOCOLS)
        assert set(first[column]["actions"]) == {"49_02", "29_01"}
    assert first["noisy"]["mpjve_mm"] > first["clean"]["mpjve_mm"]
    assert first["published"]["Human3.6M MPJPE (mm), true 2D"] == 40.1
    assert run("--model", small, "--data", clips)["clean"] == first["clean"]


@pytest.mark.parametrize("name", ["hdformer", "tpnet", "videopose3d-27f-semi"])
def test_every_family(clips: Path, tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "hdformer": {"channels": (8, 8, 8, 16, 16)},
        "tpnet": {"filter_widths": (3, 3, 3), "channels": 16},
    }
    path = tmp_path / "weights.safetensors"
    checkpoint.write(zoo.create(name, **small.get(name, {"channels": 16})), path, name)
    report = run("--model", name, "--checkpoint", path, "--data", clips)
    assert all(np.isfinite(report[column][key]) for column in ("clean", "noisy") for key in PROTOCOLS)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of the shipped kind with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "lifter.safetensors"
    checkpoint.write(zoo.create("hdformer", in_channels=4, channels=(8, 8, 8, 8, 8)), path, "hdformer-streamkp")
    return path


@pytest.fixture(scope="module")
def short(clips: Path) -> Path:
    path = clips.parent / "short.npz"
    with np.load(clips) as whole:
        np.savez(path, clip=whole["49_02"][:12])
    return path


def test_lookahead_and_stride(short: Path, shipped: Path) -> None:
    arguments = ("--model", "hdformer-streamkp", "--checkpoint", shipped, "--data", short)
    report = run(*arguments, "--lookahead", "0,5", "--stride", "1,2")
    assert list(report["lookahead"]) == ["0", "5"]
    assert list(report["stride"]) == ["1", "2"]
    assert report["stride"]["1"] == report["lookahead"]["0"] != report["lookahead"]["5"] != report["stride"]["2"]
    for rows in (report["lookahead"], report["stride"]):
        for columns in rows.values():
            assert {columns[column]["frames"] for column in ("clean", "noisy")} == {4 * 7}
            assert all(np.isfinite(columns[column][key]) for column in ("clean", "noisy") for key in PROTOCOLS)
    assert report["clean"]["frames"] == 4 * 12


def test_lookahead_that_cannot_be_measured(short: Path, shipped: Path, small: Path) -> None:
    for model, option, message in (
        (shipped, "1,x", "whole numbers from 0 to 95"),
        (shipped, "96", "whole numbers from 0 to 95"),
        (shipped, "15", "no sequence of short has a frame to be measured with 15 frames after it"),
        (shipped, "16", "at most 15 and --stride 16"),
        (small, "1", "leave them out"),
    ):
        with pytest.raises(UsageError, match=message):
            run("--model", model, "--data", short, "--lookahead", option)


def test_a_table_names_protocols_and_published_figures(clips: Path, small: Path) -> None:
    arguments = ["eval", "lifter", "--model", "videopose3d-27f", "--checkpoint", str(small), "--data", str(clips)]
    text = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "160"}).output
    assert "noisy 2D" in text
    assert "protocol 2" in text
    assert "Published by its authors" in text


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("blazepose-world", UsageError, "takes its poses from images"),
        ("hrnet-w32-coco17", ModelError, "a model for body-2d-keypoints, not a lifter"),
        ("hdformr", ModelError, "did you mean 'hdformer'"),
    ],
)
def test_models_that_cannot_be_measured(clips: Path, model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CliRunner().invoke(app, ["eval", "lifter", "--model", model, "--data", str(clips)], catch_exceptions=False)
