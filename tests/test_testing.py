"""What authors of stages are given to test with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pytest
from pydantic import Field, ValidationError

from streamkp.errors import SourceError
from streamkp.graph.stage import BatchStage, MapStage, Sink, StageOptions, StreamContext
from streamkp.packet import Packet
from streamkp.testing import FRAME, ManualClock, build, count_to, make_packet, open_stage, run_stage

WAIT = 20.0  # seconds until a hung test fails


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Waiter:
    """Calls a function in a thread of its own."""

    def __init__(self, call: Callable[[], bool]) -> None:
        self.result: bool | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.result = self._call()

    def finish(self) -> bool | None:
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "nothing has woken it"
        return self.result

    @property
    def waiting(self) -> bool:
        return self._thread.is_alive()


def begun(clock: ManualClock) -> None:
    assert clock.waits.acquire(timeout=WAIT)


class TestManualClock:
    def test_stands_still_until_it_is_moved(self) -> None:
        clock = ManualClock(start=5)
        assert clock.now() == clock.monotonic() == 5
        clock.advance(1.5)
        assert clock.now() == clock.monotonic() == 1_500_000_005

    def test_a_wait_ends_when_its_time_has_passed(self) -> None:
        clock, condition = ManualClock(), threading.Condition()

        def wait() -> bool:
            with condition:
                return clock.wait(condition, 1.0)

        waiter = Waiter(wait)
        begun(clock)
        clock.advance(1.0)
        assert waiter.finish() is False

    @pytest.mark.parametrize("timeout", [1.0, None])
    def test_a_wait_that_is_notified_in_time_says_so(self, timeout: float | None) -> None:
        clock, condition = ManualClock(), threading.Condition()

        def wait() -> bool:
            with condition:
                return clock.wait(condition, timeout)

        waiter = Waiter(wait)
        begun(clock)
        with condition:
            condition.notify_all()
        assert waiter.finish() is True

    def test_a_pause_does_not_end_early(self) -> None:
        clock = ManualClock()
        stream = StreamContext("cam", "0", "0", clock, live=True)
        waiter = Waiter(lambda: stream.wait(1.0))
        for _ in range(3):
            begun(clock)
            clock.advance(0.25)
        begun(clock)  # woken three times, it has gone back to waiting
        assert waiter.waiting
        clock.advance(0.25)
        assert waiter.finish() is False

    def test_all_waiters_are_woken(self) -> None:
        clock = ManualClock()
        streams = [StreamContext(str(n), "0", "0", clock, live=True) for n in range(3)]
        waiters = [Waiter(partial(stream.wait, 1.0)) for stream in streams]
        for _ in waiters:
            begun(clock)
        clock.advance(2.0)
        assert [waiter.finish() for waiter in waiters] == [False] * 3

    def test_a_stop_ends_a_pause_although_time_stands_still(self) -> None:
        clock = ManualClock()
        stream = StreamContext("cam", "0", "0", clock, live=True)
        waiter = Waiter(lambda: stream.wait(3600))
        begun(clock)
        stream.stop()
        assert waiter.finish() is True


class TestMakePacket:
    def test_frames_follow_each_other(self) -> None:
        first, second = make_packet(seq=0), make_packet(seq=1, width=8, height=6)
        assert second.pts - first.pts == FRAME
        assert second.image is not None
        assert (second.image.shape, second.image.dtype) == ((6, 8, 3), np.uint8)

    def test_every_field_can_be_given(self) -> None:
        packet = make_packet("door", 3, epoch=2, image=None, tracks=frozenset({7}))
        assert (packet.stream, packet.seq, packet.epoch, packet.image, packet.tracks) == ("door", 3, 2, None, {7})


class Widen(MapStage):
    """Multiplies the width, and lets every third packet end here."""

    class Options(StageOptions):
        factor: int = Field(2, ge=1)

    options: Options

    def process(self, packet: Packet) -> Packet | None:
        packet.width *= self.options.factor
        return None if packet.seq % 3 == 2 else packet


class TestRunStage:
    def test_a_map_may_let_packets_end(self) -> None:
        out = run_stage(Widen, {"factor": 3}, [make_packet(seq=n, width=10) for n in range(6)])
        assert [(p.seq, p.width) for p in out] == [(0, 30), (1, 30), (3, 30), (4, 30)]

    def test_a_batch_stage_gets_one_packet_at_a_time(self) -> None:
        sizes: list[int] = []

        class Batch(BatchStage):
            def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
                sizes.append(len(batch))
                return batch

        assert [p.seq for p in run_stage(Batch, None, [make_packet(seq=n) for n in range(3)])] == [0, 1, 2]
        assert sizes == [1, 1, 1]

    def test_nothing_comes_out_of_a_sink(self) -> None:
        taken: list[int] = []

        class Take(Sink):
            def process(self, packet: Packet) -> None:
                taken.append(packet.seq)

        assert run_stage(Take, None, [make_packet(seq=4)]) == []
        assert taken == [4]

    def test_options_are_checked_as_in_a_graph(self) -> None:
        for options in ({"factor": 0}, {"factr": 2}):
            with pytest.raises(ValidationError):
                run_stage(Widen, options, [])

    def test_the_stage_is_closed_also_after_an_error(self) -> None:
        def broken() -> Iterator[Packet]:
            yield make_packet()
            raise ZeroDivisionError

        closed: list[bool] = []

        class Widened(Widen):
            def close(self) -> None:
                closed.append(True)

        with pytest.raises(ZeroDivisionError):
            run_stage(Widened, None, broken())
        assert closed == [True]

    def test_the_clock_reaches_the_stage(self) -> None:
        clock = ManualClock()
        stage = open_stage(Widen, name="wide", clock=clock)
        assert (stage.context.name, stage.context.clock) == ("wide", clock)


class TestBuild:
    def test_scripts_are_played_through_the_stages(self) -> None:
        engine, out = build({"widen": {"use": Widen, "factor": 5}}, {"a": count_to(4), "b": count_to(2)})
        engine.start()
        assert engine.wait(WAIT)
        assert (out.seqs("a"), out.seqs("b"), out.seqs()) == ([0, 1, 3], [0, 1], [])
        assert {p.width for p in out.packets} == {5 * 64}
        assert sorted(out.ended) == ["a", "b"]
        assert engine.errors == []

    def test_a_script_that_fails_is_a_source_that_fails(self) -> None:
        def script(stream: StreamContext) -> Iterator[Packet]:
            yield make_packet(stream.stream)
            raise SourceError("the cable was pulled")

        engine, out = build({}, {"cam": script})
        engine.start()
        assert engine.wait(WAIT)
        assert out.seqs() == [0]
        assert [str(error) for error in engine.errors] == ["the cable was pulled"]

    @pytest.mark.parametrize("live", [False, True])
    def test_streams_are_live_on_demand(self, live: bool) -> None:
        seen: list[bool] = []

        def script(stream: StreamContext) -> Iterator[Packet]:
            seen.append(stream.live)
            return iter(())

        engine, _ = build({}, {"cam": script}, live=live)
        engine.start()
        assert engine.wait(WAIT)
        assert seen == [live]

    def test_the_engine_gets_what_else_is_given(self) -> None:
        clock = ManualClock()
        engine, out = build({}, {"cam": count_to(1)}, clock=clock)
        engine.start()
        assert engine.wait(WAIT)
        assert engine.clock is clock
        assert out.seqs() == [0]
