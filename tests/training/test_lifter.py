"""Training goes on from where it stopped, and gets better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from streamkp.training import invented, lifter
from streamkp.training.losses import loss


@pytest.fixture
def data(tmp_path: Path) -> Path:
    motions = invented.invent(3, 100, np.random.default_rng(0)).astype(np.float32)
    file = tmp_path / "motions.npz"
    np.savez(file, **{f"clip{i}": motion for i, motion in enumerate(motions)})
    return file


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifter, "CHANNELS", (8, 8, 8, 8, 8))


def run(data: Path, out: Path, steps: int, *more: str) -> list[dict[str, float]]:
    import typer

    app = typer.Typer()
    app.command()(lifter.train)
    command = ["--data", str(data), "--out", str(out), "--batch", "2", "--save-every", "2", "--threads", "1"]
    result = CliRunner().invoke(app, [*command, "--steps", str(steps), *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_an_interrupted_run_ends_like_one_that_was_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifter, "learning_rate", lambda step, steps, highest: highest)  # it depends on the last step
    whole = run(data, tmp_path / "whole", 4)
    run(data, tmp_path / "parts", 2)
    parts = run(data, tmp_path / "parts", 4)
    assert [line["step"] for line in parts] == [line["step"] for line in whole] == [2, 4]
    assert [line["loss"] for line in parts] == pytest.approx([line["loss"] for line in whole], rel=1e-4)
    one, other = (torch.load(tmp_path / name / "lifter.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.allclose(one[key], other[key], atol=1e-5) for key in one)


def test_it_is_checked_on_other_people(data: Path, tmp_path: Path) -> None:
    log = run(data, tmp_path / "run", 2, "--check", str(data))
    assert {"clean_p_mpjpe_mm", "noisy_mpjve_mm"} <= set(log[-1])
    assert 0 < log[-1]["clean_p_mpjpe_mm"] < 1000


def test_the_learning_rate_rises_stays_and_falls() -> None:
    rates = [lifter.learning_rate(step, 4000, 1.0) for step in range(4000)]
    assert rates[0] < 0.01
    assert rates[1000] == rates[2999] == 1.0
    assert rates[3500] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.02


def test_the_loss_of_the_truth_is_nothing_and_unknown_rows_do_not_count() -> None:
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 16, 17))).float()
    target[..., 0] = 0
    known = torch.ones(2, 16)
    assert loss(target, target, known) < 1e-3
    wrong = target.clone()
    wrong[:, :, :8] += 1
    assert loss(wrong, target, known) > 0.5
    known[:, :8] = 0
    assert loss(wrong, target, known) < 1e-3


def test_a_network_that_learns_gets_better(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifter, "WARM_UP", 1)
    log = run(data, tmp_path / "run", 24, "--rate", "0.005")
    assert np.mean([line["loss"] for line in log[-3:]]) < 0.7 * log[0]["loss"]


def test_it_starts_from_weights_of_before(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "first", 2)
    before = torch.load(tmp_path / "first" / "lifter.pt", weights_only=True)
    run(data, tmp_path / "second", 2, "--start", str(tmp_path / "first" / "lifter.pt"), "--rate", "1e-9")
    after = torch.load(tmp_path / "second" / "lifter.pt", weights_only=True)
    weight = "joint_regressor.weight"
    assert torch.allclose(before[weight], after[weight], atol=1e-6)
