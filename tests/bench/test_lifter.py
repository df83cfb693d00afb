from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from streamkp.cli.main import app


def test_what_a_new_frame_costs() -> None:
    options = ["--people", "2", "--rounds", "1", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["bench", "lifter", "videopose3d-27f", *options])
    assert result.exit_code == 0, result.output
    (figures,) = json.loads(result.output).values()
    assert figures["frames"] == 27
    assert figures["difference"] <= 1e-4
    assert set(figures["ms"]) == {"1", "2"}
    ms = figures["ms"]["2"]
    assert min(ms.values()) > 0
    assert figures["window_over_incremental"] == ms["window"] / ms["newest"]
    assert figures["window_over_incremental_middle"] == ms["window"] / ms["middle"]


def test_the_table_and_a_lifter_that_is_not_measured() -> None:
    result = CliRunner().invoke(app, ["bench", "lifter", "videopose3d-27f", "--people", "1", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "random weights" in result.output
    refused = CliRunner().invoke(app, ["bench", "lifter", "hdformer"])
    assert refused.exit_code != 0
    assert "videopose3d-243f" in str(refused.exception)


def test_how_often_the_shipped_lifter_runs(lifter_onnx: Path) -> None:
    options = ["--people", "2", "--rounds", "1", "--threads", "1"]
    result = CliRunner().invoke(app, ["bench", "lifter", str(lifter_onnx), *options, "--json"])
    assert result.exit_code == 0, result.output
    (figures,) = json.loads(result.output).values()
    assert (figures["frames"], figures["rate_hz"]) == (16, 30)
    assert set(figures["ms"]) == {"1", "2"}
    assert set(figures["ms"]["2"]) == {"1", "2", "4"}
    assert figures["stride_ratio"] == figures["ms"]["2"]["1"] / figures["ms"]["2"]["4"]
    table = CliRunner().invoke(app, ["bench", "lifter", str(lifter_onnx), *options])
    assert "stride 4" in table.output


def test_the_live_lifter_in_the_wheel() -> None:
    options = ["--people", "2", "--rounds", "1", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, ["bench", "lifter", "tcn-streamkp", *options])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)["tcn-streamkp"]
    assert figures["rate_hz"] == 30
    assert set(figures["ms"]) == set(figures["core_ms"]) == {"1", "2"}
    assert set(figures["core_ms"]["1"]) == {"1"}
