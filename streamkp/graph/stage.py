"""What a stage is: a class with an `Options` model and one method, `process`.

    class Mirror(MapStage):
        class Options(StageOptions):
            strength: float = Field(1.0, description="How much, 0..1.")

        options: Options

        def process(self, packet: Packet) -> Packet | None: ...

A stage is used by one thread at a time, except a `stateless` map with `workers` > 1. It keeps what it must remember
in `per_stream()` or `per_track()` maps, which the engine empties when a stream or track ends or its epoch changes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from streamkp.graph.clock import Clock
from streamkp.graph.context_log import ContextLog
from streamkp.graph.feedback import Feedback as Feedback
from streamkp.graph.status import PictureFlag, State, Status, StatusBoard
from streamkp.graph.stream_options import StreamOptions
from streamkp.packet import Packet, WindowRequest
from streamkp.uris import local_path

Kind = Literal["source", "map", "batch", "window", "sink"]
S = TypeVar("S")

LIVE: Final[dict[str, JsonValue]] = {"live": True}
"""`Field(..., json_schema_extra=LIVE)`: an option that may be changed while the graph runs."""

_log = logging.getLogger("streamkp.graph")


class StageOptions(BaseModel):
    """Base of every stage's options. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    renamed: ClassVar[Mapping[str, str]] = {}  # old name -> new name, accepted with a warning for one release

    @classmethod
    def live(cls) -> list[str]:
        """The options that may be changed while the graph runs."""
        return [
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("live") is True
        ]

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for old, new in cls.renamed.items():
            if old in data:
                if new in data:
                    raise ValueError(f"{old} is the old name of {new}: leave it out")
                data[new] = data.pop(old)
                _log.warning(
                    "the option %s is now called %s; the old name will stop working in the next release", old, new
                )
        return data


class PerStream(dict[str, S], Generic[S]):
    """State by stream id, made on first use; the engine deletes a stream's entry when it ends or its epoch changes."""

    def __init__(self, factory: Callable[[], S]) -> None:
        super().__init__()
        self._factory = factory

    def __missing__(self, stream: str) -> S:
        value = self[stream] = self._factory()
        return value


class PerTrack(dict[tuple[str, int], S], Generic[S]):
    """State by (stream id, track id), made on first use; the engine deletes it when the track or stream ends."""

    def __init__(self, factory: Callable[[], S]) -> None:
        super().__init__()
        self._factory = factory

    def __missing__(self, key: tuple[str, int]) -> S:
        value = self[key] = self._factory()
        return value


class EngineView(Protocol):
    """What a stage may ask of the engine that runs it (the HTTP pages of `publish-websocket` do)."""

    def stats(self) -> dict[str, Any]:
        """The figures behind `/stats`, plain JSON types."""

    def prometheus(self) -> bytes:
        """The same figures in Prometheus text format."""

    def healthy(self) -> bool:
        """No stage has failed."""

    def stuck(self) -> list[str]:
        """The stages that have worked on one packet for too long, in words: where, on what and for how long."""

    def statuses(self) -> dict[str, Status]:
        """Where each stream stands."""

    def ready(self) -> bool:
        """Every stage is open and at least one stream delivers."""


class StageContext:
    """What the engine gives a stage: its name in the graph, the clock, a logger, and its feedback edges."""

    def __init__(self, name: str, clock: Clock | None = None, streams: StatusBoard | None = None) -> None:
        self.name = name
        self.clock = clock or Clock()
        self.streams = streams or StatusBoard(self.clock)  # where each stream stands
        self.log = ContextLog(f"streamkp.{name}", stage=name)
        self.feedback_out: Feedback | None = None
        self.feedback_in: Feedback | None = None
        self.engine: EngineView | None = None
        self.bound: Any = None  # an object of the running program for this stage, see `ThreadEngine`
        self.states: list[PerStream[Any] | PerTrack[Any]] = []
        self.on_failed: Callable[[Packet, Exception], None] | None = None  # set by the engine, as the next three
        self.on_done: Callable[[], None] = lambda: None
        self.on_delivered: Callable[[str, int], None] = lambda stream, captured_at: None
        self.on_undelivered: Callable[[str, int], None] = lambda stream, count: None

    def done(self) -> None:
        """A batch that was begun is done; from any thread."""
        self.on_done()

    def failed(self, packet: Packet, error: Exception) -> None:
        """Count and log an error that costs a packet a part of its results; the packet itself goes on."""
        if self.on_failed is not None:
            self.on_failed(packet, error)
        else:
            fields = {"stream": packet.stream, "seq": packet.seq}
            self.log.error("frame %d of stream %s: %s", packet.seq, packet.stream, error, extra=fields)

    def delivered(self, stream: str, captured_at: int) -> None:
        """A frame captured at that time (Unix ns) has reached who it was for; see `Sink.delivers_later`."""
        self.on_delivered(stream, captured_at)

    def undelivered(self, stream: str, count: int) -> None:
        """Messages that the sink had taken are lost, for nobody was there to receive them."""
        self.on_undelivered(stream, count)


