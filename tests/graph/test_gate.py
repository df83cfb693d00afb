"""An engine that shares its streams with others: epochs that start where they are told, results that are let out."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from pydantic import SecretStr

from streamkp.graph.engine import Engine
from streamkp.graph.spec import StreamSpec
from streamkp.graph.stage import StreamContext
from streamkp.graph.validation import validate
from streamkp.packet import Packet
from streamkp.testing import Collect, Collected, Scripted, make_packet


class Record:
    """A gate that notes what it is asked, and lets out what it is told to."""

    def __init__(self, epochs: int = 99, out: bool = True) -> None:
        self.opened: list[tuple[str, int]] = []
        self.epochs, self.out = epochs, out
        self.is_gone = threading.Event()

    def opens(self, stream: str, epoch: int) -> bool:
        self.opened.append((stream, epoch))
        return len(self.opened) <= self.epochs

    def lets_out(self, stream: str) -> bool:
        return self.out

    def gone(self, stream: str) -> None:
        self.is_gone.set()


def three_epochs(context: StreamContext) -> Iterator[Packet]:
    for seq in range(6):
        yield make_packet(context.stream, seq, epoch=seq // 2)


def engine(gate: Record) -> tuple[Engine, Collected]:
    out = Collected()
    stages = {
        "source": {"use": Scripted, "scripts": {"cam": three_epochs}},
        "collect": {"use": Collect, "into": out},
    }
    return Engine(validate({"stages": stages}), keep_alive=True, gate=gate), out


def run(gate: Record) -> Collected:
    made, out = engine(gate)
    with made:
        made.add_stream("cam", StreamSpec(uri=SecretStr("test:cam")), epoch=7)
        assert gate.is_gone.wait(30)
    return out


def test_epochs_are_counted_from_where_the_stream_is_told_to_begin() -> None:
    gate = Record()
    out = run(gate)
    assert [packet.epoch for packet in out.packets] == [7, 7, 8, 8, 9, 9]
    assert gate.opened == [("cam", 7), ("cam", 8), ("cam", 9)]


def test_a_gate_that_opens_no_further_epoch_ends_the_stream() -> None:
    out = run(Record(epochs=2))
    assert [packet.epoch for packet in out.packets] == [7, 7, 8, 8]
    assert out.ended == ["cam"]


def test_nothing_reaches_a_sink_that_the_gate_does_not_let_out() -> None:
    out = run(Record(out=False))
    assert out.packets == []
    assert out.ended == ["cam"]
