"""Sinks on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamkp.graph.stage import Sink, StageContext
from streamkp.packet import Packet


@pytest.fixture
def open_sink() -> Any:
    """Opens a sink on its own, tells it where streams stand, and closes it at the end of the test unless that did."""
    opened: list[Sink] = []

    def start(kind: Callable[..., Sink], name: str = "publish", **options: Any) -> Any:
        sink = kind(kind.Options(**options), StageContext(name))  # type: ignore[attr-defined]
        sink.open()
        opened.append(sink)
        process, stream_ended, close = sink.process, sink.stream_ended, sink.close
        board = sink.context.streams

        def deliver(packet: Packet) -> None:
            status = board.get(packet.stream)
            if status is not None and status.final:
                board.begin(packet.stream)
            if status is None or status.final:
                board.set(packet.stream, "live")
            process(packet)

        def end(stream: str) -> None:
            board.set(stream, "ended")
            stream_ended(stream)

        def close_once() -> None:
            if sink in opened:
                opened.remove(sink)
                close()

        sink.process, sink.stream_ended = deliver, end  # type: ignore[method-assign]
        sink.close = close_once  # type: ignore[method-assign]
        return sink

    yield start
    for sink in list(opened):
        sink.close()
