"""Batch stages that begin a batch before the one before is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from streamkp.graph.channel import Channel
from streamkp.graph.clock import Clock
from streamkp.graph.edges import Outputs
from streamkp.graph.runner import StageRunner
from streamkp.graph.stage import BatchStage, Begun, Sink, StageContext, StageOptions, StreamContext
from streamkp.packet import Packet
from streamkp.testing import build, count_to, make_packet

WAIT = 20.0


class Host:
    """An engine with streams that are files."""

    clock = Clock()
    profile = False
    gate = None
    tracer = None

    def __init__(self) -> None:
        self.left: list[str] = []

    def delivering(self, *, files: bool) -> int:
        return 0

    def is_live(self, name: str) -> bool:
        return False

    def stream_left(self, stream: str) -> None:
        self.left.append(stream)

    def report(self, error: Exception) -> None:
        raise AssertionError(error)


class Ahead(BatchStage):
    """Notes what is begun (with * where another batch is not done) and what is done."""

    overlaps = True
    expensive = False
    at_once = 1
    batch_independent = True

    def __init__(self) -> None:
        super().__init__(StageOptions(), StageContext("ahead"))
        self.log: list[str] = []
        self.fails: set[str] = set()

    def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
        names = " ".join(f"{packet.stream}{packet.seq}" for packet in batch)
        self.log.append(f"begin {names}{'*' * crowded}")
        if f"begin {names}" in self.fails:
            raise ValueError("begin")

        def finish() -> Sequence[Packet]:
            self.log.append(f"end {names}")
            if f"end {names}" in self.fails:
                raise ValueError("end")
            return batch

        return Begun(finish)


class Kept(Outputs):
    """Where packets and ends of streams go."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(())
        self._log = log

    def send(self, packet: Packet) -> None:
        self._log.append(f"out {packet.stream}{packet.seq}")

    def end(self, stream: str) -> None:
        self._log.append(f"over {stream}")


def played(stage: Ahead, *names: str) -> list[str]:
    """What a stage does with packets that all wait when it begins; a stream ends after its last one."""
    channel: Channel[Packet] = Channel(8, lambda _: "block")
    for name in names:
        channel.put(name[0], make_packet(name[0], int(name[1:])))
    for stream in sorted({name[0] for name in names}):
        channel.end(stream)
    channel.close()
    host: Any = Host()
    StageRunner(stage, channel, Kept(stage.log), host, batch_size=16, batch_wait=60.0).run()
    return stage.log


def test_a_batch_of_other_streams_is_begun_before_one_is_done() -> None:
    assert played(Ahead(), "a0", "b0", "a1", "b1") == [
        "begin a0", "begin b0*", "end a0", "begin a1*", "out a0", "end b0", "begin b1*", "out b0", "end a1", "out a1",
        "end b1", "out b1", "over a", "over b",
    ]  # fmt: skip


def test_a_stream_by_itself_is_done_before_its_next_frame_is_begun() -> None:
    assert played(Ahead(), "a0", "a1") == [
        "begin a0", "end a0", "begin a1", "out a0", "end a1", "out a1", "over a",
    ]  # fmt: skip


def test_what_is_done_goes_out_though_no_other_frame_has_come() -> None:
    begun, answers = threading.Semaphore(0), list[Callable[[], None]]()
    arrived = {"b": threading.Semaphore(0)}
    stages = {
        "aside": {"use": Aside, "begun": begun, "answers": answers},
        "arrive": {"use": Arrive, "arrived": arrived},
    }
    go_on = threading.Event()

    def frames(_: StreamContext) -> Iterator[Packet]:
        yield make_packet("b", 0)
        assert go_on.wait(WAIT)

    engine, _ = build(stages, {"b": frames})
    engine.start()
    assert arrived["b"].acquire(timeout=WAIT)
    go_on.set()
    assert engine.wait(WAIT)
    assert not engine.errors


