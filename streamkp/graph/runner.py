"""What a stage's threads run between its inbox and its outputs, or the thread of the stage before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, cast

from streamkp.errors import StreamkpError
from streamkp.graph.channel import Channel, Closed, End
from streamkp.graph.clock import Clock
from streamkp.graph.edges import Outputs
from streamkp.graph.feedback import Feedback
from streamkp.graph.gate import Gate
from streamkp.graph.stage import BatchStage, Begun, MapStage, PerStream, Sink, Stage, StageOptions, StreamContext
from streamkp.graph.statistics import Meter
from streamkp.graph.tracing import Tracer
from streamkp.packet import Packet

_NOTHING = Begun(tuple)
LOG_EVERY = 60_000_000_000  # nanoseconds between two log lines about the same kind of error


class Host(Protocol):
    """What the engine does for its runners."""

    clock: Clock
    profile: bool
    gate: Gate | None
    tracer: Tracer | None

    def delivering(self, *, files: bool) -> int:
        """How many streams deliver now, with or without files; batches wait for no more than that."""

    def is_live(self, name: str) -> bool:
        """Whether a stream drops frames rather than wait."""

    def report(self, error: StreamkpError) -> None:
        """Keep an error that decides the run's outcome."""

    def sink_failed(self, name: str, error: StreamkpError) -> None:
        """A sink is out of use."""

    def stream_over(self, stream: StreamContext, error: StreamkpError | None) -> None:
        """A source has delivered its last packet."""

    def stream_left(self, stream: str) -> None:
        """A stage has seen the end of a stream."""


class CpuAccount:
    """Thread CPU time spent in total and inside the stages' own code, for `streamkp bench`; filled if profiling."""

    def __init__(self) -> None:
        self.total = 0
        self.stage = 0


class ErrorLog:
    """Says each kind of error once a minute, and how many it kept quiet about."""

    def __init__(self, stage: Stage, clock: Clock) -> None:
        self._stage = stage
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[type[Exception], tuple[int, int]] = {}

    def add(self, packet: Packet, error: Exception, what: str = "dropped frame") -> None:
        """Count an error; log it unless one of its kind was logged within the last minute."""
        now, kind = self._clock.monotonic(), type(error)
        with self._lock:
            last, quiet = self._seen.get(kind, (None, 0))
            if last is not None and now - last < LOG_EVERY:
                self._seen[kind] = (last, quiet + 1)
                return
            self._seen[kind] = (now, 0)
        more = f" ({quiet} more like it since the last report)" if quiet else ""
        log = self._stage.context.log
        log.error(
            "stage %s %s %d of stream %s: %s: %s%s",
            self._stage.context.name, what, packet.seq, packet.stream, kind.__name__, error, more,
            exc_info=not isinstance(error, StreamkpError),
            extra={"stream": packet.stream, "seq": packet.seq, "epoch": packet.epoch},
        )  # fmt: skip


@dataclass(slots=True, eq=False)
class _Batch:
    """Packets that a batch stage has begun to work on, and ends of streams that came between them."""

    entries: list[tuple[str, Packet | End]]
    packets: list[Packet]  # those of them that were admitted, and have not failed
    began: int  # monotonic ns
    begun: Begun = _NOTHING
    out: Sequence[Packet] = ()
    cpu: int = 0

    @property
    def done(self) -> bool:
        return not self.packets or self.begun.done()