class Stage:
    """Base of all stages; authors subclass `MapStage`, `BatchStage`, `Sink` or `Source`."""

    kind: ClassVar[Kind]
    expensive: ClassVar[bool] = False  # packets past their staleness budget are dropped before this stage
    stateless: ClassVar[bool] = False  # may run in several threads at once (`workers`)
    sends_feedback: ClassVar[bool] = False  # to the nearest stage above that takes it: `context.feedback_out`
    takes_feedback: ClassVar[bool] = False  # from a later stage: `context.feedback_in`
    light: ClassVar[bool] = False  # well under a millisecond for a frame, and never waits: see `shares_thread`
    may_wait: ClassVar[bool] = False  # `process` may take as long as it likes, such as for a caller who is slow
    # What it reads of a packet and what it adds: image, detections, keypoints_2d, window, keypoints_3d, or words that a
    # plugin makes up. `gives` None: not declared, it may add anything.
    needs: ClassVar[Collection[str]] = ()
    gives: ClassVar[Collection[str] | None] = None
    # Types of its events and keys that it adds to `Person.extra`, and "annotations" if it draws: a recording that is
    # played again into the stage leaves out its own, since they would be there twice.
    retells: ClassVar[Collection[str]] = ()
    serves_control: ClassVar[bool] = False  # its own HTTP server has health, metrics and statistics of the run

    class Options(StageOptions):
        """No options."""

    def __init__(self, options: StageOptions, context: StageContext) -> None:
        self.options: Any = options
        self.context = context

    @classmethod
    def check(cls, options: Any) -> None:
        """Look at the options before anything is opened or downloaded; raise a `StreamkpError` if they cannot work."""

    @classmethod
    def claims(cls, options: Any) -> Sequence[str]:
        """What only one stage of a graph can have, in words for people: `port 8765`, `file out.jsonl`."""
        return ()

    @classmethod
    def reads_window(cls, options: Any) -> WindowRequest | None:
        """What this stage needs of the nearest window stage above it; None if it reads no windows.

        What the graph leaves open in the window stage is set to it, and a contradiction is an error of the graph.
        Called after `check`; may raise a `StreamkpError`.
        """
        return None

    @classmethod
    def requires(cls, options: Any) -> Collection[str]:
        """What it needs with these options; `needs` unless a stage says otherwise."""
        return cls.needs

    @classmethod
    def outputs(cls, options: Any, streams: Sequence[str]) -> Sequence[Path]:
        """The files that it will write for streams of these ids; none may be a file that the graph reads."""
        return ()

    @classmethod
    def shares_thread(cls, options: Any) -> bool:
        """Whether it may run in the thread of the stage before it, without a queue between the two.

        To wake a thread costs about as much as the work of a `light` stage. A stage of the graph that sets `queue`,
        `batch` or `workers` has threads of its own all the same.
        """
        return cls.light

    def per_stream(self, factory: Callable[[], S]) -> PerStream[S]:
        """A map of per-stream state that the engine keeps clean. Call it in `open()`."""
        state = PerStream(factory)
        self.context.states.append(state)
        return state

    def per_track(self, factory: Callable[[], S]) -> PerTrack[S]:
        """A map of per-track state that the engine keeps clean. Call it in `open()`."""
        state = PerTrack(factory)
        self.context.states.append(state)
        return state

    def open(self) -> None:
        """Acquire resources. Raise a `StreamkpError` that says what is wrong: the graph then does not start."""

    def close(self) -> None:
        """Release resources. Called exactly once after `open()` succeeded, whatever happened in between."""

    def notice(self) -> str | None:
        """One line for the person who started the graph, such as where the results are. Asked after `open()`."""
        return None

    def summary(self) -> str | None:
        """One line for the person who started the graph about what became of the run. Asked at its end."""
        return None

    def options_changed(self) -> None:
        """`self.options` has other values of options that are marked `LIVE`; called in the stage's own thread.

        To be overridden by stages that have made something of their options, such as filters with their cut-off.
        """

    def track_ended(self, stream: str, track: int) -> None:
        """A person is followed no more: the track ended, the stream began a new epoch, or the stream is at its end.

        Called once for each track id that came in `Packet.tracks`, in the stage's own thread, while its `per_track`
        state is still there: after the first packet without the track has been processed, before the first packet of
        a new epoch, or before `drain` and `stream_ended`. Not called with `workers` > 1. An exception is counted and
        logged; a `StreamkpError` takes a sink out of use, as one from `process` does.
        """

    def stream_ended(self, stream: str) -> None:
        """A stream has ended and all of its packets have been processed here."""


