"""A node: the ordinary engine with the fleet's graph and a share of the streams, for as long as its lease runs.

It knows no transport: whoever carries its messages hands in assignments and grants, and asks for states and beats.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from streamkp.control.access import is_loopback
from streamkp.control.run_server import ControlServer
from streamkp.errors import StreamkpError, UsageError
from streamkp.fleet.clock import lease_time
from streamkp.fleet.holding import Holding
from streamkp.fleet.load import LoadMeter
from streamkp.fleet.messages import Assignment, Beat, Grant, NodeState, Running
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.plan import Plan
from streamkp.graph.spec import ControlSpec, StreamSpec
from streamkp.uris import VARIABLE, expand, mask

log = logging.getLogger("streamkp.node")

RETRY_SECONDS: Final = 5.0  # until a graph that could not be opened is tried again
END_SECONDS: Final = 10.0  # in which the engine has to end


@dataclass(slots=True)
class _Run:
    """A stream on this node."""

    assigned: int  # the epoch of the assignment that it was started for
    epoch: int
    lapses: int  # of the lease, when it was started: nothing of it leaves after the next
    listed: int | None = None  # the version of the first state that has this epoch
    stopping: bool = False
    cut: bool = False  # it was ended because its lease had
    over: bool = False  # it has ended by itself, or could not be started
    failure: str | None = None


class Node:
    """Runs the streams that it is given. Every public method may be called from any thread.

    Args:
        name: of the machine, as people know it.
        labels: what streams can require, such as `{"gpu": "true"}`.
        capacity: most streams (their weights added); None: as the fleet says.
        advertise: the host under which Prometheus finds this node; by default this machine's name, or loopback.
        env: where `${NAME}` in the graph and in addresses is looked up; the process's environment by default.
        urgent: called when something has to be told at once.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        capacity: float | None = None,
        advertise: str | None = None,
        env: Mapping[str, str] | None = None,
        urgent: Callable[[], None] = lambda: None,
        now: Callable[[], float] = lease_time,
    ) -> None:
        self.name = name
        self.id = f"{name}.{uuid.uuid4().hex[:8]}"
        self._labels = dict(labels or {})
        self._capacity = capacity
        self._advertise = advertise
        self._env = os.environ if env is None else env
        self._urgent = urgent
        self._now = now
        self._wake = threading.Condition()
        self._holding = Holding()
        self._runs: dict[str, _Run] = {}
        self._graph: Mapping[str, Any] | None = None  # the document, as it came
        self._running_graph: Mapping[str, Any] | None = None
        self._retry_at: float | None = None
        self._problem: str | None = None
        self._metrics: str | None = None
        self._changed = False
        self._leaving = False
        self._left = threading.Event()
        self._beats = 0
        self._version = 0
        self._told: NodeState | None = None
        self._load = LoadMeter()
        self._engine: ThreadEngine | None = None
        self._control: ControlServer | None = None
        self._thread = threading.Thread(target=self._main, name=f"streamkp-node-{name}")

    # -- for the transport --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread that starts and stops streams."""
        self._thread.start()

    def leave(self) -> None:
        """End every stream; `wait` until it is done. What leaves the streams' engine still needs the lease."""
        with self._wake:
            self._leaving = self._changed = True
            self._wake.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a node that leaves runs nothing; False if that took longer than `timeout` seconds."""
        return self._left.wait(timeout)

    def close(self) -> None:
        """Wait for the thread of a node that leaves."""
        self.leave()
        self._thread.join()

    def graph(self, document: Mapping[str, Any]) -> None:
        """The graph to run: `text`, `origin` and `base` as in `FleetSpec.graph_document`."""
        with self._wake:
            if document != self._graph:
                self._graph, self._retry_at = dict(document), None
                self._notify()

    def assign(self, assignment: Assignment) -> bool:
        """Take an assignment; False for one that is not for this node, or old."""
        with self._wake:
            if assignment.node != self.id or not self._holding.assign(assignment):
                return False
            self._notify()
            return True

    def granted(self, grant: Grant) -> bool:
        """The lease was renewed by the supervisor; False where the answer does not hold."""
        with self._wake:
            held = grant.node == self.id and self._holding.granted(grant, self._now())
            self._notify()
            return held

    def unsupervised(self, beat: int) -> None:
        """A beat has reached the broker, which says that no supervisor runs."""
        with self._wake:
            self._holding.unsupervised(beat, self._now())
            self._notify()

    def state(self, *, again: bool = False) -> NodeState | None:
        """What has to be told, if it has changed since the last call, or if `again`."""
        engine = self._engine
        statuses = {} if engine is None else engine.statuses()
        ending = engine is None or engine.state != "running"  # looked at after the statuses
        with self._wake:
            streams = {}
            for name, run in self._runs.items():
                status = statuses.get(name)
                if run.failure is not None:
                    streams[name] = Running(epoch=run.epoch, status="failed", reason=run.failure)
                elif run.stopping or run.cut or ending:  # not at its own end
                    streams[name] = Running(epoch=run.epoch, status="stopping")
                elif status is None:
                    streams[name] = Running(epoch=run.epoch)
                else:
                    reason = None if status.reason is None else mask(status.reason)
                    streams[name] = Running(epoch=run.epoch, status=status.state, reason=reason)
            state = NodeState(
                node=self.id,
                name=self.name,
                labels=self._labels,
                capacity=self._capacity,
                revision=self._holding.revision,
                version=self._version,
                streams=streams,
                ready=not ending,
                leaving=self._leaving,
                metrics=self._metrics,
                problem=self._problem,
            )
            if state == self._told and not again:
                return None
            self._version += 1
            for run in self._runs.values():
                run.listed = self._version if run.listed is None else run.listed
            self._told = state.model_copy(update={"version": self._version})
            return self._told

    def beat(self) -> Beat:
        """The next beat; to be sent now."""
        now = self._now()
        engine = self._engine
        load = self._load.measure(engine, now) if engine is not None else self._load.latest
        with self._wake:
            self._beats += 1
            self._holding.sent(self._beats, self._version, self._now())
            return Beat(node=self.id, number=self._beats, version=self._version, load=load)

    def lease_left(self) -> float:
        """Seconds until the lease ends; negative when it has."""
        with self._wake:
            return self._holding.deadline - self._now()

    # -- for the engine (see `streamkp.graph.gate`) -------------------------------------------------------------

    def opens(self, stream: str, epoch: int) -> bool:
        """Tell the supervisor of a new epoch before anything of it is published."""
        with self._wake:
            run = self._runs.get(stream)
            if run is None or run.stopping:
                return False
            if run.epoch != epoch:
                run.epoch, run.listed = epoch, None
            self._holding.used[stream] = max(epoch, self._holding.used.get(stream, -1))
            if self._holding.is_known(stream, epoch):
                return True
            self._urgent()
            while run.listed is None or self._holding.told < run.listed:
                left = self._holding.deadline - self._now()
                if run.stopping or left <= 0:
                    run.cut = True
                    return False
                self._wake.wait(left)
            run.cut = run.stopping
            return not run.cut

    def lets_out(self, stream: str) -> bool:
        """Nothing leaves when the lease has run out."""
        run = self._runs.get(stream)
        return run is not None and run.lapses == self._holding.lapses and self._now() < self._holding.deadline

    def gone(self, stream: str) -> None:
        """Every stage has seen the stream's end."""
        with self._wake:
            run = self._runs.get(stream)
            if run is not None:
                run.over = True
                if run.stopping:
                    del self._runs[stream]
            self._notify()
        self._urgent()

    # -- inside -------------------------------------------------------------------------------------------------

    def _notify(self) -> None:
        self._changed = True
        self._wake.notify_all()

    def _main(self) -> None:
        try:
            while not self._step():
                pass
        finally:
            self._shut()
            self._left.set()
            self._urgent()

    def _step(self) -> bool:
        """Wait until something has to be done, and do it; True when a node that leaves has nothing more to do."""
        with self._wake:
            while not self._changed:
                now = self._now()
                times = [self._retry_at] if self._retry_at is not None else []
                if self._runs and self._holding.deadline > now:
                    times.append(self._holding.deadline)
                left = min(times) - now if times else None
                if left is not None and left <= 0:
                    break
                self._wake.wait(left)
                if times and min(times) <= self._now():
                    break
            self._changed = False
        self._open_graph()
        with self._wake:
            wanted = {} if self._leaving or self._engine is None else dict(self._holding.wanted(self._now()))
            lapses = self._holding.lapses
            stop = [
                name
                for name, run in self._runs.items()
                if not run.stopping and (wanted.get(name) != run.assigned or run.lapses != lapses)
            ]
            for name in stop:
                self._runs[name].stopping = True
            self._wake.notify_all()
        for name in stop:
            self._end_stream(name)
        begun = [name for name, epoch in wanted.items() if self._begin_stream(name, epoch)]
        if stop or begun:
            self._urgent()
        with self._wake:
            return self._leaving and not self._runs

    def _begin_stream(self, name: str, assigned: int) -> bool:
        engine = self._engine
        with self._wake:
            if engine is None or name in self._runs or self._holding.assigned.get(name) != assigned:
                return False
            epoch = self._holding.next_epoch(name)
            definition = self._holding.definitions.get(name)
            run = self._runs[name] = _Run(assigned, epoch, self._holding.lapses)
        try:
            engine.add_stream(name, _stream_spec(name, definition, self._env), epoch=epoch)
        except StreamkpError as error:
            log.error("stream %s cannot be started: %s", name, error)
            with self._wake:
                run.over, run.failure = True, mask(str(error))
        return True

    def _end_stream(self, name: str) -> None:
        engine = self._engine
        with self._wake:
            run = self._runs.get(name)
        if run is None:
            return
        if engine is not None and run.failure is None:
            try:
                engine.remove_stream(name)
            except UsageError:  # it has just gone by itself
                run.over = True
        with self._wake:
            if run.over and self._runs.get(name) is run:
                del self._runs[name]
                self._changed = True

    def _open_graph(self) -> None:
        """Make the engine run the newest graph; says what is wrong as `problem`, and tries again later."""
        with self._wake:
            document, retry_at = self._graph, self._retry_at
        engine = self._engine
        broken = engine is not None and engine.state != "running"
        if document is None or (document is self._running_graph and not broken):
            return
        if retry_at is not None and self._now() < retry_at:
            return
        self._shut()
        problem = None
        try:
            graph = Graph.from_text(
                str(document["text"]), str(document["origin"]), base=Path(str(document["base"])), env=self._env
            )
            plan = Plan.of(graph.only_streams({}).validate())
            made = ThreadEngine(plan, keep_alive=True, gate=self)
            made.start()
            self._engine = made
            self._metrics = self._serve(made, plan.graph.control)
            log.info("the graph %s runs", document["origin"])
        except (StreamkpError, KeyError) as error:
            problem = mask(f"the graph {document.get('origin')} cannot be run here: {error}")
            log.error("%s", problem)
        with self._wake:
            self._problem = problem
            self._running_graph = document if problem is None else None
            self._retry_at = None if problem is None else self._now() + RETRY_SECONDS
            self._runs = {}
        self._urgent()

    def _serve(self, engine: ThreadEngine, options: ControlSpec | str | None) -> str | None:
        """Health, metrics and statistics of this node over HTTP; returns `host:port` for Prometheus."""
        if isinstance(options, str):  # off
            return None
        options = options or ControlSpec()
        self._control = ControlServer(engine, options)
        port = urlsplit(self._control.start()).port
        host = self._advertise or (options.host if is_loopback(options.host) else socket.gethostname())
        return f"{host}:{port}"

    def _shut(self) -> None:
        engine, self._engine = self._engine, None
        control, self._control = self._control, None
        if engine is not None:
            engine.drain()
            if not engine.wait(END_SECONDS):
                engine.stop()
                engine.wait(END_SECONDS)
            for error in engine.errors:
                log.error("%s", error)
        if control is not None:
            control.close()


def _stream_spec(name: str, definition: Mapping[str, Any] | None, env: Mapping[str, str]) -> StreamSpec:
    """A stream as the engine takes it, with the variables of this node's environment put in."""
    if definition is None:
        raise UsageError("its assignment does not say what it is")

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        for variable in VARIABLE.findall(value):
            if variable not in env:
                raise UsageError(f"the environment variable {variable} is not set on this node")
        return expand(value, env)

    try:
        return StreamSpec.model_validate(fill(definition))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
