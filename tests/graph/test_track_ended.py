"""The hook that tells a stage of the end of a track."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from streamkp.errors import OutputError
from streamkp.graph.stage import BatchStage, MapStage, PerTrack, Sink, StreamContext
from streamkp.packet import Packet
from streamkp.testing import Collected, build, make_packet


def script(context: StreamContext) -> Iterator[Packet]:
    """Track 1 ends in frame 2, track 2 with its epoch in frame 4, and tracks 2 and 3 of the new epoch at the end."""
    tracks = [{1, 2}, {1, 2}, {2}, {2}, {2, 3}, {2, 3}]
    for seq, ids in enumerate(tracks):
        yield make_packet(context.stream, seq, tracks=frozenset(ids), epoch=int(seq >= 4))


def play(stage: Any) -> tuple[Any, Collected]:
    engine, out = build({"it": stage}, {"cam": script})
    engine.start()
    assert engine.wait(30)
    return engine, out


def test_each_track_ends_once_with_its_state_still_there() -> None:
    calls: list[Any] = []

    class Count(MapStage):
        def open(self) -> None:
            self.frames: PerTrack[list[int]] = self.per_track(list)

        def process(self, packet: Packet) -> Packet:
            calls.append(packet.seq)
            for track in packet.tracks:
                self.frames[packet.stream, track].append(packet.seq)
            return packet

        def track_ended(self, stream: str, track: int) -> None:
            calls.append((stream, track, self.frames[stream, track]))

        def drain(self, stream: str) -> Iterable[Packet]:
            calls.append("drain")
            return ()

        def stream_ended(self, stream: str) -> None:
            calls.append("ended")

    engine, out = play({"use": Count})
    assert not engine.errors
    assert len(out.packets) == 6
    assert calls == [
        0, 1, 2, ("cam", 1, [0, 1]), 3,
        ("cam", 2, [0, 1, 2, 3]), 4, 5,
        ("cam", 2, [4, 5]), ("cam", 3, [4, 5]), "drain", "ended",
    ]  # fmt: skip


def test_a_batch_stage_without_state_is_told_too() -> None:
    ended: list[int] = []

    class Batch(BatchStage):
        def process(self, batch: Any) -> Any:
            return batch

        def track_ended(self, stream: str, track: int) -> None:
            ended.append(track)

    play({"use": Batch})
    assert ended == [1, 2, 2, 3]


def test_an_error_is_counted_and_the_stream_goes_on() -> None:
    class Fails(MapStage):
        def process(self, packet: Packet) -> Packet:
            return packet

        def track_ended(self, stream: str, track: int) -> None:
            if track < 3:
                raise ValueError("no such track")

    engine, out = play({"use": Fails})
    assert out.seqs() == list(range(6))
    assert out.ended == ["cam"]
    assert engine.stats()["stages"]["it"]["cam"]["errors"] == 2
    assert [str(e) for e in engine.errors] == [
        "stage it failed at the end of stream cam: ValueError('no such track')"
    ]  # track 2 of the new epoch, where no frame is left to count the error for


def test_a_sink_that_cannot_write_is_out_of_use() -> None:
    taken: list[int] = []

    class Full(Sink):
        def process(self, packet: Packet) -> None:
            taken.append(packet.seq)

        def track_ended(self, stream: str, track: int) -> None:
            raise OutputError("the disk is full")

    engine, _ = play({"use": Full, "from": "source"})
    assert taken == [0, 1, 2]
    assert [str(e) for e in engine.errors] == ["the disk is full"]
