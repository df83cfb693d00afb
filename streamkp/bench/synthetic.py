"""A source for measurements and tests of many processes: frames without pictures, at a fixed rate."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pydantic import Field

from streamkp.graph.stage import Source, StageOptions, StreamContext
from streamkp.packet import Packet


class Synthetic(Source):
    """Each frame has an event that tells which process made it."""

    class Options(StageOptions):
        """How fast."""

        fps: float = Field(10.0, gt=0, description="Frames a second of each stream.")

    options: Options

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """Every address is a camera."""
        return True

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        step = int(1e9 / self.options.fps)
        begin, seq = stream.clock.monotonic(), 0
        while not stream.wait(max(0, begin + seq * step - stream.clock.monotonic()) / 1e9):
            yield Packet(
                stream=stream.stream,
                epoch=0,
                seq=seq,
                pts=seq * step,
                captured_at=stream.clock.now(),
                image=None,
                width=64,
                height=48,
                events=[{"type": "made", "by": os.getpid()}],
            )
            seq += 1
