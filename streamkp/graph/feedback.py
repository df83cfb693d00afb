"""The edge against the flow: a later stage asks an earlier one for something, such as a detection.

For a live stream the latest request wins and nobody waits. For a file the edge is synchronous in frame numbers: what is
asked for at frame t is answered at frame t + `delay`, never earlier or later, so that the results of a file do not
depend on how fast the stages happen to run. The receiver therefore gets frame t + `delay` only when the sender is done
with frame t (or the frame was lost on its way), and may run up to `delay` - 1 frames ahead of it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from streamkp.packet import Packet

DELAY: Final = 3
"""Frames from a request to its answer. Detection of frames t + 1 and t + 2 overlaps the keypoints of frame t."""

_KEPT: Final = 64  # requests of one stream that may wait for an answer; more only where the receiver never asks


class Feedback:
    """One feedback edge, with the requests of every stream. Methods may be called from any thread.

    Args:
        delay: frames between a request and its answer, for streams that are synchronous; at least 1.
        synchronous: tells by the stream's id whether it is; by default none is.
    """

    def __init__(self, delay: int = DELAY, synchronous: Callable[[str], bool] = lambda _: False) -> None:
        if delay < 1:
            raise ValueError("a request cannot be answered in the frame that it is made in")
        self.on_progress: Callable[[], None] = lambda: None  # set by the engine: wakes the receiver
        self._delay = delay
        self._synchronous = synchronous
        self._lock = threading.Lock()
        self._requests: dict[str, deque[tuple[int, Any]]] = {}
        self._under_way: dict[str, dict[int, None]] = {}  # by stream: frames between receiver and sender, in order

    def send(self, packet: Packet, value: Any) -> None:
        """Ask for something while working on `packet`."""
        with self._lock:
            self._requests.setdefault(packet.stream, deque(maxlen=_KEPT)).append((packet.seq, value))

    def take(self, packet: Packet) -> Any | None:
        """The latest request that `packet` has to answer, or None. Earlier ones are void then."""
        with self._lock:
            waiting, value = self._requests.get(packet.stream), None
            due = packet.seq - self._delay if self._synchronous(packet.stream) else None
            while waiting and (due is None or waiting[0][0] <= due):
                value = waiting.popleft()[1]
            return value

    # -- for the engine -----------------------------------------------------------------------------------------

    def holds(self, packet: Packet) -> bool:
        """Whether the receiver must not have this packet yet."""
        if not self._synchronous(packet.stream):
            return False
        with self._lock:
            oldest = next(iter(self._under_way.get(packet.stream, ())), None)
            return oldest is not None and oldest <= packet.seq - self._delay

    def entered(self, packet: Packet) -> None:
        """The receiver has taken this packet."""
        if self._synchronous(packet.stream):
            with self._lock:
                self._under_way.setdefault(packet.stream, {})[packet.seq] = None

    def done(self, packet: Packet) -> None:
        """The sender has worked on this packet, or it was lost between the two."""
        if not self._synchronous(packet.stream):
            return
        with self._lock:
            self._under_way.get(packet.stream, {}).pop(packet.seq, None)
        self.on_progress()

    def forget(self, stream: str) -> None:
        """The stream has ended."""
        with self._lock:
            self._requests.pop(stream, None)
            self._under_way.pop(stream, None)
