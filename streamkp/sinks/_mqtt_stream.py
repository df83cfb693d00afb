"""One stream's connection to an MQTT broker.

MQTT allows one last will per connection, and `{prefix}/{stream}/status` must turn to `offline` for every stream when
this process dies. So every stream has a connection of its own; a stream that is slow to be acknowledged then does
not hold up another either.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import aiomqtt

RETRY_FIRST, RETRY_MOST = 0.2, 5.0  # seconds between two attempts to connect
STATUS_QOS = EVENT_QOS = 1


class _Waiting(NamedTuple):
    data: bytes
    event: bool


class MqttStream:
    """Sends one stream's messages in order. `offer()` is for the graph's thread, the rest for the loop's.

    Messages wait in a bounded buffer while the broker is away; a full one loses its oldest, and `lost` counts them.
    With QoS 1 a message leaves the buffer when the broker has acknowledged it: after a broken connection the first
    one may be sent twice, none is skipped. With QoS 0 what was on its way when the broker died is lost.
    """

    def __init__(
        self,
        client: Callable[[aiomqtt.Will], aiomqtt.Client],
        topic: str,
        qos: int,
        limit: int,
        log: logging.Logger,
    ) -> None:
        self.topic = topic
        self.lost = 0
        self._client = client
        self._pose, self._status, self._event = f"{topic}/pose", f"{topic}/status", f"{topic}/event"
        self._qos = qos
        self._limit = limit
        self._log = log
        self._buffer: deque[_Waiting] = deque()
        self._lock = threading.Lock()
        self._awake = asyncio.Event()
        self._ending = False

    @property
    def waiting(self) -> int:
        """Messages in the buffer."""
        return len(self._buffer)

    def offer(self, data: bytes, *, event: bool = False) -> None:
        """Queue a message for sending, from any thread; follow it with `wake()` on the loop.

        A full buffer loses its oldest frame; events, which nobody can make up for, only where there is no frame.
        """
        with self._lock:
            if len(self._buffer) >= self._limit:
                oldest = next((i for i, waiting in enumerate(self._buffer) if not waiting.event), 0)
                del self._buffer[oldest]
                self.lost += 1
            self._buffer.append(_Waiting(data, event))

    def wake(self) -> None:
        """There may be something to send."""
        self._awake.set()

    def end(self) -> None:
        """Let `run()` return once the buffer is empty."""
        self._ending = True
        self._awake.set()

    async def run(self) -> None:
        """Connect and send until `end()`; connect again whenever the connection breaks."""
        delay, away = RETRY_FIRST, False
        while True:
            try:
                async with self._client(aiomqtt.Will(self._status, "offline", STATUS_QOS, True)) as client:
                    await client.publish(self._status, "online", STATUS_QOS, True)
                    if away:
                        self._log.info("the broker is back: %s; %d messages lost so far", self._pose, self.lost)
                    delay, away = RETRY_FIRST, False
                    try:
                        await self._send_until_broken(client)
                    except asyncio.CancelledError:  # the time is up: this goes out last, or not at all
                        await client.publish(self._status, "offline", STATUS_QOS, True, timeout=0.5)
                        raise
                    await client.publish(self._status, "offline", STATUS_QOS, True)
                    return
            except aiomqtt.MqttError as error:
                if not away:
                    self._log.warning("the broker is away (%s); %s waits in memory", error, self._pose)
                away = True
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST)

    async def _send_until_broken(self, client: aiomqtt.Client) -> None:
        # A publish does not notice that the connection broke while it waits for its acknowledgement; the reader does.
        sender = asyncio.create_task(self._send(client))
        reader = asyncio.create_task(self._read(client))
        try:
            await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
            await (sender if sender.done() else reader)
        finally:
            for task in (sender, reader):
                task.cancel()
            await asyncio.gather(sender, reader, return_exceptions=True)

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            self._awake.clear()
            while (waiting := self._first()) is not None:
                if waiting.event:
                    await client.publish(self._event, waiting.data, EVENT_QOS)
                else:
                    await client.publish(self._pose, waiting.data, self._qos)
                self._sent(waiting)
            if self._ending:
                return
            await self._awake.wait()

    @staticmethod
    async def _read(client: aiomqtt.Client) -> None:
        async for _ in client.messages:
            pass

    def _first(self) -> _Waiting | None:
        with self._lock:
            return self._buffer[0] if self._buffer else None

    def _sent(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._buffer and self._buffer[0] is waiting:  # it may have been pushed out meanwhile
                self._buffer.popleft()
