"""How keypoints are compared with a peer's, and what is asked of a peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streamkp.bench.video import HOW_TO_PEER, agreement, run
from streamkp.cli.bench import bench_app
from streamkp.errors import SourceError, UsageError
from streamkp.packet import FloatArray


def figure(left: float = 100, top: float = 50, width: float = 40, height: float = 200) -> FloatArray:
    """33 points down the diagonal of a box, score 1: (33, 3)."""
    along = np.linspace(0, 1, 33)
    return np.stack([left + along * width, top + along * height, np.ones(33)], -1).astype(np.float32)


NOBODY = np.full((33, 3), np.nan, np.float32)


class TestAgreement:
    def test_the_same_points(self) -> None:
        found = agreement(np.arange(2), np.stack([figure(), figure(300)]), np.stack([figure(), figure(300)]))
        assert found == {
            "agreement": 0.0, "agreement_p95": 0.0, "frames_both": 2, "frames_ours_only": 0, "frames_peer_only": 0,
        }  # fmt: skip

    @pytest.mark.parametrize(("width", "height", "longer"), [(40, 200, 200), (80, 20, 80)])
    def test_the_longer_side_of_the_peers_box_is_the_measure(self, width: float, height: float, longer: float) -> None:
        peer = figure(width=width, height=height)
        ours = peer + np.array([3, 4, 0], np.float32)  # five pixels off
        assert agreement(np.array([0]), ours[None], peer[None])["agreement"] == pytest.approx(5 / longer, rel=1e-4)

    def test_scores_do_not_count(self) -> None:
        ours = figure()
        ours[:, 2] = 0
        assert agreement(np.array([0]), ours[None], figure()[None])["agreement"] == 0

    def test_each_frame_is_compared_with_its_own(self) -> None:
        seq = np.array([0, 0, 2])
        ours = np.stack([figure(500), figure(102), figure(500)])
        found = agreement(seq, ours, np.stack([figure(100), NOBODY, figure(500)]))
        assert found["frames_both"] == 2
        assert found["agreement"] == pytest.approx((2 / 200 + 0) / 2, rel=1e-4)


def test_without_a_peer_it_is_told_how_to_make_one(tmp_path: Path) -> None:
    for more in ([], ["--peer-python", str(tmp_path / "none")]):
        error = CliRunner().invoke(bench_app, ["video", "--source", __file__, "--vs", "mediapipe", *more]).exception
        assert isinstance(error, UsageError)
        assert str(error) == HOW_TO_PEER
    for part in ("--peer-python", "-m venv", "pip install mediapipe=="):
        assert part in HOW_TO_PEER


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    graph = tmp_path / "plain.yaml"
    graph.write_text(f"stages:\n  decode: {{use: decode}}\n  out: {{use: record, path: '{tmp_path}/out.jsonl'}}\n")
    for bare in (False, True):
        with pytest.raises(SourceError, match=r"^[^\n]*there is no file [^\n]*nothing\.mp4[^\n]*$"):
            run(
                str(graph), str(tmp_path / "nothing.mp4"),
                overrides=[], streams=1, runs=1, peer=None, peer_python=None, bare=bare,
            )  # fmt: skip


def test_a_graph_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="the graph file nosuch does not exist"):
        run("nosuch", "a.mp4", overrides=[], streams=1, runs=1, peer=None, peer_python=None)


def test_an_interpreter_without_the_peer_is_refused_before_anything_runs(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(UsageError, match="has no MediaPipe"):
        run("demo", "a.mp4", overrides=[], streams=1, runs=1, peer="mediapipe", peer_python=bare)


@pytest.mark.parametrize("more", [["--decode-for-peer"], ["--peer-python", "python3"]])
def test_options_of_a_comparison_need_one(more: list[str]) -> None:
    error = CliRunner().invoke(bench_app, ["video", "--source", __file__, *more]).exception
    assert isinstance(error, UsageError)
    assert "add --vs mediapipe" in str(error)


@pytest.mark.parametrize("command", ["video", "fleet"])
def test_a_camera_is_no_clip_and_its_address_is_not_repeated(command: str) -> None:
    error = CliRunner().invoke(bench_app, [command, "--source", "rtsp://me:secret@host/live"]).exception
    assert isinstance(error, UsageError)
    assert "a video file or sample:NAME" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("command", ["video", "fleet"])
def test_a_clip_that_is_not_there(command: str) -> None:
    error = CliRunner().invoke(bench_app, [command, "--source", "nosuch.mp4"]).exception
    assert isinstance(error, SourceError)
    assert "there is no file nosuch.mp4" in str(error)
