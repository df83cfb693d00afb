"""The engine as its users see it: order, draining, stopping, faults, streams that come and go."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from streamkp.errors import OutputError, SourceError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.feedback import DELAY
from streamkp.graph.spec import StreamSpec
from streamkp.graph.stage import BatchStage, MapStage, Sink, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet
from streamkp.testing import Collect, Collected, ManualClock, Scripted, build, count_to, make_packet

WAIT = 20.0  # seconds until a hung engine fails the test


@pytest.fixture(autouse=True)
def no_thread_outlives_the_graph() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Pass(MapStage):
    stateless = True

    def process(self, packet: Packet) -> Packet:
        return packet


class Gate(MapStage):
    """Holds every packet until the test lets it through."""

    class Options(StageOptions):
        entered: object
        gate: object
        model_config = StageOptions.model_config | {"arbitrary_types_allowed": True}

    def process(self, packet: Packet) -> Packet:
        self.options.entered.release()
        self.options.gate.acquire()
        return packet


def gate() -> tuple[threading.Semaphore, threading.Semaphore, dict[str, object]]:
    entered, opened = threading.Semaphore(0), threading.Semaphore(0)
    return entered, opened, {"use": Gate, "entered": entered, "gate": opened}


class Pairs(BatchStage):
    expensive = False

    class Options(StageOptions):
        sizes: object

    def process(self, batch: list[Packet]) -> list[Packet]:
        self.options.sizes.append(sorted((p.stream, p.seq) for p in batch))
        return list(batch)


def endless(context: StreamContext) -> Iterator[Packet]:
    seq = 0
    while not context.stopping:
        yield make_packet(context.stream, seq)
        seq += 1


def finish(engine: Engine) -> None:
    if not engine.wait(WAIT):
        engine.stop()
        engine.wait(WAIT)
        pytest.fail("the engine hung")


def test_a_file_loses_nothing_and_ends_by_itself() -> None:
    engine, out = build({"a": {"use": Pass}, "b": {"use": Pass}}, {"x": count_to(500), "y": count_to(300)})
    engine.start()
    finish(engine)
    assert out.seqs("x") == list(range(500))
    assert out.seqs("y") == list(range(300))
    assert sorted(out.ended) == ["x", "y"]
    assert engine.errors == []
    stats = engine.stats()
    assert stats["stages"]["b"]["x"]["done"] == 500
    assert stats["streams"]["y"]["status"]["state"] == "ended"


def test_several_workers_keep_the_order_of_each_stream() -> None:
    class Jitter(MapStage):
        stateless = True

        def process(self, packet: Packet) -> Packet:
            sum(range((packet.seq * 7919) % 3000))
            return packet

    engine, out = build({"work": {"use": Jitter, "workers": 4}}, {"x": count_to(400), "y": count_to(400)})
    engine.start()
    finish(engine)
    assert out.seqs("x") == out.seqs("y") == list(range(400))


def test_workers_are_refused_for_a_stage_with_state() -> None:
    with pytest.raises(UsageError, match="keeps state between frames"):
        build({"work": {"use": Gate, "workers": 2, "entered": 1, "gate": 1}}, {"x": count_to(1)})


def test_a_stage_that_raises_loses_that_packet_only(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(MapStage):
        def process(self, packet: Packet) -> Packet:
            if packet.seq % 2:
                raise ValueError("odd")
            return packet

    engine, out = build({"odd": {"use": Odd}}, {"cam": count_to(20)})
    engine.start()
    finish(engine)
    assert out.seqs() == list(range(0, 20, 2))
    assert engine.stats()["stages"]["odd"]["cam"]["errors"] == 10
    assert len([r for r in caplog.records if "odd dropped frame 1 of stream cam" in r.message]) == 1
    assert len([r for r in caplog.records if "dropped frame" in r.message]) == 1  # once a minute, not ten times


def test_live_streams_drop_at_the_first_edge_and_count_it() -> None:
    entered, opened, held = gate()
    pushed = threading.Event()

    def script(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(seq=0)
        assert entered.acquire(timeout=WAIT)  # frame 0 is inside the stage, its queue is empty
        for seq in range(1, 11):
            yield make_packet(seq=seq)
        pushed.set()

    engine, out = build({"gate": held | {"queue": {"size": 2}}}, {"cam": script}, live=True)
    engine.start()
    assert pushed.wait(WAIT)
    opened.release(100)
    finish(engine)
    assert out.seqs() == [0, 9, 10]
    assert engine.stats()["stages"]["gate"]["cam"]["dropped"]["overflow"] == 8


def test_a_stale_packet_is_dropped_before_an_expensive_stage() -> None:
    clock, sizes = ManualClock(), []
    now = clock.monotonic()

    class Costly(Pairs):
        expensive = True

    def script(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(seq=0, expires_at=now - 1)
        yield make_packet(seq=1, expires_at=now + 10**9)

    engine, out = build({"costly": {"use": Costly, "sizes": sizes}}, {"cam": script}, clock=clock)
    engine.start()
    finish(engine)
    assert out.seqs() == [1]
    assert engine.stats()["stages"]["costly"]["cam"]["dropped"]["stale"] == 1


def test_a_batch_takes_one_packet_of_each_live_stream_without_waiting() -> None:
    clock, sizes = ManualClock(), []  # the clock stands still: any wait would hang
    barrier = threading.Barrier(3)

    def script(context: StreamContext) -> Iterator[Packet]:
        for seq in range(30):
            yield make_packet(context.stream, seq)
        barrier.wait(WAIT)

    gather = {"size": 8, "wait_ms": 1000, "mix_files": True}
    batch = {"use": Pairs, "sizes": sizes, "batch": gather, "queue": {"size": 64}}
    engine, out = build({"pairs": batch}, {"x": script, "y": script}, clock=clock)
    engine.start()
    barrier.wait(WAIT)
    while not engine.wait(0.0):
        clock.advance(1.0)
    assert out.seqs("x") == out.seqs("y") == list(range(30))
    assert all(len({stream for stream, _ in each}) == len(each) for each in sizes)


@pytest.mark.parametrize(
    ("own", "given", "waits"),
    [
        (4.0, {}, True),
        (0.0, {}, False),
        (0.0, {"size": 4}, False),
        (0.0, {"wait_ms": 3}, True),
        (4.0, {"wait_ms": 0}, False),
    ],
)
def test_how_long_a_batch_waits_is_up_to_the_graph_and_then_to_the_stage(
    own: float, given: dict[str, float], waits: bool
) -> None:
    clock, done, alone, over = ManualClock(), threading.Semaphore(0), threading.Event(), threading.Event()

    class Patient(BatchStage):
        expensive = False
        wait_ms = own

        def process(self, batch: list[Packet]) -> list[Packet]:
            done.release(len(batch))
            return batch

    def early(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(context.stream)
        assert over.wait(WAIT)

    def late(context: StreamContext) -> Iterator[Packet]:
        assert alone.wait(WAIT)
        yield from early(context)

    engine, out = build({"it": {"use": Patient, "batch": given}}, {"x": early, "y": late}, live=True, clock=clock)
    engine.start()
    assert done.acquire(timeout=WAIT)  # the only stream that delivers
    alone.set()
    if waits:
        assert clock.waits.acquire(timeout=WAIT)
        assert not done.acquire(blocking=False)
        clock.advance(0.005)
    assert done.acquire(timeout=WAIT)
    assert not clock.waits.acquire(blocking=False)
    over.set()
    finish(engine)
    assert out.seqs("x") == out.seqs("y") == [0]


@pytest.mark.parametrize("mix", [False, True])
def test_a_batch_does_not_mix_files_unless_told_to(mix: bool) -> None:
    """Networks give other last digits in batches of another size, and which frames meet is a matter of timing."""
    _, opened, held = gate()
    sizes: list[list[tuple[str, int]]] = []
    delivered = threading.Barrier(3)

    def script(context: StreamContext) -> Iterator[Packet]:
        for seq in range(20):
            yield make_packet(context.stream, seq)
        delivered.wait(WAIT)

    batch = {"use": Pairs, "sizes": sizes, "batch": {"mix_files": mix}, "queue": {"size": 64}}
    stages = {"gate": held | {"queue": {"size": 64}}, "pairs": batch}
    engine, out = build(stages, {"x": script, "y": script})
    engine.start()
    delivered.wait(WAIT)
    opened.release(100)
    finish(engine)
    assert out.seqs("x") == out.seqs("y") == list(range(20))
    assert {len(each) for each in sizes} <= ({1, 2} if mix else {1})
    assert not mix or any(len(each) == 2 for each in sizes)


def test_branches_meet_again_with_what_each_has_added() -> None:
    class Mark(MapStage):
        class Options(StageOptions):
            word: str
            skip: int = 1

        def process(self, packet: Packet) -> Packet | None:
            packet.events.append({"word": self.options.word})
            return None if self.options.skip > 1 and packet.seq % self.options.skip else packet

    stages = {
        "left": {"use": Mark, "word": "left", "from": "source"},
        "right": {"use": Mark, "word": "right", "from": "source", "skip": 3},
        "both": {"use": Pass, "from": ["left", "right"]},
    }
    engine, out = build(stages, {"x": count_to(50), "y": count_to(50)})
    engine.start()
    finish(engine)
    assert out.seqs("x") == out.seqs("y") == list(range(50))
    for packet in out.packets:
        words = [event["word"] for event in packet.events]
        assert words == (["left", "right"] if packet.seq % 3 == 0 else ["left"])


def test_images_are_shared_by_all_branches() -> None:
    other = Collected()
    engine, out = build({"a": {"use": Pass}, "tap": {"use": Collect, "into": other, "from": "a"}}, {"x": count_to(5)})
    engine.start()
    finish(engine)
    assert [id(p.image) for p in out.packets] == [id(p.image) for p in other.packets]
    assert all(mine is not theirs for mine, theirs in zip(out.packets, other.packets, strict=True))


def test_state_is_cleared_with_its_track_its_epoch_and_its_stream() -> None:
    class Remember(MapStage):
        def open(self) -> None:
            self.frames = self.per_stream(list)
            self.poses = self.per_track(list)
            seen.append(self)

        def process(self, packet: Packet) -> Packet:
            self.frames[packet.stream].append(packet.seq)
            for track in packet.tracks:
                self.poses[packet.stream, track].append(packet.seq)
            history.append((dict(self.frames), dict(self.poses)))
            return packet

    seen: list[Remember] = []
    history: list[tuple[dict[str, list[int]], dict[tuple[str, int], list[int]]]] = []

    def script(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(seq=0, tracks=frozenset({1, 2}))
        yield make_packet(seq=1, tracks=frozenset({2}))
        yield make_packet(seq=2, tracks=frozenset({2}))
        yield make_packet(seq=3, tracks=frozenset({2}), epoch=1)

    engine, _ = build({"remember": {"use": Remember}}, {"cam": script})
    engine.start()
    finish(engine)
    assert history[2][1] == {("cam", 2): [0, 1, 2]}
    assert history[3] == ({"cam": [3]}, {("cam", 2): [3]})
    assert seen[0].frames == {}
    assert seen[0].poses == {}


def test_drain_while_a_stage_blocks_on_a_full_channel() -> None:
    entered, opened, held = gate()
    engine, out = build({"a": {"use": Pass}, "gate": held | {"queue": {"size": 1}}}, {"cam": endless})
    engine.start()
    assert entered.acquire(timeout=WAIT)
    engine.drain()
    opened.release(1000)
    finish(engine)
    assert out.seqs() == list(range(len(out.packets)))
    assert out.ended == ["cam"]


def test_stop_while_a_stage_blocks_on_a_full_channel() -> None:
    entered, opened, held = gate()
    engine, out = build({"a": {"use": Pass}, "gate": held | {"queue": {"size": 1}}}, {"cam": endless})
    engine.start()
    assert entered.acquire(timeout=WAIT)
    engine.stop()
    opened.release(1000)
    finish(engine)
    assert len(out.packets) <= 1


def test_stop_and_drain_while_a_batch_is_half_full() -> None:
    for end in (Engine.stop, Engine.drain):
        clock = ManualClock()

        def waits(context: StreamContext) -> Iterator[Packet]:
            yield make_packet(context.stream, 0)
            context.wait(1e6)

        batch = {"use": Pairs, "sizes": [], "batch": {"size": 8, "wait_ms": 1000}}
        engine, out = build(
            {"pairs": batch},
            {"x": waits, "y": waits, "z": lambda c: iter(c.wait(1e6) and ())},
            clock=clock,
            live=True,
        )
        engine.start()
        for _ in range(3):
            assert clock.waits.acquire(timeout=WAIT)
        end(engine)
        finish(engine)
        assert end is Engine.stop or len(out.packets) == 2


def test_when_the_third_stage_cannot_open_the_others_are_closed() -> None:
    calls: list[str] = []

    class Fine(MapStage):
        def open(self) -> None:
            calls.append(f"open {self.context.name}")

        def close(self) -> None:
            calls.append(f"close {self.context.name}")

    class Broken(Fine):
        def open(self) -> None:
            raise UsageError("the model file is gone; pull it again")

    engine, _ = build({"a": {"use": Fine}, "b": {"use": Fine}, "c": {"use": Broken}}, {"cam": count_to(1)})
    with pytest.raises(UsageError, match="stage c: the model file is gone"):
        engine.start()
    assert calls == ["open a", "open b", "close b", "close a"]
    assert engine.wait(0)


def test_every_stage_is_closed_once_also_when_stopped() -> None:
    closed: list[str] = []

    class Closing(Pass):
        def close(self) -> None:
            closed.append(self.context.name)

    engine, _ = build({"a": {"use": Closing, "workers": 3}, "b": {"use": Closing}}, {"cam": endless})
    engine.start()
    engine.stop()
    finish(engine)
    assert sorted(closed) == ["a", "b"]


def test_a_source_that_fails_ends_its_stream_only() -> None:
    def breaks(context: StreamContext) -> Iterator[Packet]:
        yield make_packet("bad", 0)
        raise SourceError("bad.mp4 is cut off after 1 frame")

    engine, out = build({"a": {"use": Pass}}, {"bad": breaks, "good": count_to(50)})
    engine.start()
    finish(engine)
    assert out.seqs("good") == list(range(50))
    assert out.seqs("bad") == [0]
    assert [str(e) for e in engine.errors] == ["bad.mp4 is cut off after 1 frame"]
    assert engine.stats()["streams"]["bad"]["status"]["state"] == "failed"


def test_a_sink_that_fails_is_taken_out_and_the_rest_goes_on() -> None:
    class Full(Sink):
        def process(self, packet: Packet) -> None:
            if packet.seq == 3:
                raise OutputError("the disk is full")

    engine, out = build({"a": {"use": Pass}, "full": {"use": Full}}, {"cam": count_to(10)})
    engine.start()
    finish(engine)
    assert out.seqs() == list(range(10))
    assert [type(e) for e in engine.errors] == [OutputError]
    assert not engine.healthy()
    stats = engine.stats()["stages"]["full"]["cam"]
    assert (stats["done"], stats["errors"], stats["dropped"]["refused"]) == (3, 1, 6)


def test_a_run_ends_when_its_only_sink_has_failed() -> None:
    class Full(Sink):
        def process(self, packet: Packet) -> None:
            raise OutputError("the disk is full")

    data = {
        "streams": {"cam": "test:cam"},
        "stages": {"source": {"use": Scripted, "scripts": {"cam": endless}}, "full": {"use": Full}},
    }
    engine = Engine(validate(data))
    engine.start()
    finish(engine)
    assert [str(e) for e in engine.errors] == ["the disk is full"]


def test_streams_come_and_go_without_touching_the_others() -> None:
    arrived = {"b": threading.Event()}

    class Watch(Pass):
        def process(self, packet: Packet) -> Packet:
            if packet.stream in arrived:
                arrived[packet.stream].set()
            return packet

    engine, out = build({"watch": {"use": Watch}}, {"a": endless, "b": endless}, keep_alive=True)
    del engine.spec.streams["b"]  # type: ignore[attr-defined]
    engine.start()
    engine.add_stream("b", StreamSpec(uri="test:b"))
    with pytest.raises(UsageError, match="already"):
        engine.add_stream("b", StreamSpec(uri="test:b"))
    assert arrived["b"].wait(WAIT)
    engine.remove_stream("b")
    with pytest.raises(UsageError, match="no stream named c"):
        engine.remove_stream("c")
    engine.drain()
    finish(engine)
    assert out.seqs("a") == list(range(len(out.seqs("a"))))
    assert out.seqs("b") == list(range(len(out.seqs("b"))))
    assert sorted(out.ended) == ["a", "b"]
    assert "b" not in engine.stats()["streams"]


class Taker(MapStage):
    takes_feedback = True

    class Options(StageOptions):
        asked: object

    def process(self, packet: Packet) -> Packet:
        self.options.asked.append((packet.seq, self.context.feedback_in.take(packet)))
        return packet


class BatchTaker(BatchStage):
    takes_feedback = True
    wait_ms = 0.0

    class Options(StageOptions):
        asked: object

    def process(self, batch: list[Packet]) -> list[Packet]:
        for packet in batch:
            self.options.asked.append((packet.stream, packet.seq, self.context.feedback_in.take(packet), len(batch)))
        return batch


class Sender(MapStage):
    sends_feedback = True

    def process(self, packet: Packet) -> Packet:
        self.context.feedback_out.send(packet, packet.seq)
        return packet


class Losing(MapStage):
    """Loses the frames that `which` says, half of them by raising."""

    class Options(StageOptions):
        which: object

    def process(self, packet: Packet) -> Packet | None:
        if not self.options.which(packet.seq):
            return packet
        if packet.seq % 2:
            raise ValueError("odd")
        return None


def test_feedback_of_a_live_stream_reaches_the_nearest_taker_at_once() -> None:
    asked: list[tuple[int, object]] = []
    turn = threading.Semaphore(0)

    class Signals(Sender):
        def process(self, packet: Packet) -> Packet:
            super().process(packet)
            turn.release()
            return packet

    def script(context: StreamContext) -> Iterator[Packet]:
        for seq in range(4):
            yield make_packet(seq=seq)
            assert turn.acquire(timeout=WAIT)

    taker = {"use": Taker, "asked": asked}
    engine, _ = build(
        {"taker": taker, "between": {"use": Pass}, "sender": {"use": Signals}}, {"cam": script}, live=True
    )
    assert engine.spec.feedback() == [("sender", "taker")]
    engine.start()
    finish(engine)
    assert asked == [(0, None), (1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize("queue", [1, 50])
def test_feedback_of_a_file_is_answered_a_fixed_number_of_frames_later(queue: int) -> None:
    asked: list[tuple[int, object]] = []
    stages = {
        "taker": {"use": Taker, "asked": asked},
        "between": {"use": Pass, "queue": {"size": queue}},
        "sender": {"use": Sender, "queue": {"size": queue}},
    }
    engine, out = build(stages, {"a": count_to(200)})
    engine.start()
    finish(engine)
    assert asked == [(seq, seq - DELAY if seq >= DELAY else None) for seq in range(200)]
    assert out.seqs("a") == list(range(200))


@pytest.mark.parametrize("queue", [1, 50])
@pytest.mark.parametrize("mix", [False, True])
def test_feedback_into_a_batch_is_answered_a_fixed_number_of_frames_later(queue: int, mix: bool) -> None:
    asked: list[tuple[str, int, object, int]] = []
    streams = {"a": count_to(120), "b": count_to(80)}
    stages = {
        "taker": {"use": BatchTaker, "asked": asked, "batch": {"mix_files": mix}, "queue": {"size": queue}},
        "between": {"use": Pass, "queue": {"size": queue}},
        "sender": {"use": Sender, "queue": {"size": queue}},
    }
    engine, out = build(stages, streams)
    engine.start()
    finish(engine)
    for stream, count in (("a", 120), ("b", 80)):
        answers = [(seq, value) for name, seq, value, _ in asked if name == stream]
        assert answers == [(seq, seq - DELAY if seq >= DELAY else None) for seq in range(count)]
        assert out.seqs(stream) == list(range(count))
    assert {size for *_, size in asked} <= ({1, 2} if mix else {1})


@pytest.mark.parametrize("streams", [["x"], ["x", "y"]])
def test_a_stage_that_fails_on_every_frame_fails_the_run(streams: list[str]) -> None:
    class Failing(Pass):
        def process(self, packet: Packet) -> Packet:
            if packet.stream == "x":
                raise ValueError("always")
            return packet

    engine, out = build({"bad": {"use": Failing}}, {name: count_to(20) for name in streams})
    engine.start()
    finish(engine)
    (error,) = engine.errors
    assert str(error) == "stage bad failed on every frame of stream x (20 frames); the log says why"
    assert error.exit_code == 1
    assert {packet.stream for packet in out.packets} == set(streams) - {"x"}


def test_a_stage_that_costs_every_frame_a_part_of_its_results_fails_the_run() -> None:
    class InPart(Pass):
        def process(self, packet: Packet) -> Packet:
            self.context.failed(packet, ValueError("no result"))
            return packet

    engine, out = build({"bad": {"use": InPart}}, {"cam": count_to(20)})
    engine.start()
    finish(engine)
    assert "bad failed on every frame of stream cam" in str(engine.errors[0])
    assert out.seqs() == list(range(20))


def test_a_run_of_which_an_output_got_nothing_has_failed() -> None:
    """Such as a plugin that forgets to return the packet."""

    class Swallow(BatchStage):
        def process(self, batch: list[Packet]) -> list[Packet]:
            return []

    for stage in ({"use": Losing, "which": lambda seq: seq % 2 == 0}, {"use": Swallow}):
        engine, out = build({"eats": stage}, {"cam": lambda c: (make_packet(seq=seq) for seq in range(0, 40, 2))})
        engine.start()
        finish(engine)
        assert out.packets == []
        assert engine.stats()["stages"]["eats"]["cam"]["dropped"]["nothing"] == 20
        (error,) = engine.errors
        assert str(error) == (
            "collect got nothing of stream cam, of which 20 frames were read (stage eats: 20 nothing returned)"
        )


def test_lost_frames_are_told_but_no_failure_while_others_arrive() -> None:
    losing = {"use": Losing, "which": lambda seq: seq > 0}
    engine, out = build({"losing": losing}, {"cam": count_to(21)})
    engine.start()
    finish(engine)
    assert engine.errors == []
    assert out.seqs() == [0]
    (row,) = [row for row in engine.figures() if row.stage == "losing"]
    assert row.losses() == "10 errors, 10 nothing returned"


def test_a_run_that_is_stopped_at_once_has_not_failed() -> None:
    entered, opened, held = gate()
    engine, out = build({"gate": held}, {"cam": endless})
    engine.start()
    assert entered.acquire(timeout=WAIT)
    engine.stop()
    opened.release(100)
    finish(engine)
    assert (out.packets, engine.errors) == ([], [])


def test_a_stream_that_fails_says_so_at_once(caplog: pytest.LogCaptureFixture) -> None:
    failed, go_on = threading.Event(), threading.Event()

    def breaks(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(context.stream)
        context.board.watch(lambda stream, status: status and status.final and failed.set())
        raise SourceError("the cable is out")

    def waits(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(context.stream)
        assert go_on.wait(WAIT)

    engine, _ = build({}, {"bad": breaks, "good": waits})
    engine.start()
    assert failed.wait(WAIT)
    assert "stream bad failed: the cable is out" in caplog.text
    assert engine.statuses()["bad"].state == "failed"
    bad, good = (engine.stats()["streams"][name]["status"] for name in ("bad", "good"))
    assert (bad["state"], bad["reason"]) == ("failed", "the cable is out")
    assert good["reason"] is None
    go_on.set()
    finish(engine)


@pytest.mark.parametrize(
    "which",
    [lambda seq: True, lambda seq: seq % 3 > 0, lambda seq: 20 <= seq < 60],
    ids=["all", "two of three", "a stretch"],
)
@pytest.mark.parametrize("at", ["between", "sender"])
def test_frames_lost_on_the_way_do_not_leave_a_file_waiting(which: object, at: str) -> None:
    asked: list[tuple[int, object]] = []

    class LosingSender(Losing):
        sends_feedback = True

        def process(self, packet: Packet) -> Packet | None:
            self.context.feedback_out.send(packet, packet.seq)
            return super().process(packet)

    losing = {"which": which}
    stages = {
        "taker": {"use": Taker, "asked": asked},
        "between": {"use": Pass} if at == "sender" else losing | {"use": Losing},
        "sender": losing | {"use": LosingSender} if at == "sender" else {"use": Sender},
    }
    engine, out = build(stages, {"cam": count_to(100)})
    engine.start()
    finish(engine)
    assert [seq for seq, _ in asked] == list(range(100))
    assert out.seqs() == [seq for seq in range(100) if not which(seq)]


def test_frames_that_a_batch_loses_do_not_leave_a_file_waiting() -> None:
    class Loses(BatchTaker):
        def process(self, batch: list[Packet]) -> list[Packet]:
            if any(packet.seq % 5 == 0 for packet in batch):
                raise ValueError("five")
            return [packet for packet in super().process(batch) if packet.seq % 3]

    taker = {"use": Loses, "asked": [], "batch": {"mix_files": True}}
    engine, out = build({"taker": taker, "sender": {"use": Sender}}, {"a": count_to(60), "b": count_to(60)})
    engine.start()
    finish(engine)
    for row in engine.stats()["stages"]["taker"].values():
        assert row["done"] + row["errors"] == 60
    assert not [packet.seq for packet in out.packets if packet.seq % 5 == 0 or packet.seq % 3 == 0]


def test_frames_that_a_full_queue_drops_do_not_leave_a_file_waiting() -> None:
    stages = {
        "taker": {"use": Taker, "asked": []},
        "between": {"use": Pass, "queue": {"size": 1, "full": "drop-newest"}},
        "more": {"use": Pass, "queue": {"size": 1, "full": "drop-oldest"}},
        "sender": {"use": Sender, "queue": {"full": "latest"}},
    }
    engine, out = build(stages, {"cam": count_to(300)})
    engine.start()
    finish(engine)
    dropped = sum(sum(row["cam"]["dropped"].values()) for row in engine.stats()["stages"].values() if row)
    assert len(out.packets) + dropped == 300


def test_stopping_ends_a_stage_that_waits_for_feedback() -> None:
    entered, opened, held = gate()
    stages = {
        "taker": {"use": Taker, "asked": []},
        "between": held | {"queue": {"size": 50}},
        "sender": {"use": Sender},
    }
    engine, _ = build(stages, {"cam": endless})
    engine.start()
    assert entered.acquire(timeout=WAIT)
    engine.stop()
    opened.release(100)
    finish(engine)


def test_what_is_dropped_before_branches_meet_is_counted() -> None:
    entered, opened, held = gate()
    pushed = threading.Event()

    def script(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(seq=0)
        assert entered.acquire(timeout=WAIT)
        for seq in range(1, 40):
            yield make_packet(seq=seq)
        pushed.set()

    stages = {
        "left": {"use": Pass, "from": "source", "queue": {"size": 1}},
        "gate": held | {"from": ["left", "source"], "queue": {"size": 1}},
    }
    engine, out = build(stages, {"cam": script}, live=True)
    engine.start()
    assert pushed.wait(WAIT)
    opened.release(100)
    finish(engine)
    lost = engine.stats()["stages"]["gate"]["cam"]["dropped"]["overflow"]
    assert len(out.packets) < 40
    assert lost > 0
