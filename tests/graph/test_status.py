from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from streamkp.graph.stage import StreamContext
from streamkp.graph.status import Status, StatusBoard
from streamkp.graph.watchdog import Watchdog
from streamkp.packet import Packet
from streamkp.testing import ManualClock, build, make_packet

WAIT = 20.0


def test_changes_are_told_in_order_and_since_is_when_a_state_began() -> None:
    clock = ManualClock(start=1_000)
    board, told = StatusBoard(clock), list[tuple[str, Status | None]]()
    board.begin("a")
    end = board.watch(lambda stream, status: told.append((stream, status)))
    board.set("a", "live", epoch=0)
    board.set("a", "live", epoch=0)  # nothing new
    clock.advance(1e-9)
    board.set("a", "reconnecting", "gone")
    clock.advance(1e-9)
    board.set("a", "reconnecting", "still gone")
    board.set("a", "live", epoch=1)
    board.flag("a", "dark")
    board.set("a", "stalled", only_from=("connecting",))
    board.set("b", "stalled", only_from=("live",))
    board.set("a", "stalled", only_from=("live",))
    board.set("a", "failed", "for good")
    board.set("a", "live")  # too late
    board.forget("a")
    end()
    board.begin("a")
    assert told == [
        ("a", Status("connecting", None, 1000)),
        ("a", Status("live", None, 1000)),
        ("a", Status("reconnecting", "gone", 1001)),
        ("a", Status("reconnecting", "still gone", 1001)),
        ("a", Status("live", None, 1002, 1)),
        ("a", Status("live", None, 1002, 1, "dark")),
        ("a", Status("stalled", None, 1002, 1)),
        ("a", Status("failed", "for good", 1002, 1)),
        ("a", None),
    ]
    assert board.all() == {"a": Status("connecting", None, 1002)}


@pytest.mark.parametrize("patience", [None, 30.0])
def test_a_live_stream_without_frames_stalls_until_the_next_one(
    patience: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock, asked, go_on = ManualClock(), threading.Semaphore(0), threading.Semaphore(0)

    def camera(context: StreamContext) -> Iterator[Packet]:
        context.stall_after = patience
        for seq in range(3):
            yield make_packet(context.stream, seq, epoch=seq)
            asked.release()
            assert go_on.acquire(timeout=WAIT)

    engine, out = build({}, {"cam": camera}, live=True, clock=clock)
    with engine:
        dog = Watchdog((), (), clock, lambda: list(engine._feeds.values()))
        assert asked.acquire(timeout=WAIT)
        clock.advance(1.0)
        dog.look()
        assert engine.statuses()["cam"].state == "live"
        clock.advance(1.0)
        dog.look()
        status = engine.statuses()["cam"]
        assert (status.state, status.reason) == (("live", None) if patience else ("stalled", "no frame for 2.0 s"))
        clock.advance(0.5)
        dog.look()  # one line for each stall
        assert engine.ready() is bool(patience)
        assert b'streamkp_stream_state{state="stalled",stream="cam"} %d' % (not patience) in engine.prometheus()
        go_on.release()
        assert asked.acquire(timeout=WAIT)
        assert engine.statuses()["cam"] == Status(
            "live", None, clock.now() if not patience else clock.now() - 25 * 10**8, 1
        )
        told = [] if patience else ["no frame for 2.0 s: the stream has stalled", "frames come again, after 2.5 s"]
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == told
        go_on.release(2)
    assert engine.statuses()["cam"].state == "ended"
    assert len(out.packets) == 3
