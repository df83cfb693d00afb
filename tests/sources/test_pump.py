"""Reads that do not come back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from streamkp.errors import SourceError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StreamContext
from streamkp.sources.pump import Pump
from streamkp.sources.timeline import Picture

WAIT = 20.0
PICTURE = Picture(np.zeros((3, 5, 3), np.uint8), 0, 1)


@pytest.fixture
def stream() -> StreamContext:
    return StreamContext("cam", "0", "0", Clock(), live=True)


class Stuck:
    """A driver that gives one picture and then hangs until it is let go."""

    def __init__(self) -> None:
        self.hangs, self.go_on, self.closed = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> Iterator[Picture]:
        try:
            yield PICTURE
            self.hangs.set()
            assert self.go_on.wait(WAIT)
            yield PICTURE
        finally:
            self.closed.set()


def test_pictures_and_failures_come_through_in_order(stream: StreamContext) -> None:
    def source() -> Iterator[Picture]:
        for number in range(50):
            yield PICTURE._replace(pts=number)
        raise SourceError("gone")

    pictures = Pump(stream).pictures(source, WAIT, WAIT)
    assert [next(pictures).pts for _ in range(50)] == list(range(50))
    with pytest.raises(SourceError, match="gone"):
        next(pictures)


def test_a_connection_that_fails_at_once(stream: StreamContext) -> None:
    def source() -> Iterator[Picture]:
        raise SourceError("nobody there")

    with pytest.raises(SourceError, match="nobody there"):
        next(Pump(stream).pictures(source, WAIT, WAIT))


def test_a_stopped_stream_waits_for_no_read(stream: StreamContext) -> None:
    stuck = Stuck()
    pictures = Pump(stream).pictures(stuck, WAIT, WAIT)
    next(pictures)
    assert stuck.hangs.wait(WAIT)
    threading.Thread(target=stream.stop).start()
    assert list(pictures) == []
    assert not stuck.closed.is_set()
    stuck.go_on.set()
    assert stuck.closed.wait(WAIT)  # and the thread ends when its read returns


def test_a_read_that_takes_too_long_is_left_and_not_tried_twice_at_a_time(stream: StreamContext) -> None:
    stuck, pump = Stuck(), Pump(stream)
    pictures = pump.pictures(stuck, WAIT, 0.05)
    next(pictures)
    with pytest.raises(SourceError, match=r"0: no picture for 0\.\d s, and the read does not come back"):
        next(pictures)
    with pytest.raises(SourceError, match="still hangs"):
        next(pump.pictures(stuck, WAIT, WAIT))
    stuck.go_on.set()
    assert stuck.closed.wait(WAIT)
    assert pump._thread is not None
    pump._thread.join(WAIT)
    assert next(pump.pictures(stuck, WAIT, WAIT)) is PICTURE


def test_leaving_closes_the_connection(stream: StreamContext) -> None:
    closed = threading.Event()

    def source() -> Iterator[Picture]:
        try:
            while True:
                yield PICTURE
        finally:
            closed.set()

    pictures: Iterator[Picture] = Pump(stream).pictures(source, WAIT, WAIT)
    next(pictures)
    close: Callable[[], None] = pictures.close  # type: ignore[attr-defined]
    close()
    assert closed.is_set()
