"""The base of sinks that publish the message of every frame."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streamkp import wire
from streamkp.graph.stage import Sink, StageContext, StageOptions
from streamkp.graph.status import Status
from streamkp.packet import Packet


class MessageSink(Sink):
    """Makes the message of each packet and hands it to `send`; counts the frames that never came.

    Examples:
        >>> class Print(MessageSink):
        ...     def send(self, message):
        ...         print(message["stream"], len(message["persons"]))
    """

    def __init__(self, options: StageOptions, context: StageContext) -> None:
        super().__init__(options, context)
        self._drops = wire.DropCounter()
        self._statuses: StatusFeed | None = None

    def send(self, message: wire.Message) -> None:
        """Publish one message (see `streamkp.wire`), points as float32 arrays. A `StreamkpError` ends the sink."""
        raise NotImplementedError

    def follow_streams(self, changed: Callable[[str, Status | None], None]) -> None:
        """Call `changed` with where each stream stands, from any thread; to be asked for in `open`.

        That a stream has failed or ended is told after its last frame has been sent, from `stream_ended`.
        """
        self._statuses = StatusFeed(changed)
        self._unwatch = self.context.streams.watch(self._statuses.take)

    def unfollow_streams(self) -> None:
        """No more calls; to be asked for in `close`, first."""
        if self._statuses is not None:
            self._unwatch()

    def wanted(self, packet: Packet) -> bool:
        """Whether anybody would take this packet's message; without takers it is not made."""
        return True

    def process(self, packet: Packet) -> None:
        dropped = self._drops.count(packet)
        if self.wanted(packet):
            self.send(wire.message(packet, self.context.clock.now(), dropped))

    def stream_ended(self, stream: str) -> None:
        self._drops.forget(stream)
        if self._statuses is not None:
            self._statuses.frames_are_out(stream)


class StatusFeed:
    """Hands on what a `StatusBoard` tells; a final status waits for the stream's last frame."""

    def __init__(self, changed: Callable[[str, Status | None], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._final: dict[str, Status] = {}

    def take(self, stream: str, status: Status | None) -> None:
        """A listener of a board."""
        with self._lock:
            if status is not None and status.final:
                self._final[stream] = status
                return
            self._final.pop(stream, None)
        self._changed(stream, status)

    def frames_are_out(self, stream: str) -> None:
        """The last frame has been sent."""
        with self._lock:
            final = self._final.pop(stream, None)
        if final is not None:
            self._changed(stream, final)
