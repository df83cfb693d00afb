"""When a live source fails, comes back, or never comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.network import AccessRefused
from streamkp.sources.reconnect import keep_connected
from streamkp.sources.timeline import Picture, Timeline
from tests.sources.videos import InstantClock

IMAGE = np.zeros((3, 5, 3), np.uint8)


class Source:
    """Connections that yield so many frames each, then fail; the last one ends properly."""

    def __init__(self, *frames: int) -> None:
        self.stream = StreamContext("cam", "rtsp://a:b@cam/", "rtsp://***@cam/", InstantClock(), live=True)
        self.statuses: list[str] = []
        self.stream.board.watch(lambda _, status: status and self.statuses.append(status.state))
        self.attempts: list[float] = []
        self._frames = list(frames)

    def connect(self) -> Iterator[Picture]:
        self.attempts.append((self.stream.clock.monotonic() - 1_000_000_000) / 1e9)
        for number in range(self._frames.pop(0)):
            yield Picture(IMAGE, number, 1)
        if self._frames:
            raise SourceError("rtsp://***@cam/: lost")

    def packets(self, **options: Any) -> Iterator[Packet]:
        options = {"max_wait": 4.0, "give_up_after": None, "wait_for_source": False} | options
        return keep_connected(self.stream, Timeline(self.stream, 0.5), self.connect, **options)


def test_each_connection_is_an_epoch_and_pauses_double() -> None:
    source = Source(2, 0, 0, 0, 0, 1, 3)
    packets = list(source.packets())
    assert [p.epoch for p in packets] == [0, 0, 1, 2, 2, 2]
    assert [p.seq for p in packets] == list(range(6))
    pauses = np.diff(source.attempts)
    least = np.array([0.5, 1, 2, 4, 4, 0.5])
    assert np.all((least <= pauses) & (pauses <= 1.2 * least + 1e-3))  # not all cameras at once
    assert source.statuses == ["connecting", "reconnecting"]  # the engine says when frames come
    assert source.stream.status.reason == "rtsp://***@cam/: lost"


def test_the_first_connection_must_work() -> None:
    with pytest.raises(SourceError, match="lost"):
        list(Source(0, 5).packets())


def test_a_camera_that_is_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    list(Source(1, 0, 2).packets())
    assert "rtsp://***@cam/ is back after" in caplog.messages[-1]


@pytest.mark.parametrize(("failure", "least", "most"), [
    (AttributeError("secret"), 0.5, 0.6),  # whatever a camera sends, it is the camera that failed
    (AccessRefused("wrong password"), 30.0, 36.0),  # some lock out who tries too often
])  # fmt: skip
def test_failures_of_a_connection(
    failure: Exception, least: float, most: float, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(1)
    good = source.connect

    def connect() -> Iterator[Picture]:
        if not source.attempts:
            source.attempts.append(0)
            yield Picture(IMAGE, 0, 1)
            raise failure
        yield from good()

    source.connect = connect  # type: ignore[method-assign]
    assert [p.epoch for p in source.packets()] == [0, 1]
    assert least <= source.attempts[1] <= most
    assert "secret" not in caplog.text


def test_unless_the_source_may_come_later() -> None:
    packets = list(Source(0, 0, 2).packets(wait_for_source=True))
    assert [p.epoch for p in packets] == [0, 0]


def test_giving_up() -> None:
    source, seen = Source(1, *[0] * 99), []
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@cam/: lost; gave up [3-9] s after the last frame"):
        seen += source.packets(give_up_after=10.0)
    assert source.attempts[-1] < 10


def test_stop_ends_the_pause() -> None:
    source = Source(1, 0, 1)
    packets = source.packets()
    next(packets)
    source.stream.board.watch(lambda _, status: status and status.state == "reconnecting" and source.stream.stop())
    assert list(packets) == []
    assert len(source.attempts) == 1