def test_a_stage_that_works_on_whole_batches_gets_them_whole() -> None:
    stage = Ahead()
    stage.at_once = None
    assert played(stage, "a0", "b0", "c0")[:2] == ["begin a0 b0 c0", "end a0 b0 c0"]


@pytest.mark.parametrize("where", ["begin b0", "end b0"])
def test_an_error_in_either_half_costs_that_batch_only(where: str) -> None:
    stage = Ahead()
    stage.fails.add(where)
    log = played(stage, "a0", "b0", "a1", "b1")
    assert [entry for entry in log if entry.startswith(("out", "over"))] == [
        "out a0", "out a1", "out b1", "over a", "over b",
    ]  # fmt: skip


class Aside(BatchStage):
    """Has the packets of stream a worked on elsewhere, until the test says that they are done."""

    overlaps = True
    expensive = False
    at_once = 1

    class Options(StageOptions):
        begun: Any
        answers: Any

    def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
        (packet,) = batch
        if packet.stream != "a":
            return Begun(lambda: batch)
        answer: Future[Sequence[Packet]] = Future()
        answer.add_done_callback(lambda _: self.context.done())
        self.options.answers.append(lambda: answer.set_result(batch))
        self.options.begun.release()
        return Begun(answer.result, answer.done)


class Arrive(Sink):
    class Options(StageOptions):
        arrived: Any

    def process(self, packet: Packet) -> None:
        self.options.arrived[packet.stream].release()


def test_other_streams_pass_one_that_takes_long() -> None:
    begun, answers = threading.Semaphore(0), list[Callable[[], None]]()
    arrived = {name: threading.Semaphore(0) for name in "ab"}
    stages = {
        "aside": {"use": Aside, "begun": begun, "answers": answers},
        "arrive": {"use": Arrive, "arrived": arrived},
    }
    engine, _ = build(stages, {"a": count_to(3), "b": count_to(50)})
    engine.start()
    assert begun.acquire(timeout=WAIT)
    for _ in range(50):  # all of b, while the first frame of a is under way
        assert arrived["b"].acquire(timeout=WAIT)
    assert not arrived["a"].acquire(blocking=False)
    for seq in range(3):
        answers[seq]()
        assert arrived["a"].acquire(timeout=WAIT)
        assert seq == 2 or begun.acquire(timeout=WAIT)
    assert engine.wait(WAIT)
    assert engine.errors == []


def test_a_stopped_run_does_not_wait_for_what_is_under_way() -> None:
    begun, answers = threading.Semaphore(0), list[Callable[[], None]]()
    engine, out = build({"aside": {"use": Aside, "begun": begun, "answers": answers}}, {"a": count_to(3)})
    engine.start()
    assert begun.acquire(timeout=WAIT)
    engine.stop()
    assert engine.wait(WAIT)
    assert out.packets == []


def test_packets_of_a_stopped_run_are_left_and_the_stage_is_closed() -> None:
    begun, closed = threading.Event(), threading.Event()

    class Slow(Ahead):
        def __init__(self, options: object, context: object) -> None:
            super().__init__()

        def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
            begun.set()
            return super().begin(batch, crowded=crowded)

        def close(self) -> None:
            closed.set()

    engine, _ = build({"slow": {"use": Slow}}, {"a": count_to(1000), "b": count_to(1000)})
    engine.start()
    assert begun.wait(WAIT)
    engine.stop()
    assert engine.wait(WAIT)
    assert closed.is_set()


def test_several_files_lose_nothing_and_keep_their_order() -> None:
    class Quick(BatchStage):
        overlaps = True
        expensive = False

        def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
            return Begun(lambda: batch)

    engine, out = build({"quick": {"use": Quick}}, {name: count_to(300) for name in "abc"})
    engine.start()
    assert engine.wait(WAIT)
    for name in "abc":
        assert out.seqs(name) == list(range(300))
    assert engine.stats()["stages"]["quick"]["a"]["done"] == 300
