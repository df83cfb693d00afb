"""Results in Python, as they come: `async for result in streamkp.stream("0")`."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from streamkp.errors import UsageError
from streamkp.graph.channel import Channel, Closed, End
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import Sink
from streamkp.packet import Packet
from streamkp.uris import mask_address

DEPTH = 4  # results that may wait for the caller


@dataclass(frozen=True)
class Caller:
    """Who takes the results: from `channel`, and `notify` is called when there is something in it."""

    channel: Channel[Packet]
    notify: Callable[[], None] = lambda: None


class HandOver(Sink):
    """Gives results to a caller in another thread, who takes them in its own time; the engine binds a `Caller`."""

    may_wait = True

    def open(self) -> None:
        self._caller: Caller = self.context.bound

    def process(self, packet: Packet) -> None:
        """Wait for the caller with files; forget the oldest result with cameras."""
        try:
            self._caller.channel.put(packet.stream, packet)
        except Closed:
            return  # the caller has left
        self._caller.notify()

    def close(self) -> None:
        """Tell the caller that this was all."""
        self._caller.channel.close()
        self._caller.notify()


def stream(*uris: str | os.PathLike[str] | int, graph: str | Path | Graph = "demo", **options: Any) -> ResultStream:
    """Run a graph on one or more videos and yield its result for every frame.

    Args:
        uris: files, cameras (`"0"`, `"rtsp://..."`) or samples (`"sample:walk"`); the streams are called `stream0`,
            `stream1` and so on. Without any, the graph's own streams are used.
        graph: a graph file, the name of a ready-made graph, or a `Graph`, which stays as it is; its sinks are left out.
        options: options of each of these streams, as in a graph file: `max_fps=10`, `max_side=960`, `rotate=90`.

    Returns:
        An asynchronous iterator of `Packet`: 2D keypoints in source pixels, 3D in metres; the image is the source frame
        (do not write to it).

    Raises:
        UsageError: the graph is wrong, or neither it nor the call names a source.
        StreamkpError: while iterating, after everything that could be read was yielded: a source or stage failed.

    Examples:
        >>> async for result in streamkp.stream("squat.mp4"):      # doctest: +SKIP
        ...     print(result.seq, [person.track for person in result.persons])
    """
    own = graph.copy() if isinstance(graph, Graph) else Graph.from_yaml(graph)
    if uris:
        own.only_streams({f"stream{n}": _address(uri) for n, uri in enumerate(uris)}, **options)
    elif options:
        raise UsageError(f"{', '.join(options)}: for the streams that the call names; those of a graph have their own")
    elif not own.has_streams():
        raise UsageError("no source: name one (a file, 0 for a webcam, rtsp://...), or give a graph with streams")
    return ResultStream(own.without_sinks())


class ResultStream:
    """The results of a running graph, made by `stream`; an asynchronous iterator.

    The graph starts with the first result that is asked for, and ends with the last one, with `aclose`, when a block
    `async with` is left, or when nobody holds this object any more. A wait for the next result may be cancelled, by
    `asyncio.wait_for` for instance: the next one then waits for the same result. It belongs to the event loop and the
    process in which it was started, and holds no thread of that loop's executor.
    """

    def __init__(self, graph: Graph) -> None:
        self._run = _GraphRun(graph)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Packet:
        """The next result.

        Raises:
            StopAsyncIteration: there are no more.
            StreamkpError: a stage cannot be opened, or (after the last result) a source or stage failed.
            UsageError: it was started in another process or on another event loop.
        """
        if not self._run.guarded:
            await self._run.guard_it()
            weakref.finalize(self, self._run.leave).atexit = False
        return await self._run.next()

    async def aclose(self) -> None:
        """End the graph, and return when all of its threads have ended; results that were not taken are lost."""
        await self._run.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


_held: set[_GraphRun] = set()  # runs whose threads have not ended, also those whose caller has left without a word


class _GraphRun:
    """One run of a graph for one event loop. All but `stop`, `leave` and `_wake` belong to that loop's thread."""

    def __init__(self, graph: Graph) -> None:
        self._channel: Channel[Packet] = Channel(DEPTH, self._policy)
        graph.add("hand-over", HandOver)
        self._engine = ThreadEngine(graph.validate(), bound={"hand-over": Caller(self._channel, self._wake)})
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._something = asyncio.Event()
        self._started: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._guard: AsyncGenerator[None, None] | None = None
        self._threads: list[threading.Thread] = []
        self._over = False
        self._stopped = False
        self._closed = False

    @property
    def guarded(self) -> bool:
        return self._guard is not None

    async def guard_it(self) -> None:
        """Have the event loop close this run when the loop itself ends, as it does with asynchronous generators."""

        async def guard() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                await self.close()

        self._guard = guard()
        await anext(self._guard)

    async def next(self) -> Packet:
        self._check_place()
        if self._over or self._closed:
            raise StopAsyncIteration
        if self._started is None:
            stop_at_exit(self)
            _held.add(self)
            self._started = self._in_thread("streamkp-start", self._start)
        if not self._started.done():
            try:
                await asyncio.shield(self._started)
            except Exception:  # a stage cannot be opened
                self._over = True
                self._finish()
                raise
        while True:
            self._something.clear()
            try:
                item = self._channel.poll()
            except Closed:
                break
            if item is None:
                await self._something.wait()
            elif not isinstance(item, End):
                return item
        await self._join()
        self._over = True
        if self._engine.errors and not self._closed:
            raise self._engine.errors[0]
        raise StopAsyncIteration

    async def close(self) -> None:
        self._closed = True
        if self._started is None or os.getpid() != self._process:
            return
        with suppress(Exception):  # what kept it from starting was told to who asked for a result
            await self._unhurried(self._started)
        self.stop()
        self._something.set()
        await self._join()

    def leave(self) -> None:
        """The caller has left without a word: end in the background."""
        self.stop()
        if os.getpid() == self._process and self in _held:
            thread = threading.Thread(target=self._wait_for_end, name="streamkp-end")
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let go of everything without waiting for it; from any thread."""
        if os.getpid() == self._process:  # in a forked child there is nothing to stop, and locks may be held for ever
            self._stopped = True
            self._channel.abort()
            self._engine.stop()

    async def _join(self) -> None:
        if self._ended is None:
            self._ended = self._in_thread("streamkp-end", self._wait_for_end)
        await self._unhurried(self._ended)
        self._finish()

    def _finish(self) -> None:
        self._wait_for_end()
        for thread in list(self._threads):
            thread.join()

    def _wait_for_end(self) -> None:
        self._engine.wait()
        _held.discard(self)

    def _start(self) -> None:
        self._engine.start()
        if self._stopped:  # meanwhile
            self._engine.stop()

    async def _unhurried(self, future: asyncio.Future[Any]) -> None:
        """Wait for the future; a caller who is cancelled while the graph ends does not leave threads behind."""
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            if self._closed:
                self.stop()
                self._finish()
            raise

    def _in_thread(self, name: str, work: Callable[[], object]) -> asyncio.Future[None]:
        """Run something in a thread of its own: the loop's executor belongs to the caller's program."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask

        def tell(error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def body() -> None:
            problem: BaseException | None = None
            try:
                work()
            except BaseException as error:
                problem = error
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, problem)

        thread = threading.Thread(target=body, name=name)
        self._threads.append(thread)
        thread.start()
        return future

    def _check_place(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if os.getpid() != self._process:
            raise UsageError("this stream was made in another process: call streamkp.stream again after the fork")
        if self._loop is not loop:
            raise UsageError("this stream belongs to another event loop: call streamkp.stream on each")

    def _wake(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._something.set)

    def _policy(self, key: str) -> Any:
        return "drop-oldest" if self._engine.is_live(key) else "block"


def _address(uri: str | os.PathLike[str] | int) -> str:
    if isinstance(uri, int) and not isinstance(uri, bool):
        return str(uri)
    if isinstance(uri, str | os.PathLike) and isinstance(path := os.fspath(uri), str):
        return path
    what = mask_address(repr(uri))
    raise UsageError(f"a source is a path, an address or the number of a webcam, not {type(uri).__name__} {what[:80]}")


class _Stoppable(Protocol):
    def stop(self) -> None: ...


_running: weakref.WeakSet[Any] = weakref.WeakSet()
_watched = False


def stop_at_exit(run: _Stoppable) -> None:
    """Stop `run`, if it is still there, when the main thread has ended: the interpreter then waits for all threads."""
    global _watched
    _running.add(run)
    if _watched:
        return
    _watched = True
    # What concurrent.futures uses for the same end: `atexit` comes only after the threads have ended.
    register: Callable[[Callable[[], None]], None] | None = getattr(threading, "_register_atexit", None)
    if register is not None:
        register(_stop_all)
        return

    def watch() -> None:
        threading.main_thread().join()
        _stop_all()

    threading.Thread(target=watch, name="at-exit", daemon=True).start()


def _stop_all() -> None:
    for run in list(_running):
        run.stop()
