"""A graph that stays open between calls, so that models are loaded once."""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from collections.abc import Callable, Iterator

from pydantic import SecretStr

from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.channel import Channel, Closed, End
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.spec import StreamSpec
from streamkp.live import DEPTH, Caller, HandOver, stop_at_exit
from streamkp.packet import Packet
from streamkp.pipelines.footage import Footage, MediaInput
from streamkp.sources.orientation import Rotate

log = logging.getLogger("streamkp.pipeline")
Progress = Callable[[int, int | None], None]  # frames done, frames in all where that is known


class _Deliver(HandOver):
    """Hands over results, and the end of every stream."""

    def stream_ended(self, stream: str) -> None:
        self.context.bound.channel.end(stream)


class Session:
    """Runs one clip after the other through stages; the engine starts with the first one.

    `stages` adds what lies between the source and the results.
    """

    def __init__(self, stages: Callable[[Graph], Graph], *, rotate: Rotate = "auto") -> None:
        self._stages = stages
        self._rotate = rotate
        self._clips: dict[str, MediaInput] = {}
        self._names = (f"clip{n}" for n in itertools.count())
        self._engine: ThreadEngine | None = None
        self._channel: Channel[Packet]

    def check(self) -> None:
        """Raise a `UsageError` for options that cannot work, before anything is opened."""
        self._graph().validate()

    def _graph(self) -> Graph:
        return self._stages(Graph().add("decode", Footage, rotate=self._rotate)).add("deliver", _Deliver)

    def after_fork(self) -> None:
        """In a child process: start anew with the next clip, for the threads of the parent are not here."""
        inherited.append((self._engine, getattr(self, "_channel", None)))
        self._engine = None
        self._clips = {}

    def run(self, clip: MediaInput, progress: Progress | None = None) -> Iterator[Packet]:
        """The packets of a clip, in order, every frame.

        Where it cannot be read to its end, `clip.incomplete` says why, and what was read before is yielded.

        Raises:
            StreamkpError: a stage cannot be opened, nothing of the clip can be read, or a stage failed on a frame.
        """
        engine = self._open()
        name, done, complete = next(self._names), 0, False
        self._clips[name] = clip
        try:
            engine.add_stream(name, StreamSpec(uri=SecretStr(clip.uri)))
            total: int | None = None
            while not isinstance(packet := self._next(), End):
                done += 1
                if progress is not None:
                    total = total or engine.stats()["streams"][name]["frames_total"]
                    progress(done, total)
                yield packet
            errors = [error for error in engine.errors if not done or not isinstance(error, SourceError)]
            if errors:
                raise errors[0]
            if engine.errors:
                clip.incomplete = str(engine.errors[0])
                log.warning("%s", clip.incomplete)
            read = engine.stats()["streams"][name]["frames"]
            if done < read:
                raise StreamkpError(f"{read - done} of {read} frames could not be worked on; the log says why")
            complete = not engine.errors  # an engine keeps the errors it has met
        finally:
            del self._clips[name]
            if complete:
                engine.remove_stream(name)
            else:
                self.close()

    def close(self) -> None:
        """Let go of the models; the next clip loads them again."""
        if self._engine is not None:
            self._channel.abort()
            self._engine.stop()
            self._engine.wait()
            self._engine = None

    def _next(self) -> Packet | End:
        try:
            return self._channel.get()[1]
        except Closed:
            assert self._engine is not None
            raise (self._engine.errors or [StreamkpError("the pipeline was closed while it ran")])[0] from None

    def _open(self) -> ThreadEngine:
        if self._engine is None:
            self._channel = Channel(DEPTH, lambda _: "block")
            graph = self._graph()
            bound = {"decode": self._clips, "deliver": Caller(self._channel)}
            engine = ThreadEngine(graph.validate(), bound=bound, keep_alive=True)
            engine.start()
            self._engine = engine
            running = _Running(engine, self._channel)
            stop_at_exit(running)
            weakref.finalize(self, running.stop).atexit = False
        return self._engine


# What a forked child has from its parent. Networks wait for their threads when they are let go of, and those threads
# are not in the child.
inherited: list[object] = []


class _Running:
    """An engine and its channel; may be stopped from any thread, but only in the process that started it."""

    def __init__(self, engine: ThreadEngine, channel: Channel[Packet]) -> None:
        self._process = os.getpid()
        self._engine = engine
        self._channel = channel

    def stop(self) -> None:
        if os.getpid() == self._process:
            self._channel.abort()
            self._engine.stop()
