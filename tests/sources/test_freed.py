"""What a lost connection held is freed at once, not when the garbage collector comes round to it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np

from streamkp.errors import SourceError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StreamContext
from streamkp.sources.pump import Pump
from streamkp.sources.reconnect import keep_connected
from streamkp.sources.timeline import Picture, Timeline


class Decoder:
    """Stands for what a connection holds."""


def test_the_decoder_of_a_lost_connection_is_freed() -> None:
    stream = StreamContext("cam", "rtsp://x", "x", Clock(), live=True)
    pump, held = Pump(stream), list[weakref.ref[Decoder]]()

    def connection() -> Iterator[Picture]:
        decoder = Decoder()
        held.append(weakref.ref(decoder))
        yield Picture(np.zeros((2, 2, 3), np.uint8), 0, 1)
        try:
            raise OSError("broken")
        except OSError:
            raise SourceError("lost") from None

    packets = keep_connected(
        stream, Timeline(stream, 1.0), lambda: pump.pictures(connection, 10, 10),
        max_wait=0.5, give_up_after=None, wait_for_source=True,
    )  # fmt: skip
    gc.disable()
    try:
        for _ in range(3):
            next(packets)
        assert [decoder() is None for decoder in held[:2]] == [True, True]
    finally:
        gc.enable()
        stream.stop()
        for _ in packets:
            pass
