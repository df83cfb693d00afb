from __future__ import annotations

import logging
import threading

import pytest

from streamkp.graph.stage import MapStage, StageOptions
from streamkp.graph.watchdog import STUCK, Watchdog, stacks
from streamkp.packet import Packet
from streamkp.testing import ManualClock, build, count_to

WAIT = 20.0


class Hang(MapStage):
    class Options(StageOptions):
        entered: object
        go_on: object

    def process(self, packet: Packet) -> Packet:
        if packet.seq == 3:
            self.options.entered.set()
            assert self.options.go_on.wait(WAIT)
        return packet


class Patient(Hang):
    may_wait = True


@pytest.mark.parametrize("cls", [Hang, Patient])
def test_a_stage_that_does_not_come_back_is_named_once(caplog: pytest.LogCaptureFixture, cls: type[Hang]) -> None:
    clock, entered, go_on = ManualClock(), threading.Event(), threading.Event()
    engine, out = build({"hang": {"use": cls, "entered": entered, "go_on": go_on}}, {"cam": count_to(5)}, clock=clock)
    engine.start()
    try:
        assert entered.wait(WAIT)
        dog = Watchdog(engine._runners, (), clock)
        clock.advance(STUCK - 1)
        assert (dog.stuck(), engine.healthy()) == ([], True)
        clock.advance(2)
        with caplog.at_level(logging.ERROR):
            dog.look()
            dog.look()
        told = [record.message for record in caplog.records]
        if cls is Patient:
            assert (told, engine.healthy()) == ([], True)
        else:
            assert told == ["stage hang is stuck on frame 3 of stream cam for 31 s"] == engine.stuck()
            assert not engine.healthy()
            (thread,) = [thread for thread in engine.threads() if thread.name == "streamkp-hang"]
            assert "go_on.wait(WAIT)" in stacks([thread])
    finally:
        go_on.set()
        assert engine.wait(WAIT)
    assert engine.healthy()
    assert out.seqs() == [0, 1, 2, 3, 4]
    assert engine.threads() == []
