"""Stages that share the thread of the stage before them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from streamkp.errors import OutputError
from streamkp.graph.engine import Engine
from streamkp.graph.plan import Plan
from streamkp.graph.stage import BatchStage, MapStage, Sink, Source, StageOptions, StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet
from streamkp.testing import build, count_to, make_packet

WAIT = 20.0


class Heavy(MapStage):
    def process(self, packet: Packet) -> Packet:
        packet.events.append({"heavy": threading.get_ident()})
        return packet


class Light(Heavy):
    light = True

    def process(self, packet: Packet) -> Packet:
        packet.events.append({"light": threading.get_ident()})
        return packet


class Group(BatchStage):
    expensive = False

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        return batch


class LightGroup(Group):
    light = True


class Ahead(Group):
    overlaps = True


class Out(Sink):
    light = True


class Numbers(Source):
    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        yield from ()


def chained(streams: int = 1, **stages: Any) -> list[str]:
    cameras = {f"cam{n}": f"test:{n}" for n in range(streams)}
    data = {"streams": cameras, "stages": {"source": {"use": Numbers}, **stages, "end": {"use": Sink}}}
    return [each.reader for each in Plan.of(validate(data)).channels if each.chained]


def finish(engine: Engine) -> None:
    if not engine.wait(WAIT):
        engine.stop()
        engine.wait(WAIT)
        pytest.fail("the engine hung")


def test_a_light_stage_shares_the_thread_of_a_stage_that_has_one_to_share() -> None:
    assert chained(first={"use": Light}) == []  # a source has a thread for each stream
    assert chained(first={"use": Heavy}, then={"use": Light}) == ["then"]
    assert chained(first={"use": Light}, then={"use": Light}, last={"use": Light}) == ["then", "last"]
    assert chained(first={"use": Group}, then={"use": Light}, last={"use": LightGroup}) == ["then", "last"]
    assert chained(first={"use": Ahead}, then={"use": Light}) == ["then"]
    assert chained(2, first={"use": Ahead}, then={"use": Light}) == []  # it has others to keep busy
    assert chained(0, first={"use": Ahead}, then={"use": Light}) == []  # they may come while it runs
    assert chained(first={"use": Heavy}, then={"use": Heavy}) == []
    assert chained(first={"use": Heavy}, out={"use": Out, "from": ["first"]}) == ["out"]


@pytest.mark.parametrize("asked", [{"queue": {"size": 2}}, {"queue": {"full": "latest"}}, {"workers": 2}])
def test_a_graph_may_ask_for_a_thread(asked: dict[str, Any]) -> None:
    class Free(Light):
        stateless = True

    assert chained(first={"use": Heavy}, then={"use": Free}) == ["then"]
    assert chained(first={"use": Heavy}, then={"use": Free} | asked) == []


def test_neither_joined_stages_nor_those_behind_workers_are_chained() -> None:
    class Free(Heavy):
        stateless = True

    assert chained(first={"use": Free, "workers": 2}, then={"use": Light}) == []
    assert chained(a={"use": Heavy}, b={"use": Heavy, "from": "source"}, c={"use": Light, "from": ["a", "b"]}) == []


def test_everything_arrives_in_order_and_is_counted_for_each_stage() -> None:
    stages = {name: {"use": use} for name, use in (("a", Heavy), ("b", Light), ("c", LightGroup), ("d", Light))}
    engine, out = build(stages, {"x": count_to(200), "y": count_to(100)})
    engine.start()
    names = {thread.name for thread in threading.enumerate()}
    finish(engine)
    assert {f"streamkp-{name}" for name in "bcd"}.isdisjoint(names)
    assert out.seqs("x") == list(range(200))
    assert out.seqs("y") == list(range(100))
    assert sorted(out.ended) == ["x", "y"]
    for name in stages:
        assert engine.stats()["stages"][name]["x"]["done"] == 200
    assert len({thread for packet in out.packets for event in packet.events for thread in event.values()}) == 1


def test_an_error_in_a_chained_stage_costs_that_packet_only() -> None:
    class Odd(Light):
        def process(self, packet: Packet) -> Packet:
            if packet.seq % 2:
                raise ValueError("odd")
            return packet

    engine, out = build({"a": {"use": Heavy}, "odd": {"use": Odd}, "c": {"use": Light}}, {"cam": count_to(20)})
    engine.start()
    finish(engine)
    assert out.seqs() == list(range(0, 20, 2))
    assert engine.stats()["stages"]["odd"]["cam"]["errors"] == 10
    assert engine.stats()["stages"]["c"]["cam"]["done"] == 10


def test_other_threads_get_a_packet_before_a_chained_stage_works_on_it() -> None:
    """So that a branch with a thread of its own does not wait for one without."""
    arrived = threading.Semaphore(0)

    class Tell(Sink):
        def process(self, packet: Packet) -> None:
            arrived.release()

    class Wait(Light):
        def process(self, packet: Packet) -> Packet:
            assert arrived.acquire(timeout=WAIT)
            return packet

    stages = {"a": {"use": Heavy}, "wait": {"use": Wait}, "tell": {"use": Tell, "from": "a"}}
    engine, _ = build(stages, {"cam": count_to(5)})
    assert [channel.reader for channel in engine.plan.channels if channel.chained] == ["wait"]
    engine.start()
    finish(engine)
    assert engine.stats()["stages"]["wait"]["cam"]["done"] == 5


def test_a_chained_sink_that_fails_does_not_stop_the_stages_before_it() -> None:
    class Full(Sink):
        light = True

        def process(self, packet: Packet) -> None:
            raise OutputError("the disk is full")

    stages = {"a": {"use": Heavy}, "full": {"use": Full, "from": "a"}}
    engine, _ = build(stages, {"cam": count_to(5)})
    engine.start()
    finish(engine)
    assert [str(error) for error in engine.errors] == ["the disk is full"]
    assert engine.stats()["stages"]["a"]["cam"]["done"] == 5
    assert engine.stats()["stages"]["full"]["cam"]["dropped"]["refused"] == 4


def test_chained_stages_take_new_options_and_are_closed_once() -> None:
    entered, go_on, closed = threading.Semaphore(0), threading.Semaphore(0), list[str]()

    class Held(Heavy):
        def process(self, packet: Packet) -> Packet:
            entered.release()
            go_on.acquire()
            return packet

    class Scale(Light):
        class Options(StageOptions):
            factor: int = 1

            @classmethod
            def live(cls) -> list[str]:
                return ["factor"]

        def process(self, packet: Packet) -> Packet:
            packet.width *= self.options.factor
            return packet

        def close(self) -> None:
            closed.append(self.context.name)

    engine, out = build({"held": {"use": Held}, "b": {"use": Scale}, "c": {"use": Scale}}, {"cam": count_to(3)})
    engine.start()
    for _ in range(2):
        assert entered.acquire(timeout=WAIT)
        go_on.release()
    assert entered.acquire(timeout=WAIT)  # the second packet is through the chain: one thread runs all three stages
    engine.change_options("c", {"factor": 5})
    go_on.release()
    finish(engine)
    assert [packet.width for packet in out.packets] == [64, 64, 320]
    assert closed == ["b", "c"]


def test_stopping_ends_a_chain() -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Held(Light):
        def process(self, packet: Packet) -> Packet:
            entered.set()
            assert go_on.wait(WAIT)
            return packet

    def endless(context: StreamContext) -> Iterator[Packet]:
        seq = 0
        while not context.stopping:
            yield make_packet(context.stream, seq)
            seq += 1

    engine, _ = build({"a": {"use": Heavy}, "held": {"use": Held}}, {"cam": endless})
    engine.start()
    assert entered.wait(WAIT)
    engine.stop()
    go_on.set()
    finish(engine)
