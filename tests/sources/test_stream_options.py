"""Options of one stream, on files that are really decoded: what comes out of the source has changed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.graph.clock import Clock
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage, StageContext, StreamContext
from streamkp.graph.stream_options import StreamOptions
from streamkp.graph.validation import GraphError, validate
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.sources.decode import Decode
from streamkp.sources.shape import Thinning, fitted
from tests.sources.videos import MakeClip


def frames(path: Path, options: dict[str, Any], **stage: Any) -> tuple[list[Packet], StreamContext]:
    stream = StreamContext("cam", str(path), path.name, Clock(), False, options=StreamOptions(**options))
    source = Decode(Decode.Options(**stage), StageContext("decode"))
    return list(source.frames(stream)), stream


@pytest.mark.parametrize(("max_fps", "kept"), [(30, 30), (60, 30), (15, 15), (10, 10), (12.5, 13), (1, 1), (0.1, 1)])
def test_max_fps_keeps_frames_evenly(make_clip: MakeClip, max_fps: float, kept: int) -> None:
    got, stream = frames(make_clip(), {"max_fps": max_fps})
    assert len(got) == kept
    assert [packet.seq for packet in got] == list(range(kept))  # what is left out was not lost
    gaps = np.diff([packet.pts for packet in got]) / 1e9
    if kept > 2:
        assert gaps.min() >= 1 / max_fps - 1 / 30
        assert gaps.mean() == pytest.approx(max(1 / max_fps, 1 / 30), rel=0.05)
    assert stream.frames_total is not None
    assert abs(stream.frames_total - kept) <= 1


def test_max_fps_of_a_loop(make_clip: MakeClip) -> None:
    path = make_clip(frames=10)
    stream = StreamContext("cam", str(path), "clip", Clock(), False, loop=True, options=StreamOptions(max_fps=10))
    got = []
    for packet in Decode(Decode.Options(), StageContext("decode")).frames(stream):
        got.append(packet)
        if len(got) == 9:
            stream.stop()
    assert [packet.epoch for packet in got] == [0, 0, 0, 0, 1, 1, 1, 1, 2]


def test_thinning_survives_a_clock_that_is_set() -> None:
    thin = Thinning(10)
    ms = 1_000_000
    assert [thin.keep(t * ms) for t in (0, 40, 80, 120, 160, 200)] == [True, False, False, True, False, True]
    assert [thin.keep(t * ms) for t in (90_000, 90_040, 90_100)] == [True, False, True]  # far ahead
    assert [thin.keep(t * ms) for t in (10, 50, 110)] == [True, False, True]  # and back


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [((1920, 1080), 640, (640, 360)), ((1080, 1920), 640, (360, 640)), ((64, 48), 640, (64, 48)),
     ((4000, 2), 16, (16, 1))],
)  # fmt: skip
def test_fitted(size: tuple[int, int], most: int, expected: tuple[int, int]) -> None:
    assert fitted(*size, most) == expected
    assert fitted(*size, None) == size


def test_max_side_gives_smaller_frames_of_the_same_picture(make_clip: MakeClip) -> None:
    path = make_clip(size=(128, 96), plain=False)
    (small, *_), _ = frames(path, {"max_side": 32})
    (full, *_), _ = frames(path, {})
    assert (small.width, small.height) == (32, 24)
    assert small.image is not None
    assert full.image is not None
    assert small.image.shape == (24, 32, 3)
    averaged = full.image.reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(small.image - averaged).max() <= 1  # every pixel counts, not every fourth


@pytest.mark.parametrize(
    ("rotate", "size", "corner"),
    [(0, (64, 48), (0, 0)), (90, (48, 64), (0, 1)), (180, (64, 48), (1, 1)), (270, (48, 64), (1, 0))],
)  # fmt: skip
def test_rotate_turns_the_picture(
    make_clip: MakeClip, rotate: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    (packet, *_), _ = frames(make_clip(), {"rotate": rotate})
    assert (packet.width, packet.height) == size
    assert packet.image is not None
    assert white_corner(packet.image) == corner


def test_the_stream_says_otherwise_than_the_stage(make_clip: MakeClip) -> None:
    (turned, *_), _ = frames(make_clip(), {"rotate": 90}, rotate=180)
    (as_stage, *_), _ = frames(make_clip(), {}, rotate=180)
    assert (turned.width, turned.height) == (48, 64)
    assert as_stage.image is not None
    assert white_corner(as_stage.image) == (1, 1)


def test_turned_and_smaller_together_with_what_the_file_says(make_clip: MakeClip) -> None:
    (packet, *_), _ = frames(make_clip(size=(128, 96), rotation=90), {"max_side": 64, "max_fps": 5})
    assert (packet.width, packet.height) == (48, 64)


@pytest.mark.parametrize("kind", ["vaapi", "videotoolbox", "cuda"])
def test_hardware_that_is_not_there_costs_one_warning(
    make_clip: MakeClip, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkp.sources.device_frames.hwdevices_available", list)
    monkeypatch.setattr("streamkp.sources.device_frames.cuda_devices", lambda: 0)
    path = make_clip()
    source = Decode(Decode.Options(), StageContext("decode"))
    for name in ("a", "b"):
        options = StreamOptions(hwaccel=kind)
        stream = StreamContext(name, str(path), path.name, Clock(), False, options=options)
        assert len(list(source.frames(stream))) == 30
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"hwaccel {kind}" in warnings[0].getMessage()


def test_hardware_that_cannot_be_opened_after_all(
    make_clip: MakeClip, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkp.sources.device_frames.hwdevices_available", lambda: ["vaapi"])
    monkeypatch.setattr("streamkp.sources.device_frames.HWAccel", lambda *_, **__: "no accelerator")
    import av

    opened = av.open

    def refuse(*args: Any, hwaccel: Any = None, **more: Any) -> Any:
        if hwaccel is not None:
            raise PermissionError(1, "Operation not permitted")
        return opened(*args, **more)

    monkeypatch.setattr("av.open", refuse)
    got, _ = frames(make_clip(), {"hwaccel": "vaapi"})
    assert len(got) == 30
    assert caplog.text.count("frames are decoded on the CPU (hwaccel vaapi)") == 1


class FindWhite(MapStage):
    """A person where the white quarter is."""

    def process(self, packet: Packet) -> Packet:
        assert packet.image is not None
        rows, columns = np.nonzero(packet.image.min(axis=2) > 200)
        points = np.zeros((17, 3), np.float32)
        points[:, 0], points[:, 1], points[:, 2] = columns.max() + 1, rows.max() + 1, 1
        box = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1], np.float32)
        packet.persons = [Person(1, "tracked", box, 1.0, Keypoints2D("coco17", points))]
        return packet


def test_coordinates_on_the_wire_are_those_of_the_width_and_height_on_it(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(size=(128, 96))
    streams = {
        "whole": {"uri": str(clip)},
        "small": {"uri": str(clip), "max_side": 64, "max_fps": 10},
        "turned": {"uri": str(clip), "max_side": 64, "rotate": 180},
    }
    out = tmp_path / "out.jsonl"
    stages = {"decode": {}, "find": {"use": FindWhite}, "record": {"path": str(out)}}
    with Engine(validate({"streams": streams, "stages": {n: {"use": n} | o for n, o in stages.items()}})) as engine:
        engine.wait()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    seen: dict[str, set[tuple[int, int]]] = {}
    for row in rows:
        seen.setdefault(row["stream"], set()).add((row["width"], row["height"]))
        x, y, _ = row["persons"][0]["keypoints_2d"]["points"][0]
        whole = 1.0 if row["stream"] == "turned" else 0.5
        assert x / row["width"] == pytest.approx(whole, abs=0.03)
        assert y / row["height"] == pytest.approx(whole, abs=0.03)
        assert row["dropped"] == 0
    assert seen == {"whole": {(128, 96)}, "small": {(64, 48)}, "turned": {(64, 48)}}
    assert [sum(row["stream"] == name for row in rows) for name in streams] == [30, 10, 30]


def test_options_in_a_graph_file_and_from_the_command_line() -> None:
    stages = "stages: {decode: {use: decode}, record: {use: record, path: out.jsonl}}"
    graph = Graph.from_text(f"streams: {{cam: {{uri: a.mp4, max_fps: 5, labels: {{site: gym}}}}}}\n{stages}")
    assert graph.validate().streams["cam"].labels == {"site": "gym"}
    graph.only_streams({"b.c": "b.mp4"}, ["max_fps=7", "labels.site=hall", "rotate=90"])
    found = graph.validate().streams["b.c"]
    assert (found.max_fps, found.labels, found.rotate) == (7, {"site": "hall"}, 90)
    with pytest.raises(UsageError, match="write it as name=value"):
        graph.only_streams({"a": "b.mp4"}, ["max_fps"])
    graph.only_streams({"a": "b.mp4"}, ["max_fsp=7"])
    with pytest.raises(GraphError, match=r"--option: streams\.a\.max_fsp: unknown option; did you mean max_fps\?"):
        graph.validate()


def white_corner(image: np.ndarray) -> tuple[int, int]:
    """Which quarter is white: (row, column), each 0 or 1."""
    height, width = image.shape[:2]
    means = [
        [image[r * height // 2 : (r + 1) * height // 2, c * width // 2 : (c + 1) * width // 2].mean() for c in (0, 1)]
        for r in (0, 1)
    ]
    row, column = np.unravel_index(np.argmax(means), (2, 2))
    return int(row), int(column)
