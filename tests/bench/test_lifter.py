from __future__ import annotations

import json

from typer.testing import CliRunner

from streamkp.cli import app


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


def test_the_table_and_a_lifter_that_has_no_incremental_form() -> None:
    result = CliRunner().invoke(app, ["bench", "lifter", "videopose3d-27f", "--people", "1", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "random weights" in result.output
    refused = CliRunner().invoke(app, ["bench", "lifter", "hdformer"])
    assert refused.exit_code != 0
    assert "videopose3d-243f" in str(refused.exception)
