"""Reads a source in a thread of its own, so that a read that does not come back holds up nobody.

A read inside a library or a driver cannot be interrupted. Here whoever waits for it can always go: when the stream is
stopped, or when no picture has come for too long. The thread then ends by itself as soon as its read returns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, NoReturn

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.sources.timeline import Picture

LINGER: Final = 1.0  # seconds that a thread gets to end before it is left to itself


class Pump:
    """The reading threads of one stream, of which there is one at a time."""

    def __init__(self, stream: StreamContext) -> None:
        self._stream = stream
        self._thread: threading.Thread | None = None

    def pictures(self, connect: Callable[[], Iterator[Picture]], first: float, between: float) -> Iterator[Picture]:
        """What `connect` yields and raises; all of it runs in the reading thread.

        Args:
            connect: makes the connection, and yields its pictures.
            first: seconds until the first picture, the making of the connection included.
            between: seconds between two pictures.

        Raises:
            SourceError: no picture came in time, or the thread of the last connection has still not come back.
        """
        stream = self._stream
        if self._thread is not None and self._thread.is_alive():
            raise SourceError(f"{stream.label}: the last connection still hangs in its driver or library")
        reading = _Reading(stream, connect)
        self._thread = threading.Thread(target=reading.run, name=f"streamkp-read-{stream.stream}", daemon=True)
        self._thread.start()
        patience = first
        try:
            while (picture := reading.take(patience)) is not None:
                yield picture
                patience = between
        finally:
            reading.leave()
            self._thread.join(LINGER)


class _Reading:
    """One connection: a place for one picture, between the thread that reads and the one that takes."""

    def __init__(self, stream: StreamContext, connect: Callable[[], Iterator[Picture]]) -> None:
        self._stream = stream
        self._connect = connect
        self._place: Picture | None = None
        self._error: BaseException | None = None
        self._done = self._left = False

    def run(self) -> None:
        try:
            pictures = self._connect()
            try:
                for picture in pictures:
                    self._stream.wait_for(lambda: self._place is None or self._left)
                    if self._left:
                        return
                    self._place = picture
                    self._stream.wake()
            finally:
                if (close := getattr(pictures, "close", None)) is not None:
                    close()
        except BaseException as error:
            self._error = error
        finally:
            self._done = True
            self._stream.wake()

    def take(self, seconds: float) -> Picture | None:
        """The next picture; None at the end, or where the stream is to stop."""
        stream = self._stream
        began = time.monotonic()
        stream.wait_for(lambda: self._place is not None or self._done or stream.stopping, seconds)
        picture, self._place = self._place, None
        if picture is not None:
            stream.wake()
            return picture
        if self._done and self._error is not None:
            self._raise()
        if not self._done and not stream.stopping:
            silent = time.monotonic() - began
            raise SourceError(f"{stream.label}: no picture for {silent:.1f} s, and the read does not come back")
        return None

    def _raise(self) -> NoReturn:
        # An error holds the frames that it went through, and what these hold, such as a decoder. Kept in a circle it
        # would stay until the garbage collector looks at old objects, which in a large program is hardly ever.
        error, self._error = self._error, None
        assert error is not None
        try:
            raise error
        finally:
            del error

    def leave(self) -> None:
        """Nobody takes any more."""
        self._left = True
        self._stream.wake()
