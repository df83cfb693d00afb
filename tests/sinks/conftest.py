"""Sinks on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamkp.graph.stage import Sink, StageContext


@pytest.fixture
def open_sink() -> Any:
    """Opens a sink on its own, and closes it at the end of the test unless the test did."""
    opened: list[Sink] = []

    def start(kind: Callable[..., Sink], name: str = "publish", **options: Any) -> Any:
        sink = kind(kind.Options(**options), StageContext(name))  # type: ignore[attr-defined]
        sink.open()
        opened.append(sink)
        close = sink.close

        def close_once() -> None:
            if sink in opened:
                opened.remove(sink)
                close()

        sink.close = close_once  # type: ignore[method-assign]
        return sink

    yield start
    for sink in list(opened):
        sink.close()