class StageRunner:
    """Runs one stage (not a source) in one thread, or in several if it is stateless.

    Without an inbox it has no thread: the one of the stage before it calls `take`, `end` and `finish`.
    """

    def __init__(
        self,
        stage: Stage,
        inbox: Channel[Packet] | None,
        outputs: Outputs,
        host: Host,
        *,
        workers: int = 1,
        batch_size: int = 1,
        batch_wait: float = 0.0,
        mix_files: bool = False,
        asked_on_the_way: Sequence[Feedback] = (),
    ) -> None:
        """`asked_on_the_way` are the feedback edges that a packet lost here would leave waiting."""
        self.name = stage.context.name
        self.stage = stage
        self.inbox = inbox
        self.outputs = outputs
        self.meters: list[dict[str, Meter]] = [{} for _ in range(workers)]
        self.cpu = CpuAccount()
        self.new_options: StageOptions | None = None  # set by the engine; taken before the next packet
        self.working: dict[int, tuple[int, Packet]] = {}  # by thread or batch: since when (monotonic ns), and on what
        self._host = host
        self._clock = host.clock
        self._batch = (batch_size, batch_wait)
        self._mix_files = mix_files
        self._on_the_way = tuple(asked_on_the_way)
        self._errors = ErrorLog(stage, host.clock)
        self._broken = False
        self._is_sink = isinstance(stage, Sink)
        self._epochs: dict[str, int] = {}
        self._tracks: dict[str, frozenset[int]] = {}
        self._tells_tracks = workers == 1 and type(stage).track_ended is not Stage.track_ended
        self._take = threading.Lock()
        self._turn = threading.Condition()
        self._taken = self._sent = 0
        self._running = workers
        stage.context.on_failed = self._failed_in_part
        stage.context.on_delivered = self._delivered
        stage.context.on_undelivered = self._undelivered

    def run(self, worker: int = 0) -> None:
        """The thread: until the inbox is closed and empty, or the engine aborts; then close the stage."""
        try:
            assert self.inbox is not None, "it runs in the thread of the stage before it"
            if isinstance(self.stage, BatchStage) and self.stage.overlaps:
                self._run_overlapping(self.stage, self.inbox)
            elif isinstance(self.stage, BatchStage):
                self._run_batches(self.stage, self.inbox)
            elif len(self.meters) > 1:
                self._run_shared(worker, self.inbox)
            else:
                self._run_single(self.inbox)
        except Closed:
            pass
        finally:
            with self._turn:
                self.cpu.total += time.thread_time_ns()
                self._running -= 1
                last = not self._running
                self._turn.notify_all()
            if last:
                self.finish()

    def take(self, packet: Packet) -> None:
        """Work on one packet and send it on."""
        if isinstance(self.stage, BatchStage):
            batch = self._begin(self.stage, [(packet.stream, packet)], crowded=False)
            self._finish(batch)
            self._deliver(batch)
            return
        self._enter(packet)
        out = self._process(packet, self.meters[0])
        self._leave(packet, lost=out is None)
        if out is not None:
            self.outputs.send(out)

    def finish(self) -> None:
        """Nothing more will come: close the stage, and tell those after it."""
        try:
            self.stage.close()
        except StreamkpError as error:
            self._host.report(error)
        except Exception as error:
            self._host.report(StreamkpError(f"stage {self.name} failed while closing: {error!r}"))
        self.outputs.close()

    def _run_single(self, inbox: Channel[Packet]) -> None:
        while True:
            stream, item = inbox.get()
            if isinstance(item, End):
                self.end(stream)
            else:
                self.take(item)

    def _run_shared(self, worker: int, inbox: Channel[Packet]) -> None:
        """Several workers take packets in turn and send the results in the same turn, so that order is kept."""
        meters = self.meters[worker]
        while True:
            with self._take:
                stream, item = inbox.get()
                ticket = self._taken
                self._taken += 1
                if not isinstance(item, End):
                    self._enter(item)
            out = None
            if not isinstance(item, End):
                out = self._process(item, meters)
                self._leave(item, lost=out is None)
            with self._turn:
                self._turn.wait_for(lambda mine=ticket: self._sent == mine)  # type: ignore[misc]
            try:
                if isinstance(item, End):
                    self.end(stream)
                elif out is not None:
                    self.outputs.send(out)
            finally:
                with self._turn:
                    self._sent += 1
                    self._turn.notify_all()

    def _run_batches(self, stage: BatchStage, inbox: Channel[Packet]) -> None:
        """One batch after the other."""
        size, wait = self._batch
        while True:
            entries = inbox.get_batch(size, wait, self._delivering, self._alone)
            batch = self._begin(stage, entries, crowded=False)
            self._finish(batch)
            self._deliver(batch)

    def _run_overlapping(self, stage: BatchStage, inbox: Channel[Packet]) -> None:
        """A batch is begun, of other streams, before those before it are done.

        What is done is sent on only when the next frames have been begun: later stages may share this thread, and other
        threads are woken, while those are worked on.
        """
        size, wait = self._batch
        if stage.at_once is not None:  # the next packet is begun beside this one: nothing is gained by a wait
            size, wait = min(size, stage.at_once), 0.0
        under_way: list[_Batch] = []
        done: list[_Batch] = []
        stage.context.on_done = inbox.wake

        def some_done() -> bool:
            return bool(done) or any(batch.done for batch in under_way)

        while True:
            busy = [stream for batch in under_way for stream, _ in batch.entries]
            busy += [stream for batch in done for stream, item in batch.entries if isinstance(item, End)]
            until = some_done if under_way or done else None
            entries = inbox.get_batch(size, wait, self._delivering, self._alone, without=busy, until=until)
            begun = [self._begin(stage, entries, crowded=bool(under_way))] if entries else []
            for batch in done:
                self._deliver(batch)
            done = [batch for batch in under_way if batch.done]
            under_way[:] = [batch for batch in under_way if batch not in done] + begun
            for batch in done:
                self._finish(batch)

    def _begin(self, stage: BatchStage, entries: list[tuple[str, Packet | End]], *, crowded: bool) -> _Batch:
        meters = self.meters[0]
        taken = [item for _, item in entries if not isinstance(item, End)]
        for packet in taken:
            self._enter(packet)
        batch = _Batch(entries, [packet for packet in taken if self._admit(packet, meters)], self._clock.monotonic())
        if batch.packets:
            self.working[id(batch)] = batch.began, batch.packets[0]
            with self._at_work(batch):
                batch.begun = stage.begin(batch.packets, crowded=crowded)
        return batch

    def _finish(self, batch: _Batch) -> None:
        """Take the results of a batch; after that the next one of the same streams may begin."""
        if batch.packets:
            with self._at_work(batch):
                batch.out = batch.begun.result()
        self.working.pop(id(batch), None)
        if batch.packets:
            self._count(batch.packets, batch.began, batch.cpu, self.meters[0])
            for packet in batch.packets:
                self.meters[0][packet.stream].nothing += all(packet is not passed for passed in batch.out)

    def _deliver(self, batch: _Batch) -> None:
        """Send a finished batch on, and the ends of streams that came with it."""
        out = batch.out
        for _, item in batch.entries:
            if not isinstance(item, End):
                self._leave(item, lost=all(item is not passed for passed in out))
        for packet in out:
            self.outputs.send(packet)
        for stream, item in batch.entries:
            if isinstance(item, End):
                self.end(stream)

    @contextmanager
    def _at_work(self, batch: _Batch) -> Iterator[None]:
        """Around one half of the work on a batch; an error drops its packets."""
        cpu = time.thread_time_ns() if self._host.profile else 0
        try:
            yield
        except Exception as error:
            self._failed(batch.packets, error, self.meters[0], batch.began)
            batch.packets = []
        batch.cpu += time.thread_time_ns() - cpu if self._host.profile else 0

    def _delivering(self) -> int:
        return self._host.delivering(files=self._mixes)

    def _alone(self, stream: str) -> bool:
        """Networks give other last digits in batches of another size: a file's results must not depend on which
        other streams happen to have a frame ready."""
        return not self._mixes and not self._host.is_live(stream)

    @property
    def _mixes(self) -> bool:
        return self._mix_files or (isinstance(self.stage, BatchStage) and self.stage.batch_independent)

    def _enter(self, packet: Packet) -> None:
        if self.stage.context.feedback_in is not None:
            self.stage.context.feedback_in.entered(packet)

    def _leave(self, packet: Packet, *, lost: bool) -> None:
        """Let those go on who wait, at the other end of a feedback edge, for what becomes of this frame."""
        if self.stage.context.feedback_out is not None:
            self.stage.context.feedback_out.done(packet)
        if lost:
            for feedback in self._on_the_way:
                feedback.done(packet)

    def _process(self, packet: Packet, meters: dict[str, Meter]) -> Packet | None:
        if not self._admit(packet, meters):
            return None
        meter, out = meters[packet.stream], None
        started, cpu = self._clock.monotonic(), time.thread_time_ns() if self._host.profile else 0
        thread = threading.get_ident()
        self.working[thread] = started, packet
        try:
            out = cast("MapStage | Sink", self.stage).process(packet)
        except StreamkpError as error:
            self._failed([packet], error, meters, started)
            if isinstance(self.stage, Sink):
                self._broken = True
                self._host.sink_failed(self.name, error)
            return None
        except Exception as error:
            self._failed([packet], error, meters, started)
            return None
        finally:
            del self.working[thread]
        used = time.thread_time_ns() - cpu if self._host.profile else 0
        self._count([packet], started, used, meters)
        if out is None and not isinstance(self.stage, Sink):
            meter.nothing += 1
        if isinstance(self.stage, Sink) and not self.stage.delivers_later:
            meter.latency.add((self._clock.now() - packet.since) / 1e9)
        return out

    def _take_options(self) -> None:
        with self._turn:
            options, self.new_options = self.new_options, None
            before = self.stage.options
            if options is None:
                return
            self.stage.options = options
            try:
                self.stage.options_changed()
            except Exception as error:
                self.stage.options = before
                text = f"stage {self.name} goes on with its old options: {type(error).__name__}: {error}"
                self.stage.context.log.error("%s", text, exc_info=not isinstance(error, StreamkpError))

    def _admit(self, packet: Packet, meters: dict[str, Meter]) -> bool:
        """Refuse what is too old or cannot be used; forget what a new epoch makes void."""
        if self.new_options is not None:
            self._take_options()
        meter = meters.get(packet.stream)
        if meter is None:
            meter = meters[packet.stream] = Meter()
        if self._broken:
            meter.refused += 1
            return False
        if self.stage.expensive and packet.expires_at is not None and self._clock.monotonic() > packet.expires_at:
            meter.stale += 1
            return False
        if self._is_sink and self._host.gate is not None and not self._host.gate.lets_out(packet.stream):
            meter.refused += 1
            return False
        if self._keeps_state:
            known = self._epochs.get(packet.stream)
            if known != packet.epoch:
                if known is not None:
                    self._tell_ended(packet.stream, self._tracks.get(packet.stream, frozenset()), packet, meter)
                    self._forget(packet.stream)
                self._epochs[packet.stream] = packet.epoch
        return True

    def _count(self, packets: Sequence[Packet], started: int, cpu: int, meters: dict[str, Meter]) -> None:
        now = self._clock.monotonic()
        self.cpu.stage += cpu
        if self._host.tracer is not None:
            self._trace(packets, started)
        for packet in packets:
            meter = meters[packet.stream]
            meter.done += 1
            meter.busy.add((now - started) / 1e9 / len(packets))
            meter.times.append(now)
            if self._keeps_state:
                self._end_tracks(packet, meter)

    def _trace(self, packets: Sequence[Packet], started: int, error: Exception | None = None) -> None:
        tracer = self._host.tracer
        ended = self._clock.now()
        began = ended - (self._clock.monotonic() - started)
        for packet in packets:
            if tracer is not None and packet.trace is not None:
                tracer.passed(self.name, packet, began, ended, error, len(packets))

    def _failed(self, packets: Sequence[Packet], error: Exception, meters: dict[str, Meter], started: int) -> None:
        if self._host.tracer is not None:
            self._trace(packets, started, error)
        for packet in packets:
            meters[packet.stream].errors += 1
        self._errors.add(packets[0], error)

    def _failed_in_part(self, packet: Packet, error: Exception) -> None:
        meters = self.meters[0]
        if (meter := meters.get(packet.stream)) is None:
            meter = meters[packet.stream] = Meter()
        meter.failed_in_part += 1
        self._errors.add(packet, error, "has no result for frame")

    def _delivered(self, stream: str, captured_at: int) -> None:
        # In the sink's own thread, which for such a sink is the only one that writes the latency.
        if (meter := self.meters[0].get(stream)) is not None:
            meter.latency.add((self._clock.now() - captured_at) / 1e9)

    def _undelivered(self, stream: str, count: int) -> None:
        with self._turn:  # from any thread
            if (meter := self.meters[0].get(stream)) is not None:
                meter.undelivered += count

    @property
    def _keeps_state(self) -> bool:
        return self._tells_tracks or bool(self.stage.context.states)

    def _end_tracks(self, packet: Packet, meter: Meter) -> None:
        known = self._tracks.get(packet.stream)
        if known is packet.tracks:
            return
        self._tracks[packet.stream] = packet.tracks
        ended = (known or frozenset()) - packet.tracks
        self._tell_ended(packet.stream, ended, packet, meter)
        for track in ended:
            for state in self.stage.context.states:
                state.pop((packet.stream, track), None)  # type: ignore[call-overload]

    def _tell_ended(self, stream: str, tracks: frozenset[int], packet: Packet, meter: Meter) -> None:
        if not self._tells_tracks:
            return
        for track in sorted(tracks):
            try:
                self.stage.track_ended(stream, track)
            except Exception as error:
                meter.failed_in_part += 1
                self._errors.add(packet, error, f"failed at the end of track {track}, at frame")
                if isinstance(self.stage, Sink) and isinstance(error, StreamkpError):
                    self._broken = True
                    self._host.sink_failed(self.name, error)
                    return

    def _forget(self, stream: str) -> None:
        self._tracks.pop(stream, None)
        for state in self.stage.context.states:
            if isinstance(state, PerStream):
                state.pop(stream, None)
            else:
                for key in [key for key in state if key[0] == stream]:
                    del state[key]

    def end(self, stream: str) -> None:
        """A stream has ended: forget it, and tell the stages after this one."""
        for hook in (self._end_all_tracks, self._drain, self.stage.stream_ended):
            try:
                hook(stream)
            except Closed:  # the run was stopped
                raise
            except StreamkpError as error:
                self._host.report(error)
            except Exception as error:
                self._host.report(StreamkpError(f"stage {self.name} failed at the end of stream {stream}: {error!r}"))
        self._forget(stream)
        self._epochs.pop(stream, None)
        if self.stage.context.feedback_out is not None:
            self.stage.context.feedback_out.forget(stream)
        self.outputs.end(stream)
        self._host.stream_left(stream)

    def _end_all_tracks(self, stream: str) -> None:
        if self._tells_tracks and not self._broken:
            for track in sorted(self._tracks.get(stream, ())):
                self.stage.track_ended(stream, track)

    def _drain(self, stream: str) -> None:
        if isinstance(self.stage, MapStage):
            for packet in self.stage.drain(stream):
                self.outputs.send(packet)

    def forget_figures(self, stream: str) -> None:
        """Drop the meters of a stream that was removed."""
        for meters in self.meters:
            meters.pop(stream, None)
        if self.inbox is not None:
            self.inbox.forget(stream)
