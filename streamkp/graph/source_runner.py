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
    """Runs one stream of a source.

    `frames` of the source is called once for each connection that was asked for: again after a pause or a restart.
    Each call numbers its frames and epochs from nought; here they go on from the call before, so that the stages see
    no more than a camera that reconnects.
    """

    def __init__(
        self,
        source: Source,
        stream: StreamContext,
        outputs: Outputs,
        host: Host,
        *,
        holds: bool,
        first_epoch: int = 0,
        after: SourceRunner | None = None,
    ) -> None:
        """`holds`: a pause keeps the place in a file, instead of closing the connection; `first_epoch`: from where
        epochs are counted; `after`: the runner of the same stream before it ended."""
        self.stream = stream
        self.epoch = first_epoch  # of the latest frame
        self.meter = Meter()
        self.cpu = CpuAccount()
        self.position = 0  # nanoseconds of the source's clock since its first frame
        self.holds = holds
        self._asked: int | None = None  # monotonic ns since when the source has been asked for a frame
        self._source = source
        self._outputs = outputs
        self._host = host
        self._seq, self._begin = 0, first_epoch  # of the next frame, and of the next call of `frames`
        if after is not None:
            self._seq, self._begin, self.meter = after._seq, after._begin, after.meter

    def run(self) -> None:
        """The thread: until the source ends, the stream is stopped, or the engine aborts."""
        error: StreamkpError | None = None
        try:
            while self._deliver():
                self.stream.set_status("connecting")
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

    def _deliver(self) -> bool:
        """The frames of one call; True if the source is to be called again."""
        clock, meter, stream, first, epoch = self._host.clock, self.meter, self.stream, 0, -1
        stream.begin()
        first_seq, begin = self._seq, self._begin
        frames = self._source.frames(stream)
        try:
            while not stream.stopping:
                if stream.paused and self._rest():
                    break
                started, cpu = clock.monotonic(), time.thread_time_ns() if self._host.profile else 0
                self._asked = started
                packet = next(frames, None)
                self._asked = None
                if packet is None:
                    if stream.stopping:
                        break
                    return False
                now = clock.monotonic()
                if self._host.profile:
                    self.cpu.stage += time.thread_time_ns() - cpu
                packet.seq += first_seq
                packet.epoch += begin
                self._seq, self._begin = packet.seq + 1, packet.epoch + 1
                meter.done += 1
                meter.busy.add((now - started) / 1e9)
                meter.times.append(now)
                status = stream.status
                if status.state == "stalled":
                    stream.log.warning("%s: frames come again, after %.1f s", stream.label, (now - started) / 1e9)
                if status.state != "live" or status.epoch != packet.epoch:
                    stream.set_status("live", epoch=packet.epoch)
                if packet.epoch != epoch:
                    first, epoch = packet.pts, packet.epoch
                    self.epoch = epoch
                    if self._host.gate is not None and not self._host.gate.opens(stream.stream, epoch):
                        return False
                self.position = packet.pts - first
                if self._host.tracer is not None:
                    self._host.tracer.captured(self._source.context.name, packet, clock.now())
                self._outputs.send(packet)
        except StreamkpError:
            if stream.over or not stream.stopping:  # a connection that was to be left anyway has failed
                raise
        finally:
            if isinstance(frames, Generator):
                frames.close()
        if stream.paused and not stream.over:
            self._rest()
        return not stream.over

    def _rest(self) -> bool:
        self.stream.set_status("paused")
        return self.stream.rest()

    def look(self) -> None:
        """Notice that a stream that was live brings no more frames. Called now and then, by another thread."""
        asked, now = self._asked, self._host.clock.monotonic()
        if asked is None or self.stream.waiting:
            return
        silent = (now - asked) / 1e9
        if silent <= self._patience():
            return
        why = f"no frame for {silent:.1f} s"
        if self.stream.board.set(self.stream.stream, "stalled", why, only_from=_LIVE):
            self.stream.log.warning("%s: %s: the stream has stalled", self.stream.label, why)

    def _patience(self) -> float:
        if self.stream.stall_after is not None:
            return self.stream.stall_after
        if not self.stream.live:
            return STALLED_FILE
        times = recent(self.meter.times)[-USUAL_OVER:]
        gaps = sorted(b - a for a, b in pairwise(times))
        return max(STALLED, SLOW * gaps[len(gaps) // 2] / 1e9 if gaps else 0.0)
