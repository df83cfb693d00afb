"""Training goes on from where it stopped, and gets better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from streamkp.errors import UsageError
from streamkp.models.lift.tcn import TemporalSteps, read
from streamkp.models.networks.tcn import TemporalNetwork
from streamkp.training import invented, lifter
from streamkp.training.losses import loss, negative_log_likelihood
from streamkp.training.randomness import Random


@pytest.fixture
def data(tmp_path: Path) -> Path:
    motions = invented.invent(3, 100, Random(0, torch.device("cpu"))).numpy()
    file = tmp_path / "motions.npz"
    np.savez(file, **{f"clip{i}": motion for i, motion in enumerate(motions)})
    return file


def run(data: Path | str, out: Path, steps: int, *more: str) -> list[dict[str, float]]:
    app = typer.Typer()
    app.command()(lifter.train)
    size = ["--batch", "4", "--frames", "16", "--channels", "16", "--hidden", "24", "--threads", "1"]
    command = ["--data", str(data), "--out", str(out), "--steps", str(steps), *size, *more]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_an_interrupted_run_ends_like_one_that_was_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifter, "learning_rate", lambda step, progress, highest: highest)  # it depends on the last step
    run(data, tmp_path / "whole", 4)
    run(data, tmp_path / "parts", 2)
    run(data, tmp_path / "parts", 4)
    one, other = (load_file(tmp_path / name / lifter.WEIGHTS) for name in ("whole", "parts"))
    assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)
    assert read(tmp_path / "whole" / lifter.WEIGHTS).keys() == one.keys()
    TemporalSteps(read(tmp_path / "whole" / lifter.WEIGHTS))


def test_it_is_checked_on_other_people(data: Path, tmp_path: Path) -> None:
    (line,) = run(data, tmp_path / "run", 2, "--check", str(data))
    figures = line[data.stem]
    assert {"clean_0_p_mpjpe_mm", "noisy_5_mpjve_mm", "noisy_within"} <= set(figures)
    assert 0 < figures["clean_0_p_mpjpe_mm"] < 1000


def test_it_ends_when_the_time_is_up(data: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(lifter.train)
    size = ["--batch", "2", "--frames", "8", "--channels", "16", "--hidden", "24", "--threads", "1"]
    command = ["--data", f"{data}=0.5", "--out", str(tmp_path / "run"), "--minutes", "0.02", *size]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "run" / lifter.WEIGHTS).is_file()


def test_a_weight_that_is_no_number_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'much' is not a number"):
        run(f"{data}=much", tmp_path / "run", 2)


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [lifter.learning_rate(step, step / 4000, 1.0) for step in range(4001)]
    assert rates[0] < 0.01
    assert max(rates) > 0.98
    assert rates[2000] == pytest.approx(0.5)
    assert rates[-1] == 0


def test_the_loss_of_the_truth_is_nothing_and_rows_without_weight_do_not_count() -> None:
    target = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 16, 17, 3))).float()
    target[:, :, 0] = 0
    weight, sure = torch.ones(2, 16), torch.zeros(2, 16, 17)
    wrong = target.clone()
    wrong[:, :8] += 1
    assert loss(wrong, sure, target, weight) > loss(target, sure, target, weight) + 0.5
    weight[:, :9] = 0
    same = float(loss(target, sure, target, weight))
    assert float(loss(wrong, sure, target, weight)) == pytest.approx(same, abs=1e-3)


def test_the_spread_that_fits_best_is_that_of_the_errors() -> None:
    random = np.random.default_rng(0)
    b = 0.03
    errors = torch.from_numpy(random.gamma(3, b, 20000))  # of distances with a density of exp(-r / b) in space
    spreads = torch.linspace(np.log(b) - 1, np.log(b) + 1, 201)
    best = spreads[torch.stack([negative_log_likelihood(errors, s).mean() for s in spreads]).argmin()]
    assert float(best.exp()) == pytest.approx(b, rel=0.03)


def test_a_network_that_learns_gets_better(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifter, "WARM_UP", 1)
    monkeypatch.setattr(lifter, "LOG_EVERY", 10)
    log = run(data, tmp_path / "run", 60, "--rate", "0.005")
    losses = [line["loss"] for line in log if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_training_goes_on_where_compiled_steps_fail(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = _training(data)
    start = [weight.clone() for weight in training.average]

    def fail(*examples: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no compiler")

    training._objective = fail
    training.step(0, 0.01)
    training.step(1, 0.01)
    assert "no compiler" in capsys.readouterr().out
    assert not any(torch.equal(weight, other) for weight, other in zip(training.average, start, strict=True))
    assert np.isfinite(training.mean_loss(2))


@pytest.mark.parametrize("right", [True, False])
def test_a_recording_is_used_if_it_does_what_a_step_does(
    data: Path, right: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = _training(data)
    training.step(0, 0.01)
    start = [weight.detach().clone() for weight in training.network.parameters()]
    replays = []

    def record(update: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            replays.append(1)
            if right:
                update()

        return replay

    monkeypatch.setattr(lifter, "recorded", record)
    training._examples.in_place = True
    training.record()
    assert all(torch.equal(weight, other) for weight, other in zip(training.network.parameters(), start, strict=True))
    training.step(1, 0.01)
    assert len(replays) == 1 + right
    assert ("not used" in capsys.readouterr().out) is not right


def _training(data: Path) -> lifter.Training:
    device = torch.device("cpu")
    clips = lifter._clips([str(data)], device)
    source = lifter.Source(clips, 4, 16, Random(0, device), graph=False)
    return lifter.Training(TemporalNetwork(16, 24), source, gpu=False, compiled=False)
