"""From one graph to many WebSocket clients: the graph never waits, a slow client loses its oldest messages."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web

from streamkp import wire
from streamkp.graph.status import Status
from streamkp.packet import AnyImage


class Client:
    """A bounded queue of encoded messages for one client, told of what it has lost."""

    def __init__(self, stream: str | None, format: wire.Format, limit: int) -> None:
        self.format = format
        self._stream = stream
        self._limit = limit
        self._queue: deque[tuple[bytes, bool]] = deque()  # message, and whether it is a frame
        self._hint: bytes | None = None
        self._lost = 0
        self._lock = threading.Lock()
        self._awake = asyncio.Event()
        self._ending = False

    def wants(self, stream: str) -> bool:
        """Whether this client asked for that stream, or for all."""
        return self._stream is None or self._stream == stream

    def offer(self, data: bytes, format: wire.Format, frame: bool = True) -> None:
        """Queue a message, from any thread; if there is no room the oldest frame goes, status messages stay.

        One in a format that the client has left meanwhile is not for it any more.
        """
        with self._lock:
            if format != self.format:
                return
            if len(self._queue) >= self._limit:
                oldest = next((i for i, (_, is_frame) in enumerate(self._queue) if is_frame), None)
                del self._queue[oldest or 0]
                self._lost += oldest is not None
            self._queue.append((data, frame))

    def hint(self) -> None:
        """Tell the client, as text and before everything else, which format it gets: it has not chosen one."""
        self._hint = wire.encode(wire.hint_message(), "json")

    def restart(self, format: wire.Format) -> None:
        """Change the format; what is queued in the other one is thrown away."""
        with self._lock:
            self.format = format
            self._hint = None
            self._queue.clear()

    def wake(self, ending: bool = False) -> None:
        """There may be something to send; `ending`: and that will be all. To be called on the loop."""
        self._ending |= ending
        self._awake.set()

    async def send_to(self, socket: web.WebSocketResponse) -> None:
        """Send what is queued as it comes; returns after `wake(ending=True)` when everything is out."""
        while True:
            self._awake.clear()
            if (hint := self._hint) is not None:
                self._hint = None
                await socket.send_frame(hint, WSMsgType.TEXT)
            while (data := self._next()) is not None:
                await socket.send_frame(data, WSMsgType.TEXT if data[:1] == b"{" else WSMsgType.BINARY)
            if self._ending:
                return
            await self._awake.wait()

    def _next(self) -> bytes | None:
        with self._lock:
            if self._lost:
                lost, self._lost = self._lost, 0
                return wire.encode(wire.lost_message(lost), self.format)
            return self._queue.popleft()[0] if self._queue else None


class Hub:
    """All clients, where each stream stands, and its newest image.

    `post` runs a function on the loop of the clients soon, from any thread.
    """

    def __init__(self, post: Callable[[Callable[[], object]], object]) -> None:
        self.images: dict[str, tuple[int, AnyImage]] = {}  # by stream: seq, image (shared with the graph: read only)
        self.clients: tuple[Client, ...] = ()  # replaced as a whole, so that the graph reads it without a lock
        self._statuses: dict[str, Status] = {}
        self._lock = threading.Lock()  # keeps what a new client is told in step with what all are told
        self._post = post
        self._waking = False

    def add(self, client: Client) -> None:
        """A new client; it is told first where each stream stands."""
        with self._lock:
            self._greet(client)
            self.clients = (*self.clients, client)
        client.wake()

    def change_format(self, client: Client, format: wire.Format) -> None:
        """Give a client the other format from now on, as if it had come only now."""
        with self._lock:
            client.restart(format)
            self._greet(client)
        client.wake()

    def _greet(self, client: Client) -> None:
        for stream in filter(client.wants, self._statuses):
            message = wire.status_message(stream, self._statuses[stream].as_json())
            client.offer(wire.encode(message, client.format), client.format, frame=False)

    def remove(self, client: Client) -> None:
        """The client is gone."""
        with self._lock:
            self.clients = tuple(c for c in self.clients if c is not client)

    def wanted(self, stream: str) -> bool:
        """Whether any client asked for that stream."""
        return any(client.wants(stream) for client in self.clients)

    def publish(self, message: wire.Message) -> None:
        """Queue a message for every client that wants its stream, encoded once per format in use."""
        encoded: dict[wire.Format, bytes] = {}
        for client in self.clients:
            if client.wants(message["stream"]):
                format = client.format  # may change at any time
                if format not in encoded:
                    encoded[format] = wire.encode(message, format)
                client.offer(encoded[format], format, frame="seq" in message)
        if encoded and not self._waking:
            self._waking = True
            self._post(self._wake)

    def set_status(self, stream: str, status: Status | None) -> None:
        """Tell the clients where a stream stands; None: it has been removed, and new clients hear nothing of it."""
        with self._lock:
            if status is None or status.final:
                self.images.pop(stream, None)
            if status is None:
                self._statuses.pop(stream, None)
                return
            self._statuses[stream] = status
            self.publish(wire.status_message(stream, status.as_json()))

    def status(self, stream: str) -> Status | None:
        """Where a stream stands; None where that is not known."""
        return self._statuses.get(stream)

    def online(self) -> list[str]:
        """Streams that deliver, or may do so again, in the order in which they came."""
        with self._lock:
            return [stream for stream, status in self._statuses.items() if not status.final]

    def end(self) -> None:
        """Nothing more will come: clients are closed once they have what is queued. To be called on the loop."""
        for client in self.clients:
            client.wake(ending=True)

    def _wake(self) -> None:
        self._waking = False  # before the clients look: what is queued from now on asks for another round
        for client in self.clients:
            client.wake()