class MapStage(Stage):
    """One packet in, the same packet out, changed in place; or None to let it end here."""

    kind: ClassVar[Kind] = "map"  # or "window"

    def process(self, packet: Packet) -> Packet | None:
        """Work on one packet. An exception drops this packet only."""
        raise NotImplementedError

    def drain(self, stream: str) -> Iterable[Packet]:
        """What is still to be passed on at the end of a stream, such as a summary; asked before `stream_ended`."""
        return ()


@dataclass(frozen=True, slots=True)
class Begun:
    """A batch on its way.

    Attributes:
        result: gives the packets to pass on, in any order; called once. An exception drops the batch.
        done: whether `result` is worth asking for before batches of other streams are; if it is not at first, the stage
            calls `context.done()`, from any thread, when it is.
    """

    result: Callable[[], Sequence[Packet]]
    done: Callable[[], bool] = lambda: True


class BatchStage(Stage):
    """Packets of several streams at once, at most one of each stream, changed in place."""

    kind = "batch"
    expensive = True
    batch_independent = False  # results are the same to the last bit in any batch; `open` may set it
    at_once: int | None = None  # packets beyond which a larger batch gains nothing; `open` may set it
    wait_ms: ClassVar[float] = 4.0  # longest wait for further streams, unless the graph says another one
    overlaps: ClassVar[bool] = False  # `begin` leaves work to other threads, and is called again before it is done

    def process(self, batch: Sequence[Packet]) -> Sequence[Packet]:
        """Work on a batch; return the packets to pass on, in any order. An exception drops the batch."""
        raise NotImplementedError

    def begin(self, batch: Sequence[Packet], *, crowded: bool) -> Begun:
        """Start on a batch; all of this is called in the stage's own thread.

        To be overridden with `overlaps`. `crowded`: batches of other streams have been begun and are not done.
        """
        packets = self.process(batch)
        return Begun(lambda: packets)


class Sink(Stage):
    """The end of a branch. A `StreamkpError` from `process` takes this sink out of use and fails the run."""

    kind = "sink"
    gives = ()
    delivers_later: ClassVar[bool] = False  # frames are out only when the sink says so: `context.delivered`

    def process(self, packet: Packet) -> None:
        """Take one packet; it must not be changed."""
        raise NotImplementedError


