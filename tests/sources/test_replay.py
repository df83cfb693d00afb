"""Recordings played again: the same messages, at their own speed or another."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import Writer

from streamkp import wire
from streamkp.errors import SourceError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StageContext
from streamkp.packet import Extremities
from streamkp.sinks.record import Record
from streamkp.sources import replay
from streamkp.sources.decode import Decode
from streamkp.testing import ManualClock
from tests.sinks.walker import make_packet


def hands_and_face() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    hand, face = rng.uniform(0, 900, (21, 3)), rng.uniform(0, 900, (478, 3))
    return {
        "hands": {"left": hand.astype(np.float32)},
        "hands_world": {"left": (hand / 5000).astype(np.float32)},
        "hands_depth": {"left": hand[:, 0].astype(np.float32)},
        "face": {"skeleton": "face478", "points": face.astype(np.float32), "blendshapes": {"jawOpen": 0.25}},
    }


def record(path: Path, *streams: str, frames: int = 5, **fields: Any) -> list[wire.Message]:
    sink = Record(Record.Options(path=path, overwrite=True), StageContext("record"))
    sink.open()
    for seq in range(frames):
        for stream in streams or ("cam",):
            packet = make_packet(seq * 2, stream, people=2, **fields)
            packet.persons[0].extra["mine"] = {"angle": 12.5, "names": ["a"]}
            packet.persons[0].extra |= hands_and_face()
            packet.events.append({"type": "rep", "count": seq})
            pose = packet.persons[1].keypoints_3d
            assert pose is not None
            pose.root, pose.sigma = np.float32([0.1, 0.2, 4]), np.full(17, 0.05, np.float32)
            pose.extremities = Extremities("extremities13", np.full((13, 3), 0.25, np.float32), "blazepose-world")
            sink.process(packet)
    sink.close()
    if path.suffix == ".mcap":
        with path.open("rb") as file:
            return [wire.decode(message.data) for _, _, message in make_reader(file).iter_messages()]
    return [wire.decode(line) for line in path.read_bytes().splitlines()]


def plain(messages: list[wire.Message]) -> list[bytes]:
    return [wire.encode(message | {"published_at": 0}, "json") for message in messages]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "mcap"])
@pytest.mark.parametrize("source", ["replay", "decode"])
def test_published_again_it_is_the_same(tmp_path: Path, kind: str, source: str) -> None:
    path = tmp_path / ("first.mcap" if kind == "mcap" else "first.jsonl")
    first = record(path)
    assert len(first) == 5
    if kind == "jsonl.gz":
        path = tmp_path / "first.jsonl.gz"
        path.write_bytes(gzip.compress((tmp_path / "first.jsonl").read_bytes()))
    graph = Graph().stream("cam", f"replay://{path}").add("source", source)
    graph.add("record", "record", path=str(tmp_path / "second.jsonl"))
    engine = Engine(graph.validate())
    engine.start()
    assert engine.wait(30)
    assert not engine.errors
    second = [wire.decode(line) for line in (tmp_path / "second.jsonl").read_bytes().splitlines()]
    assert plain(second) == plain(first)


@pytest.mark.parametrize("kind", ["jsonl", "mcap"])
def test_one_stream_of_several_must_be_chosen(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"two.{kind}"
    record(path, "left", "right")
    chosen = list(replay.packets(replay.parse(f"replay://{path}?stream=right", "it"), name="cam"))
    assert [packet.stream for packet in chosen] == ["cam"] * 5
    played = replay.packets(replay.Recording(path))
    with pytest.raises(SourceError, match=rf"two.{kind}:2: .* several streams \(left, right\); .*\?stream=left"):
        next(played)  # before any frame goes out
    with pytest.raises(SourceError, match="no frames of a stream named middle"):
        list(replay.packets(replay.Recording(path, "middle")))


@pytest.mark.parametrize("kind", ["jsonl", "mcap"])
def test_it_starts_where_it_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"long.{kind}"
    record(path, frames=20)
    all_of_it = list(replay.packets(replay.Recording(path)))
    begin = (all_of_it[8].pts - all_of_it[0].pts) / 1e9
    assert [p.seq for p in replay.packets(replay.Recording(path, start=begin - 1e-6))] == [p.seq for p in all_of_it[8:]]


def test_an_index_spares_what_comes_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.mcap"
    record(path, frames=400)
    decoded = []
    plain_decode = wire.decode
    monkeypatch.setattr(wire, "decode", lambda *given: decoded.append(1) or plain_decode(*given))  # type: ignore[func-returns-value]
    seen = [packet.seq for packet in replay.packets(replay.Recording(path, "cam", start=31.0))]
    assert seen == list(range(776, 800, 2)), "80 ms a frame"
    assert len(decoded) < 20


def test_an_mcap_file_without_its_end_is_played_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.mcap"
    record(path, frames=400)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    seen = [packet.seq for packet in replay.packets(replay.Recording(path))]
    assert 60 < len(seen) < 400
    assert seen == list(range(0, 2 * len(seen), 2))
    late = [packet.seq for packet in replay.packets(replay.Recording(path, start=1.0))]
    assert late == [seq for seq in seen if seq * 40e6 >= 1e9]


def test_an_mcap_file_of_another_program_holds_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "other.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/tf", "json", writer.register_schema("tf", "jsonschema", b"{}"))
        writer.add_message(channel, 1, b"{}", 1)
        writer.finish()  # type: ignore[no-untyped-call]
    with pytest.raises(SourceError, match="holds no frames"):
        list(replay.packets(replay.Recording(path)))


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_it_waits_between_frames_as_long_as_they_are_apart(tmp_path: Path, speed: float) -> None:
    from streamkp.graph.stage import StreamContext

    path = tmp_path / "slow.jsonl"
    record(path)

    class Clock(ManualClock):
        def wait(self, condition: Any, timeout: float | None) -> bool:
            assert timeout is not None
            self._now += round(timeout * 1e9)
            return False

    clock = Clock()
    stream = StreamContext("cam", f"replay://{path}", "it", clock, live=False, realtime=True)
    begin, times = clock.monotonic(), []
    for packet in replay.play(stream, replay.Recording(path, speed=speed)):
        times.append((packet.pts, clock.monotonic() - begin))
    first = times[0][0]
    assert [passed for _, passed in times] == pytest.approx([(pts - first) / speed for pts, _ in times], abs=1000)


def test_a_loop_opens_a_new_epoch_and_goes_on_counting(tmp_path: Path) -> None:
    from streamkp.graph.stage import StreamContext

    path = tmp_path / "loop.jsonl"
    record(path, frames=3)
    stream = StreamContext("cam", f"replay://{path}", "it", ManualClock(), live=False, loop=True)
    got = []
    for packet in replay.play(stream, replay.Recording(path)):
        got.append((packet.epoch, packet.seq))
        if len(got) == 6:
            stream.stop()
    assert got == [(0, 0), (0, 2), (0, 4), (1, 5), (1, 7), (1, 9)]


def test_what_a_killed_process_left_behind_is_played_as_far_as_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl"
    record(path)
    path.write_bytes(path.read_bytes()[:-50])
    assert len(list(replay.packets(replay.Recording(path)))) == 4
    zipped = tmp_path / "cut.jsonl.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes())[:-20])
    assert len(list(replay.packets(replay.Recording(zipped)))) >= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        (b"hello\n", "bad.jsonl:1: not a streamkp message"),
        (b'{"v":1,"type":"status"}\n', "holds no frames"),
        (b"\x1f\x8bnot gzip at all", "damaged|no frames"),
        (b"\x89MCAP0\r\n", "damaged|no frames"),
        (b"\x89MCAP0\r\nnot what comes next in such a file, though it is long enough", "damaged|no frames"),
    ],
)
def test_what_is_no_recording_says_so(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text)
    with pytest.raises(SourceError, match=message):
        list(replay.packets(replay.Recording(path)))


@pytest.mark.parametrize("query", ["speed=0", "speed=fast", "start=-1", "pace=2"])
def test_a_wrong_field_of_the_address_says_so(query: str) -> None:
    with pytest.raises(SourceError, match=query.partition("=")[0]):
        replay.parse(f"replay://x.jsonl?{query}", "it")


def test_hands_and_faces_are_arrays_again(tmp_path: Path) -> None:
    record(tmp_path / "parts.jsonl")
    packet = next(replay.packets(replay.Recording(tmp_path / "parts.jsonl")))
    extra, before = packet.persons[0].extra, hands_and_face()
    for name in ("hands", "hands_world", "hands_depth"):
        assert extra[name]["left"].dtype == np.float32
        np.testing.assert_allclose(extra[name]["left"][..., :2], before[name]["left"][..., :2], atol=0.0051)
    assert extra["face"]["points"].shape == (478, 3)
    assert extra["face"]["blendshapes"] == {"jawOpen": 0.25}
    assert extra["mine"] == {"angle": 12.5, "names": ["a"]}


def run(graph: Graph) -> Engine:
    engine = Engine(graph.validate())
    engine.start()
    assert engine.wait(30)
    return engine


def test_what_a_stage_tells_anew_is_not_there_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    sink = Record(Record.Options(path=first), StageContext("record"))
    sink.open()
    for seq in range(4):
        packet = make_packet(seq, people=1)
        packet.persons[0].extra |= {"rep_counter": {"count": 7}, "mine": seq}
        packet.events += [{"type": "rep", "count": seq}, {"type": "wave"}]
        packet.annotations.append({"type": "label", "text": "squat 7", "track": packet.persons[0].track})
        sink.process(packet)
    last = make_packet(4, people=0)  # what `drain` told after the last frame
    last.pts = packet.pts + 1
    last.events.append({"type": "set", "reps": 4})
    sink.process(last)
    sink.close()
    graph = Graph().stream("cam", f"replay://{first}").add("source", "replay")
    graph.add("reps", "rep-counter", exercise="push-up").add("record", "record", path=str(second))
    engine = run(graph)
    assert not engine.errors
    messages = [wire.decode(line) for line in second.read_bytes().splitlines()]
    assert [message["events"] for message in messages] == [[{"type": "wave"}]] * 4
    assert [message["persons"][0]["mine"] for message in messages] == [0, 1, 2, 3]
    assert all(message["persons"][0].get("rep_counter") != {"count": 7} for message in messages)
    assert [[label["text"] for label in message["annotations"]] for message in messages] == [["push-up 0"]] * 4
    assert engine.summaries() == ["cam: no repetitions"]


def test_latency_counts_from_when_it_is_played(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    (first, *_) = record(path)
    packets = list(replay.packets(replay.Recording(path)))
    assert packets[0].since == packets[0].captured_at == first["captured_at"]
    graph = Graph().stream("cam", f"replay://{path}").add("source", "replay")
    graph.add("record", "record", path=str(tmp_path / "again.jsonl"))
    latency = run(graph).stats()["stages"]["record"]["cam"]["latency_ms"]
    assert latency["p95"] < 60_000, "and not since 1970, when it was recorded"


@pytest.mark.parametrize("name", ["is it?.jsonl", "a?b#c %20.jsonl", "plain.jsonl"])
def test_a_name_may_have_any_character(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    record(path)
    for fields, start in (("", 0.0), ("?start=0.1", 0.1)):
        found = replay.parse(f"replay://{path}{fields}", "it")
        assert (found.path, found.start) == (path, start)
    assert replay.Replay.file_of(f"replay://{path}?start=1") == path
    assert Decode.file_of(f"replay://{path}") == path


def test_a_recording_is_never_written_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "it.jsonl"
    record(path)
    graph = Graph().stream("cam", f"replay://{path}").add("source", "replay")
    graph.add("record", "record", path=str(path), overwrite=True)
    with pytest.raises(UsageError, match="which is the source of stream cam itself"):
        graph.validate()


def test_what_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=rf"there is no file {tmp_path}/no\.jsonl;"):
        list(replay.packets(replay.parse(f"replay://{tmp_path}/no.jsonl?start=1", "replay://no.jsonl")))
    record(tmp_path / "short.jsonl")
    with pytest.raises(SourceError, match="is over before second 1000"):
        list(replay.packets(replay.Recording(tmp_path / "short.jsonl", start=1000)))


def test_what_comes_before_a_damaged_line_is_played(tmp_path: Path) -> None:
    path = tmp_path / "damaged.jsonl"
    record(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{damaged\n", *lines[3:]]))
    played = replay.packets(replay.Recording(path))
    assert [next(played).seq for _ in range(3)] == [0, 2, 4]
    with pytest.raises(SourceError, match=r"damaged\.jsonl:4"):
        next(played)
