"""The loop of a stream's own thread: from the source into the graph."""

from __future__ import annotations

import time
from collections.abc import Generator

from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.channel import Closed
from streamkp.graph.edges import Outputs
from streamkp.graph.runner import CpuAccount, Host
from streamkp.graph.stage import Source, StreamContext
from streamkp.graph.statistics import Meter


class SourceRunner:
    """Runs one stream of a source, whose epochs are counted from `first_epoch`."""

    def __init__(
        self, source: Source, stream: StreamContext, outputs: Outputs, host: Host, first_epoch: int = 0
    ) -> None:
        self.stream = stream
        self.epoch = first_epoch
        self.meter = Meter()
        self.cpu = CpuAccount()
        self.position = 0  # nanoseconds of the source's clock since its first frame
        self._source = source
        self._outputs = outputs
        self._host = host

    def run(self) -> None:
        """The thread: until the source ends, the stream is stopped, or the engine aborts."""
        error: StreamkpError | None = None
        try:
            self._deliver()
        except Closed:
            pass
        except StreamkpError as raised:
            error = raised
        except Exception as raised:
            self.stream.log.debug("source failed", exc_info=True)
            error = SourceError(f"stream {self.stream.stream} ({self.stream.label}): {raised!r}")
        finally:
            self.cpu.total = time.thread_time_ns()
            self._host.stream_over(self.stream, error)

    def _deliver(self) -> None:
        clock, meter, first, begin, epoch = self._host.clock, self.meter, 0, self.epoch, -1
        frames = self._source.frames(self.stream)
        try:
            while not self.stream.stopping:
                started, cpu = clock.monotonic(), time.thread_time_ns() if self._host.profile else 0
                packet = next(frames, None)
                if packet is None:
                    return
                now = clock.monotonic()
                if self._host.profile:
                    self.cpu.stage += time.thread_time_ns() - cpu
                meter.done += 1
                meter.busy.add((now - started) / 1e9)
                meter.times.append(now)
                if self.stream.status != "live":
                    self.stream.set_status("live")
                packet.epoch += begin
                if packet.epoch != epoch:
                    first, epoch = packet.pts, packet.epoch
                    self.epoch = epoch
                    if self._host.gate is not None and not self._host.gate.opens(self.stream.stream, epoch):
                        return
                self.position = packet.pts - first
                self._outputs.send(packet)
        finally:
            if isinstance(frames, Generator):
                frames.close()