class StreamContext:
    """What the engine gives a source for one stream. `uri` may hold a credential: show `label` to people instead."""

    def __init__(
        self,
        stream: str,
        uri: str,
        label: str,
        clock: Clock,
        live: bool,
        *,
        loop: bool = False,
        realtime: bool = False,
        options: StreamOptions | None = None,
        board: StatusBoard | None = None,
        retold: Collection[str] = (),
    ) -> None:
        self.stream = stream
        self.retold = frozenset(retold)  # what stages of the graph tell themselves, see `Stage.retells`
        self.uri = uri
        self.label = label
        self.clock = clock
        self.live = live
        self.loop = loop  # start a file again at its end
        self.realtime = realtime  # play a file at its own speed
        self.options = options or StreamOptions()
        self.log = ContextLog("streamkp.source", stream=stream)
        self.board = board or StatusBoard(clock)
        self.board.begin(stream)
        self.stall_after: float | None = None  # seconds without a frame that are unusual; None: see `SourceRunner`
        self.waiting = False  # the source waits on purpose
        self.damaged = 0  # frames that came broken, or could not be decoded
        self.duration: int | None = None  # nanoseconds, where the source knows it
        self.frames_total: int | None = None  # an estimate, where the source knows it
        self.held = 0  # nanoseconds for which it was held in all, of files that are paused
        self._stop = threading.Condition()
        self._stopping = False
        self._leave = False  # `frames` is to end, to be called again later
        self._paused = False

    @property
    def stopping(self) -> bool:
        """True once `frames` is to end; a source looks at it between frames."""
        return self._stopping or self._leave

    @property
    def over(self) -> bool:
        """True once the stream is to end for good."""
        return self._stopping

    @property
    def paused(self) -> bool:
        """Whether the stream is to rest."""
        return self._paused

    def stop(self) -> None:
        """Ask the source to end after the current frame, and wake it if it waits."""
        with self._stop:
            self._stopping = True
            self._stop.notify_all()

    def pause(self, *, leave: bool) -> None:
        """Rest after the current frame; `leave`: end `frames` first, so that a connection is closed meanwhile."""
        with self._stop:
            self._paused = True
            self._leave |= leave
            self._stop.notify_all()

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._stop:
            self._paused = False
            self._stop.notify_all()

    def restart(self) -> None:
        """End `frames` after the current frame, and call it again."""
        with self._stop:
            self._paused, self._leave = False, True
            self._stop.notify_all()

    def begin(self) -> None:
        """`frames` is about to be called."""
        with self._stop:
            self._leave = False

    def rest(self) -> bool:
        """Wait until the pause is over; True if `frames` must end then. Called by the stream's own thread."""
        began = self.clock.monotonic()
        with self._stop:
            self._stop.wait_for(lambda: self._stopping or not self._paused)
        self.held += self.clock.monotonic() - began
        return self.stopping

    def wait(self, seconds: float) -> bool:
        """Wait (for a reconnect, or for a file played at its own speed); True if the stream must end."""
        deadline = self.clock.monotonic() + int(seconds * 1e9)
        self.waiting = True
        try:
            with self._stop:
                while not self.stopping:
                    left = (deadline - self.clock.monotonic()) / 1e9
                    if left <= 0:
                        break
                    self.clock.wait(self._stop, left)
                return self.stopping
        finally:
            self.waiting = False

    def wait_for(self, ready: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until `ready()`, which is asked again after each `wake` and when the stream is stopped.

        False where it took longer than `seconds`, of real time whatever the clock: this is for reads of real devices.
        """
        with self._stop:
            return self._stop.wait_for(ready, seconds)

    def wake(self) -> None:
        """Have everybody in `wait_for` look again."""
        with self._stop:
            self._stop.notify_all()

    @property
    def status(self) -> Status:
        """Where the stream stands."""
        status = self.board.get(self.stream)
        return Status("ended", None, 0) if status is None else status  # it has been removed

    def set_status(self, state: State, reason: str | None = None, *, epoch: int | None = None) -> None:
        """Say where the stream stands; batches do not wait for a stream that is not live."""
        self.board.set(self.stream, state, reason, epoch=epoch)

    def set_picture(self, flag: PictureFlag | None) -> None:
        """Say that the pictures stand still or are black; None: they are as they should be."""
        self.board.flag(self.stream, flag)


class Source(Stage):
    """Makes the packets. One thread per stream runs `frames`."""

    kind = "source"

    @classmethod
    def is_live(cls, uri: str) -> bool:
        """Whether frames come at their own pace (a camera) and may have to be dropped."""
        raise NotImplementedError

    @classmethod
    def file_of(cls, uri: str) -> Path | None:
        """The local file that a URI names, without fetching anything; None where it names none."""
        return local_path(uri)

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """Yield the stream's packets until it ends or `stream.stopping`.

        Raises:
            SourceError: the stream cannot be opened, or broke for good; what was yielded before is kept.
        """
        raise NotImplementedError
