"""Runs a graph in threads: one for each stage, one for each stream, and bounded channels between them.

    with Engine(spec) as engine:
        engine.wait()

Packets go one way, from the source's streams through the stages to the sinks. The end of a stream follows its last
packet through the graph; when the last stream has ended the channels close one after the other and every thread ends.
`drain` makes that happen early; `stop` throws away what is on its way.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from streamkp.errors import SourceError, StreamkpError, UsageError
from streamkp.graph import outputs, report
from streamkp.graph.assembly import Assembly
from streamkp.graph.channel import Channel
from streamkp.graph.clock import Clock
from streamkp.graph.edges import Outputs
from streamkp.graph.gate import Gate
from streamkp.graph.join import JoinRunner
from streamkp.graph.plan import Plan
from streamkp.graph.runner import StageRunner
from streamkp.graph.source_runner import SourceRunner
from streamkp.graph.spec import MAX_STREAMS, NAME_RULE, GraphSpec, StreamSpec, is_name
from streamkp.graph.stage import Source, Stage, StageOptions, StreamContext
from streamkp.graph.statistics import StageFigures, prometheus_text
from streamkp.graph.status import Status, StatusBoard
from streamkp.graph.tracing import Tracer
from streamkp.graph.validation import changed_options
from streamkp.graph.watchdog import Watchdog
from streamkp.packet import Packet
from streamkp.uris import mask_address

State = Literal["new", "running", "draining", "stopped"]
MAX_LABEL = 300  # characters of an address that people are shown
log = logging.getLogger("streamkp.engine")


class ThreadEngine:
    """One run of a graph in threads. Every public method may be called from any thread; `start` once.

    Args:
        graph: the validated graph with its streams, or its plan.
        bound: objects of the running program by the name of the stage that gets them as `context.bound`, such as the
            channel to a caller: options are data and hold none.
        clock: real time, unless a test drives it.
        profile: account thread CPU time inside and outside the stages' code (`streamkp bench`).
        keep_alive: run on when the last stream has ended, since more may be added.
        tracer: follows sampled frames; by default as the graph's `tracing:` says.
        gate: asked before a stream's results go out, where other engines may have the same stream at other times.
    """

    def __init__(
        self,
        graph: GraphSpec | Plan,
        *,
        bound: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        profile: bool = False,
        keep_alive: bool = False,
        gate: Gate | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.plan = graph if isinstance(graph, Plan) else Plan.of(graph)
        self.spec = self.plan.graph
        self.clock = clock or Clock()
        self.profile = profile
        self.streams = StatusBoard(self.clock)
        self.streams.watch(self._count_live)
        self.gate = gate
        self.tracer = Tracer(self.spec.tracing) if tracer is None and self.spec.tracing is not None else tracer
        self.errors: list[StreamkpError] = []
        self.state: State = "new"
        self._bound = dict(bound or {})
        self._keep_alive = keep_alive
        self._lock = threading.Lock()
        self._changing = threading.Lock()  # one change of options after the other
        self._options = {stage.name: stage.options for stage in self.spec.stages}
        self._threads: list[threading.Thread] = []
        self._feeds: dict[str, SourceRunner] = {}
        self._specs: dict[str, StreamSpec] = {}  # of the streams in `_feeds`
        self._active: set[str] = set()  # streams whose thread has not ended
        self._leaving: dict[str, int] = {}  # ended streams -> stages that have yet to see their end
        self._stream_errors: dict[str, StreamkpError] = {}  # those of `errors` that a stream has failed with
        self._removed: set[str] = set()
        self._successors: dict[str, tuple[StreamSpec, int]] = {}  # started when the stream before has left
        self._delivering = self._delivering_live = 0
        self._runners: list[StageRunner] = []
        self._joins: list[JoinRunner] = []
        self._channels: list[Channel[Packet]] = []
        self._source: Source
        self._source_outputs = Outputs(())
        self._source_open = False
        self._failed_sinks: set[str] = set()
        self._watchdog: Watchdog | None = None
        self._started_at = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open every stage in order, then start all threads and streams.

        Raises:
            StreamkpError: a stage cannot be opened; those already open are closed again and no thread runs.
        """
        if self.state != "new":
            raise RuntimeError("an engine runs once; make a new one")
        opened: list[Stage] = []
        try:
            parts = Assembly(self.plan, self, self, self.streams, self._bound)
            self._source, self._source_outputs = parts.source, parts.source_outputs
            self._runners, self._joins, self._channels = parts.runners, parts.joins, parts.channels
            for stage in parts.stages:
                self._open(stage)
                opened.append(stage)
            for name, stream in self.spec.streams.items():
                self._prepare(name, stream)
        except BaseException:
            for stage in reversed(opened):
                self._close(stage)
            self.state = "stopped"
            raise
        with self._lock:
            self.state = "running"
            self._started_at = self.clock.monotonic()
            self._source_open = True
            self._active.update(self._feeds)
        for runner in self._runners:
            if runner.inbox is None:
                continue
            for worker in range(len(runner.meters)):
                self._spawn(f"{runner.name}", lambda r=runner, w=worker: r.run(w))
        for join in self._joins:
            self._spawn("join", join.run)
        self._watchdog = Watchdog(self._runners, self._threads, self.clock, lambda: list(self._feeds.values()))
        self._watchdog.start()
        for name, feed in list(self._feeds.items()):
            self._spawn(f"stream-{name}", feed.run)
        self._finish_if_idle()

    def drain(self) -> None:
        """End every stream after its current frame; what is on its way still comes out. Returns at once."""
        with self._lock:
            if self.state != "running":
                return
            self.state = "draining"
            self._successors.clear()
            feeds = list(self._feeds.values())
        for feed in feeds:
            feed.stream.stop()
        self._finish_if_idle()

    def stop(self) -> None:
        """End now: what is on its way is thrown away. Returns at once; `wait` for the threads."""
        with self._lock:
            if self.state == "stopped":
                return
            self.state = "stopped"
            self._successors.clear()
            feeds = list(self._feeds.values())
        for feed in feeds:
            feed.stream.stop()
        for channel in self._channels:
            channel.abort()
        self._finish_if_idle()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every thread has ended; False if that took longer than `timeout` seconds."""
        deadline = None if timeout is None else self.clock.monotonic() + int(timeout * 1e9)
        while True:
            with self._lock:
                waiting = [thread for thread in self._threads if thread.is_alive()]
            if not waiting:
                break
            for thread in waiting:
                left = None if deadline is None else max(0.0, (deadline - self.clock.monotonic()) / 1e9)
                thread.join(left)
                if thread.is_alive():
                    return False
        if self._watchdog is not None:
            self._watchdog.end()
        if self.tracer is not None:
            self.tracer.close()
        with self._lock:
            judge, self.state = self.state in ("running", "draining"), "stopped"
        if judge and not self.errors:
            sinks = [stage.name for stage in self.spec.stages if stage.cls.kind == "sink"]
            self.errors += report.outcome(self.figures(), self.spec.source.name, sinks)
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop() if error is not None else self.drain()
        self.wait()

    # -- streams ------------------------------------------------------------------------------------------------

    def add_stream(self, name: str, stream: StreamSpec, *, epoch: int = 0) -> None:
        """Start a further stream without touching the others; its epochs are counted from `epoch`.

        One that takes the name of a stream that was removed starts when that one has left the graph.

        Raises:
            UsageError: a stream of this name is running, there are too many, the graph is ending, the name cannot be
                one, or a stage writes to the file that the stream would read.
        """
        if not is_name(name):
            raise UsageError(f"{name!r} cannot be the name of a stream: {NAME_RULE}")
        for stage, what in outputs.clashes(self.spec.stages, {name: stream}):
            raise UsageError(f"stream {name} cannot be added: {stage.name}: {what}")
        with self._lock:
            if self.state != "running" or not self._source_open:
                raise UsageError(f"stream {name} cannot be added: the graph is not running")
            if len(self._active) + len(self._successors) >= MAX_STREAMS:
                raise UsageError(f"stream {name} cannot be added: {MAX_STREAMS} streams are running")
            going = name in self._active or name in self._leaving
            if going and (name not in self._removed or name in self._successors):
                raise UsageError(f"there is a stream named {name} already, or one that is still ending")
            if going:
                self._successors[name] = stream, epoch
                return
            feed = self._join(name, stream, epoch)
        self._spawn(f"stream-{name}", feed.run)

    def is_live(self, name: str) -> bool:
        """Whether a stream drops frames rather than wait."""
        feed = self._feeds.get(name)
        return feed is not None and feed.stream.live

    def remove_stream(self, name: str) -> None:
        """End one stream after its current frame without touching the others, and forget its figures.

        Raises:
            UsageError: there is no such stream.
        """
        with self._lock:
            if self._successors.pop(name, None) is not None:
                return
            feed = self._feed(name)
            self._removed.add(name)
            gone = name not in self._active and name not in self._leaving
        feed.stream.stop()
        if gone:
            self._forget(name)

    def replace_stream(self, name: str, stream: StreamSpec) -> None:
        """End one stream, and start another one of its name when it has left the graph.

        Raises:
            UsageError: as `add_stream` and `remove_stream`.
        """
        self.remove_stream(name)
        self.add_stream(name, stream)

    def pause_stream(self, name: str) -> None:
        """Let a stream rest: a connection is closed until `resume_stream`, a file stays where it is.

        Raises:
            UsageError: there is no such stream, or it has ended.
        """
        with self._lock:
            feed = self._running(name)
        feed.stream.pause(leave=not feed.holds)

    def resume_stream(self, name: str) -> None:
        """Let a stream that rests go on; its `seq` goes on, and a connection begins a new epoch.

        Raises:
            UsageError: there is no such stream, or it has ended.
        """
        with self._lock:
            feed = self._running(name)
        feed.stream.resume()

    def restart_stream(self, name: str) -> None:
        """Open a stream anew, from the beginning if it is a file; one that has ended or failed runs again.

        Its `seq` goes on, in a new epoch.

        Raises:
            UsageError: there is no such stream, it is still ending, or the graph is not running.
        """
        with self._lock:
            feed = self._feed(name)
            if name in self._active and not feed.stream.status.final:
                feed.stream.restart()
                return
            if name in self._active or name in self._leaving or self.state != "running" or not self._source_open:
                raise UsageError(f"stream {name} cannot be started again: it, or the graph, is still ending")
            feed = self._join(name, self._specs[name], after=feed)
        self._spawn(f"stream-{name}", feed.run)

    def relabel_stream(self, name: str, labels: Mapping[str, str]) -> None:
        """Give a stream other labels, without interrupting it.

        Raises:
            UsageError: there is no such stream.
        """
        with self._lock:
            feed = self._feed(name)
            self._specs[name] = self._specs[name].model_copy(update={"labels": dict(labels)})
            feed.stream.options = self._specs[name]

    def stream_specs(self) -> dict[str, StreamSpec]:
        """The streams that there are, without those that were removed and are still ending."""
        with self._lock:
            here = {name: spec for name, spec in self._specs.items() if name not in self._removed}
            return here | {name: spec for name, (spec, _) in self._successors.items()}

    def keep_alive(self) -> None:
        """From now on the run does not end with its last stream, since more may be added."""
        with self._lock:
            self._keep_alive = True

    # -- options ------------------------------------------------------------------------------------------------

    def stage_options(self) -> dict[str, StageOptions]:
        """The options of every stage as they are now."""
        with self._lock:
            return dict(self._options)

    def change_options(self, stage: str, changes: Mapping[str, Any]) -> StageOptions:
        """Give options of a stage other values while it runs; they hold from its next packet on.

        Returns the options as they are then.

        Raises:
            UsageError: there is no such stage, a value is not allowed, or an option cannot be changed while it runs.
        """
        spec = next((each for each in self.spec.stages if each.name == stage), None)
        if spec is None:
            raise UsageError(
                f"there is no stage named {stage}; there are {', '.join(s.name for s in self.spec.stages)}"
            )
        if self.state == "new":
            raise UsageError(f"stages.{stage} cannot be changed yet: the graph is still starting")
        with self._changing:
            options = changed_options(spec, self.stage_options()[stage], changes)
            with self._lock:
                self._options[stage] = options
            runner = next((runner for runner in self._runners if runner.name == stage), None)
            if runner is not None:
                runner.new_options = options
            else:  # the source: its streams have threads of their own, and read an option when they need it
                self._source.options = options
        return options

    def notices(self) -> list[str]:
        """What the stages have to say to the person who started the graph."""
        return [line for runner in self._runners if (line := runner.stage.notice())]

    def summaries(self) -> list[str]:
        """What the stages have to say at the end of the run."""
        return [line for runner in self._runners if (line := runner.stage.summary())]

    # -- figures ------------------------------------------------------------------------------------------------

    def figures(self) -> list[StageFigures]:
        """The figures of every stage and stream, in the order of the graph."""
        return report.figures(
            self.spec.source.name, dict(self._feeds), self._runners, self._joins, self.clock.monotonic()
        )

    def stats(self) -> dict[str, Any]:
        """The figures behind `/stats`."""
        stages: dict[str, dict[str, Any]] = {stage.name: {} for stage in self.spec.stages}
        for row in self.figures():
            stages[row.stage][row.stream] = row.as_json()
        return {
            "state": self.state,
            "uptime_s": round((self.clock.monotonic() - self._started_at) / 1e9, 3),
            "streams": report.streams(dict(self._feeds)),
            "stages": stages,
            "errors": [str(error) for error in self.errors],
        }

    def prometheus(self) -> bytes:
        """The figures behind `/metrics`."""
        feeds = list(self._feeds.items())
        states = [(name, status.state) for name, status in self.streams.all().items()]
        labels = {name: feed.stream.options.labels for name, feed in feeds}
        damaged = {name: feed.stream.damaged for name, feed in feeds}
        return prometheus_text(self.figures(), states, labels, damaged)

    def healthy(self) -> bool:
        """No sink has been taken out of use, and no stage is stuck."""
        return not self._failed_sinks and not self.stuck()

    def stuck(self) -> list[str]:
        """The stages that have worked on one packet for too long, in words: where, on what and for how long."""
        return [] if self._watchdog is None else self._watchdog.stuck()

    def threads(self) -> list[threading.Thread]:
        """The threads that have not ended."""
        with self._lock:
            return [thread for thread in self._threads if thread.is_alive()]

    def statuses(self) -> dict[str, Status]:
        """Where each stream stands."""
        return self.streams.all()

    def ready(self) -> bool:
        """The graph runs and at least one stream delivers."""
        return self.state == "running" and any(s.state == "live" for s in self.streams.all().values())

    def cpu_times(self) -> Iterator[tuple[str, int, int]]:
        """(thread's stage, CPU nanoseconds in all, of those in the stage's code); after the end, if profiling."""
        for feed in self._feeds.values():
            yield self.spec.source.name, feed.cpu.total, feed.cpu.stage
        for runner in self._runners:
            yield runner.name, runner.cpu.total, runner.cpu.stage

    # -- what runners ask (see runner.Host) ---------------------------------------------------------------------

    def delivering(self, *, files: bool) -> int:
        """How many streams deliver now, with or without files."""
        return self._delivering if files else self._delivering_live

    def report(self, error: StreamkpError) -> None:
        """Keep an error that decides the outcome of the run."""
        log.debug("reported: %s", error)
        with self._lock:
            self.errors.append(error)

    def sink_failed(self, name: str, error: StreamkpError) -> None:
        """Take a sink out of use; without any sink left the run ends."""
        self.report(error)
        with self._lock:
            self._failed_sinks.add(name)
            last = self._failed_sinks >= {stage.name for stage in self.spec.stages if stage.cls.kind == "sink"}
        if last:
            self.drain()

    def stream_over(self, stream: StreamContext, error: StreamkpError | None) -> None:
        """A stream's thread has delivered its last packet."""
        if error is not None:
            self.report(error)
            with self._lock:
                self._stream_errors[stream.stream] = error
                last = not self._keep_alive and not self._active - {stream.stream}
            # With the last stream the run ends, and whoever started it is told by its error.
            fields = {"stream": stream.stream}
            level = logging.DEBUG if last else logging.ERROR
            log.log(level, "stream %s failed: %s", stream.stream, error, extra=fields)
        stream.set_status("failed" if error is not None else "ended", None if error is None else str(error))
        with self._lock:
            self._leaving[stream.stream] = len(self._runners)
        try:
            self._source_outputs.end(stream.stream)
        except Exception:
            log.debug("the graph was stopped before stream %s ended", stream.stream)
        with self._lock:
            self._active.discard(stream.stream)
        self._finish_if_idle()

    def stream_left(self, stream: str) -> None:
        """A stage has seen the end of a stream; after the last stage its name is free again."""
        with self._lock:
            self._leaving[stream] -= 1
            if self._leaving[stream]:
                return
            del self._leaving[stream]
            removed = stream in self._removed
        if removed:
            self._forget(stream)
        if self.gate is not None:
            self.gate.gone(stream)
        feed = None
        with self._lock:
            successor = self._successors.pop(stream, None)
            if successor is not None and self.state == "running" and self._source_open:
                feed = self._join(stream, *successor)
        if feed is not None:
            self._spawn(f"stream-{stream}", feed.run)
        self._finish_if_idle()

    # -- inside -------------------------------------------------------------------------------------------------

    def _open(self, stage: Stage) -> None:
        name = stage.context.name
        try:
            stage.open()
        except StreamkpError as error:
            text = str(error)
            raise type(error)(text if name in text else f"stage {name}: {text}") from error
        except Exception as error:
            log.debug("open failed", exc_info=True)
            raise UsageError(f"stage {name} cannot be opened: {error!r}") from error

    def _close(self, stage: Stage) -> None:
        try:
            stage.close()
        except Exception as error:
            log.error("stage %s failed while closing: %r", stage.context.name, error)

    def _feed(self, name: str) -> SourceRunner:
        """A stream that was not removed; with the lock held."""
        feed = self._feeds.get(name)
        if feed is None or name in self._removed:
            raise UsageError(f"there is no stream named {name}")
        return feed

    def _running(self, name: str) -> SourceRunner:
        """A stream that has not ended; with the lock held."""
        feed = self._feed(name)
        if name not in self._active or feed.stream.status.final:
            raise UsageError(f"stream {name} has {feed.stream.status.state}: restart it")
        return feed

    def _excuse(self, stream: str) -> None:
        """What a stream failed with matters no more, since it was removed or runs again; with the lock held."""
        error = self._stream_errors.pop(stream, None)
        self.errors = [each for each in self.errors if each is not error]

    def _join(self, name: str, stream: StreamSpec, epoch: int = 0, after: SourceRunner | None = None) -> SourceRunner:
        """A stream that is about to start; with the lock held."""
        feed = self._prepare(name, stream, epoch, after)
        self._active.add(name)
        self._removed.discard(name)
        self._excuse(name)
        return feed

    def _prepare(self, name: str, spec: StreamSpec, epoch: int = 0, after: SourceRunner | None = None) -> SourceRunner:
        uri = spec.uri.get_secret_value()
        label = mask_address(uri)
        label = label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 3]}..."
        connects = type(self._source).is_live(uri)
        live = connects if spec.live is None else spec.live
        stream = StreamContext(
            name, uri, label, self.clock, live,
            loop=spec.loop, realtime=spec.realtime, options=spec, board=self.streams,
            retold={word for runner in self._runners for word in runner.stage.retells},
        )  # fmt: skip
        feed = SourceRunner(
            self._source, stream, self._source_outputs, self, holds=not connects, first_epoch=epoch, after=after
        )
        self._feeds[name], self._specs[name] = feed, spec
        return feed

    def _forget(self, stream: str) -> None:
        with self._lock:
            self._feeds.pop(stream, None)
            self._specs.pop(stream, None)
            self._removed.discard(stream)
            self._excuse(stream)
        self.streams.forget(stream)
        for runner in self._runners:
            runner.forget_figures(stream)

    def _count_live(self, _: str, __: Status | None) -> None:
        live = {name for name, status in self.streams.all().items() if status.state == "live"}
        now = [feed.stream for name, feed in list(self._feeds.items()) if name in live]
        self._delivering, self._delivering_live = len(now), sum(stream.live for stream in now)

    def _spawn(self, name: str, target: Any) -> None:
        def body() -> None:
            try:
                target()
            except BaseException as error:  # a defect of ours: end the run rather than hang it
                log.critical("the thread of %s broke", name, exc_info=True)
                self.report(StreamkpError(f"the thread of {name} broke: {error!r}"))
                self.stop()

        thread = threading.Thread(target=body, name=f"streamkp-{name}")
        with self._lock:
            self._threads = [t for t in self._threads if t.is_alive() or t.ident is None]
            self._threads.append(thread)
            thread.start()

    def _finish_if_idle(self) -> None:
        """Close the source and its channels once no stream runs and none can come."""
        with self._lock:
            idle = not self._active and not self._successors and (not self._keep_alive or self.state != "running")
            if not idle or not self._source_open:
                return
            self._source_open = False
        self._source_outputs.close()
        try:
            self._source.close()
        except StreamkpError as error:
            self.report(error)
        except Exception as error:
            self.report(SourceError(f"stage {self.spec.source.name} failed while closing: {error!r}"))


Engine = ThreadEngine
"""The name under which the package offers it."""
