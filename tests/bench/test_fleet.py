"""The search for the number of live streams, and the clips that it plays; how many there are is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from typer.testing import CliRunner

from streamkp.bench import fleet, graphs
from streamkp.cli.bench import bench_app
from streamkp.errors import SourceError
from tests.sources.videos import write_clip

PLAIN = """\
version: 1
streams: {cam: {uri: "rtsp://viewer:${CAM_PASSWORD}@10.0.0.5/live"}}
stages:
  decode: {use: decode}
  publish: {use: publish-mqtt, broker: "mqtt://10.0.0.6"}
"""


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A graph without networks, whose camera, secret and broker do not exist."""
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN)
    return str(path)


def step(streams: int, why: str = "") -> fleet.Step:
    return fleet.Step(streams, 100, 30.0 * streams, 5.0, 9.0, 0.0, 1.0, why)


@pytest.mark.parametrize("carries", [0, 1, 2, 5, 6, 23, 40])
def test_the_search_ends_at_what_is_carried(monkeypatch: pytest.MonkeyPatch, carries: int) -> None:
    tried: list[int] = []

    def measure(_: object, size: int, *more: object) -> fleet.Step:
        tried.append(size)
        return step(size, "" if size <= carries else "too slow")

    monkeypatch.setattr(fleet, "_measure", measure)
    steps = fleet._search(None, None, 1.0, fleet.Limits(), 40, lambda _: None)  # type: ignore[arg-type]
    assert max((s.streams for s in steps if not s.why), default=0) == carries
    assert len(tried) == len(set(tried)), "no number is measured twice"


def test_a_clip_with_another_rate_keeps_its_frames(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_clip(clip, frames=20)
    out = fleet.retimed(clip, tmp_path / "out.mkv", 50)
    with av.open(str(out)) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert len(times) == 20
    assert times[-1] - times[0] == pytest.approx(19 / 50, abs=2e-3)


def test_what_is_no_video(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"bad\.mp4 cannot be copied"):
        fleet.retimed(bad, tmp_path / "out.mkv", 30)


def test_graphs_need_neither_cameras_nor_secrets_nor_brokers(plain: str) -> None:
    plan = graphs.load(plain)
    assert plan.stage_names() == ["decode"]
    assert [stage.name for stage in graphs.validated(plain).stages] == ["decode", "publish"]


def test_the_command(plain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SETTLE_S", 0.1)
    clip = tmp_path / "clip.mp4"
    write_clip(clip, frames=10)
    arguments = ["fleet", "--graph", plain, "--source", str(clip), "--seconds", "1", "--most", "2", "--p95", "60000"]
    done = CliRunner().invoke(bench_app, [*arguments, "--dropped", "100", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["carried"] == 2
    assert figures["first_limit"] == ""
    assert [s["streams"] for s in figures["steps"]] == [1, 2]
    assert all(s["frames"] > 0 for s in figures["steps"])


def test_a_variable_of_the_environment_is_used_where_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(
        "stages:\n  decode: {use: decode, stale_after: '${STALE}'}\n  out: {use: publish-websocket, port: 0}\n"
    )
    monkeypatch.setenv("STALE", "7.5")
    assert graphs.validated(str(path)).source.options.stale_after == 7.5  # type: ignore[attr-defined]


def test_where_nothing_comes_out_there_is_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        engine = None

        def resize(self, size: int) -> None:
            pass

        def counts(self) -> tuple[int, dict[str, int]]:
            return 0, {}

    monkeypatch.setattr(fleet, "_run_for", lambda engine, seconds: None)
    found = fleet._measure(Silent(), 1, fleet._Arrivals(), 1.0, fleet.Limits())  # type: ignore[arg-type]
    assert (found.p50_ms, found.p95_ms) == (None, None)
    assert found.why.startswith("no frame came out")
