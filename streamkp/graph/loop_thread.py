"""An asyncio loop in a thread of its own, for stages and servers that speak to the network."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for a thread that is not asynchronous itself; `stop()` leaves nothing behind.

    The first exception that nobody awaited is kept, and raised by `check()`.
    """

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start the thread; returns once the loop runs."""
        self._thread.start()
        self._loop, self._stopped = self._running.result()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, wait for it, and return or raise what it does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Run a plain function on the loop soon."""
        self._loop.call_soon_threadsafe(callback, *args)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task whose failure `check()` will tell. To be called on the loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def check(self) -> None:
        """Raise the error that a task ended with, if one did."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Cancel what still runs, end the loop and join the thread."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and self._error is None:
            self._error = task.exception()

    def _main(self) -> None:
        # The selector loop, because aiomqtt needs `add_reader`, which the default loop of Windows lacks.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        stopped = asyncio.Event()
        self._running.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()
