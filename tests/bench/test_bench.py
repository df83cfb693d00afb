"""What the benchmarks compute and print; how fast anything is, is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from streamkp.bench.video import agreement, run
from streamkp.cli.bench import bench_app
from streamkp.errors import UsageError
from tests.sources.videos import write_clip

PLAIN = "version: 1\nstages:\n  decode: {use: decode}\n  publish: {use: publish-websocket, port: 0}\n"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A graph without networks."""
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return path


def people(*shifts: float) -> Any:
    """Figures of 33 points, 100 pixels high, shifted to the right."""
    points = np.zeros((len(shifts), 33, 3), np.float32)
    points[:, :, 1] = np.linspace(0, 100, 33)
    points[:, :, 0] = np.array(shifts)[:, None]
    return points


def test_agreement_is_a_share_of_the_box() -> None:
    found = agreement(np.array([0, 1]), people(2, 4), people(0, 0))
    assert found["agreement"] == pytest.approx(0.03)
    assert found["agreement_p95"] == pytest.approx(0.039)
    assert found["frames_both"] == 2


def test_agreement_takes_the_nearest_of_several_people() -> None:
    assert agreement(np.array([0, 0]), people(50, 1), people(0))["agreement"] == pytest.approx(0.01)


def test_agreement_counts_who_saw_a_person() -> None:
    peer = people(0, 0, 0, 0)
    peer[2:] = np.nan
    found = agreement(np.array([1, 2]), people(0, 0), peer)
    assert (found["frames_both"], found["frames_ours_only"], found["frames_peer_only"]) == (1, 1, 1)


def test_agreement_of_nobody() -> None:
    found = agreement(np.zeros(0, int), people(), np.full((3, 33, 3), np.nan, np.float32))
    assert found["agreement"] is None
    assert found["frames_both"] == 0


def bench(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(bench_app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output or done.exception
    figures: dict[str, Any] = json.loads(done.output)
    return figures


def test_bench_engine_prints_its_figures(plain: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=10)
    figures = bench("engine", "--graph", plain, "--source", clip, "--packets", "500", "--json")
    assert set(figures) == {"packets_per_s", "bare_per_s", "engine_share"}
    assert figures["packets_per_s"] > 0
    assert figures["bare_per_s"] > 0
    assert 0 <= figures["engine_share"] <= 1


def test_bench_video_prints_its_figures(plain: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60)
    figures = bench("video", "--graph", plain, "--source", clip, "--runs", "1", "--streams", "2", "--json")
    assert figures["source"] == "clip.mp4"
    assert figures["frames"] == 120
    assert figures["fps"] > 0
    assert set(figures["latency_ms"]) == {"p50", "p95", "p99"}
    assert {"cpu_percent", "cpu_ms_per_frame", "peak_memory_mb"} <= set(figures)
    assert "ratio" not in figures, "there was no peer"


def test_a_peer_needs_its_interpreter() -> None:
    common: dict[str, Any] = {"overrides": [], "streams": 1, "runs": 1}
    with pytest.raises(UsageError, match="known peers: mediapipe"):
        run("demo", "clip.mp4", peer="opanpose", peer_python=None, **common)
    with pytest.raises(UsageError, match="--peer-python"):
        run("demo", "clip.mp4", peer="mediapipe", peer_python=None, **common)
