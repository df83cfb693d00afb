"""The engine's benchmark measures what it says; how fast it is, is not tested."""

from __future__ import annotations

import threading
from pathlib import Path

from streamkp.bench.engine import blank_packets, engine_share, throughput
from tests.sources.videos import write_clip


def test_throughput_of_the_graph_and_of_the_bare_loop() -> None:
    before = set(threading.enumerate())
    in_graph, bare = throughput(500)
    assert in_graph > 0
    assert bare > 0
    assert set(threading.enumerate()) <= before


def test_blank_packets_are_frames_without_a_picture() -> None:
    packets = list(blank_packets("bench", 3))
    assert [packet.seq for packet in packets] == [0, 1, 2]
    assert [packet.pts for packet in packets] == sorted({packet.pts for packet in packets})
    assert {(packet.stream, packet.image) for packet in packets} == {("bench", None)}


def test_the_engine_has_a_share_of_the_cpu_time_and_the_sinks_of_the_graph_none(tmp_path: Path) -> None:
    graph, out = tmp_path / "plain.yaml", tmp_path / "out.jsonl"
    graph.write_text(f"stages:\n  decode: {{use: decode}}\n  out: {{use: record, path: '{out}'}}\n")
    clip = write_clip(tmp_path / "clip.mp4", frames=30)
    assert 0 < engine_share(str(graph), str(clip)) < 1
    assert not out.exists()
