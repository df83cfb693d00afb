"""The loop of a stream's own thread: from the source into the graph."""

from __future__ import annotations

import time
from collections.abc import Generator
from itertools import pairwise

from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.channel import Closed
from streamkp.graph.edges import Outputs
from streamkp.graph.runner import CpuAccount, Host
from streamkp.graph.stage import Source, StreamContext
from streamkp.graph.statistics import Meter, recent
from streamkp.graph.status import State

STALLED = 1.5  # seconds without a frame after which a live source counts as stalled, unless it says otherwise
STALLED_FILE = 10.0  # of a file: a network drive that is away
SLOW = 4  # times the usual distance of its frames that a slow camera may take
_LIVE: tuple[State, ...] = ("live",)
USUAL_OVER = 16  # frames over which that is measured


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
        self._asked: int | None = None  # monotonic ns since when the source has been asked for a frame
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
                self._asked = started
                packet = next(frames, None)
                self._asked = None
                if packet is None:
                    return
                now = clock.monotonic()
                if self._host.profile:
                    self.cpu.stage += time.thread_time_ns() - cpu
                meter.done += 1
                meter.busy.add((now - started) / 1e9)
                meter.times.append(now)
                packet.epoch += begin
                status = self.stream.status
                if status.state != "live" or status.epoch != packet.epoch:
                    self.stream.set_status("live", epoch=packet.epoch)
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

    def look(self) -> None:
        """Notice that a stream that was live brings no more frames. Called now and then, by another thread."""
        asked, now = self._asked, self._host.clock.monotonic()
        if asked is None or self.stream.waiting:
            return
        silent = (now - asked) / 1e9
        if silent > self._patience():
            self.stream.board.set(self.stream.stream, "stalled", f"no frame for {silent:.1f} s", only_from=_LIVE)

    def _patience(self) -> float:
        if self.stream.stall_after is not None:
            return self.stream.stall_after
        if not self.stream.live:
            return STALLED_FILE
        times = recent(self.meter.times)[-USUAL_OVER:]
        gaps = sorted(b - a for a, b in pairwise(times))
        return max(STALLED, SLOW * gaps[len(gaps) // 2] / 1e9 if gaps else 0.0)
