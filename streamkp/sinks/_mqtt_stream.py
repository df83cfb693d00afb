"""One stream's connection to an MQTT broker.

MQTT allows one last will per connection, and `{prefix}/{stream}/status` must turn to `failed` for every stream when
this process dies. So every stream has a connection of its own; a stream that is slow to be acknowledged then does
not hold up another either.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import aiomqtt

from streamkp import wire
from streamkp.graph.context_log import ContextLog

RETRY_FIRST, RETRY_MOST = 0.2, 5.0  # seconds between two attempts to connect
STATUS_QOS = EVENT_QOS = 1


@dataclass(eq=False, slots=True)
class _Waiting:
    message: wire.Message
    event: bool


class MqttStream:
    """Sends one stream's messages in order. `offer()` and `set_status()` are for any thread, the rest for the loop's.

    Messages wait in a bounded buffer while the broker is away; a full one loses its oldest, and `lost` counts them. The
    next frame that goes out tells of the frames among them in its `dropped`. The status is not in the buffer: the
    newest one goes out as soon as the broker is there, a final one after the last message.

    With QoS 1 a message leaves the buffer when the broker has acknowledged it: after a broken connection the first
    one may be sent twice, none is skipped. With QoS 0 what was on its way when the broker died is lost.
    """

    def __init__(
        self,
        name: str,
        client: Callable[[aiomqtt.Will], aiomqtt.Client],
        topic: str,
        qos: int,
        format: wire.Format,
        limit: int,
        log: logging.Logger | ContextLog,
        *,
        will: bytes,
        sent: Callable[[wire.Message], None] = lambda _: None,
        lose: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`will` is the status that the broker publishes for us. `sent` hears of each frame that the broker has
        acknowledged (QoS 1) or that is on the socket (QoS 0), `lose` of messages that were lost."""
        self.name = name
        self.topic = topic
        self.lost = 0
        self._client = client
        self._pose, self._status, self._event = f"{topic}/pose", f"{topic}/status", f"{topic}/event"
        self._qos = qos
        self._format = format
        self._will = will
        self._on_sent, self._on_lost = sent, lose
        self._current: bytes | None = None  # status
        self._final: bytes | None = None
        self._to_tell = False  # the current status has yet to go out
        self._sending: _Waiting | None = None
        self._owed = 0  # lost frames that no frame in the buffer tells of
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

    def set_status(self, data: bytes, *, final: bool = False) -> None:
        """The status to publish; follow it with `wake()` on the loop."""
        with self._lock:
            if final:
                self._final = data
            else:
                self._current, self._to_tell = data, True

    def offer(self, message: wire.Message, *, event: bool = False) -> None:
        """Queue a message for sending, from any thread; follow it with `wake()` on the loop.

        A full buffer loses its oldest frame; events, which nobody can make up for, only where there is no frame.
        """
        with self._lock:
            if not event:
                message["dropped"] += self._owed
                self._owed = 0
            self._buffer.append(_Waiting(message, event))
            if len(self._buffer) > self._limit:
                self._lose_oldest()

    def wake(self) -> None:
        """There may be something to send."""
        self._awake.set()

    def end(self, status: bytes) -> None:
        """Let `run()` return once the buffer is empty; `status` is the last one where none has been set."""
        with self._lock:
            self._final = self._final or status
        self._ending = True
        self._awake.set()

    def lose_waiting(self) -> int:
        """Count what is in the buffer as lost, for nobody will send it; returns how many messages that are."""
        with self._lock:
            count, self._buffer = len(self._buffer), deque()
        self.lost += count
        self._on_lost(count)
        return count

    async def run(self) -> None:
        """Connect and send until `end()`; connect again whenever the connection breaks."""
        delay, away = RETRY_FIRST, False
        while True:
            try:
                async with self._client(aiomqtt.Will(self._status, self._will, STATUS_QOS, True)) as client:
                    with self._lock:
                        self._to_tell = self._current is not None
                    await self._tell_status(client)
                    if away:
                        self._log.warning("the broker is back: %s; %d messages lost so far", self._pose, self.lost)
                    delay, away = RETRY_FIRST, False
                    try:
                        await self._send_until_broken(client)
                    except asyncio.CancelledError:  # the time is up: this goes out last, or not at all
                        if self._final is not None:
                            await client.publish(self._status, self._final, STATUS_QOS, True, timeout=0.5)
                        raise
                    await client.publish(self._status, self._final, STATUS_QOS, True)
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
            await self._tell_status(client)
            while (waiting := self._first()) is not None:
                data = wire.encode(waiting.message, self._format)
                try:
                    if waiting.event:
                        await client.publish(self._event, data, EVENT_QOS)
                    else:
                        await client.publish(self._pose, data, self._qos)
                    self._sent(waiting)
                finally:
                    self._sending = None
                await self._tell_status(client)
            if self._ending:
                return
            await self._awake.wait()

    async def _tell_status(self, client: aiomqtt.Client) -> None:
        with self._lock:
            data, wanted = self._current, self._to_tell
        if wanted:
            await client.publish(self._status, data, STATUS_QOS, True)
            with self._lock:
                self._to_tell = self._current is not data

    async def _read(self, client: aiomqtt.Client) -> None:
        """Notice a broken connection, and another program's status of an earlier epoch over ours: the last will of a
        process that had the stream before, and whose end the broker has noticed late.
        """
        await client.subscribe(self._status, STATUS_QOS)
        async for message in client.messages:
            with self._lock:
                ours = self._current
                if ours is None or self._final is not None or not _is_earlier(message.payload, ours):
                    continue
                self._to_tell = True
            self._awake.set()

    def _first(self) -> _Waiting | None:
        with self._lock:
            self._sending = self._buffer[0] if self._buffer else None
            return self._sending

    def _sent(self, waiting: _Waiting) -> None:
        with self._lock:
            self._buffer.remove(waiting)
        if not waiting.event:
            self._on_sent(waiting.message)

    def _lose_oldest(self) -> None:
        """Make room. What is being sent stays, since it may arrive."""
        places = [i for i, waiting in enumerate(self._buffer) if waiting is not self._sending]
        oldest = next((i for i in places if not self._buffer[i].event), places[0])
        gone = self._buffer[oldest]
        del self._buffer[oldest]
        self.lost += 1
        self._on_lost(1)
        if not gone.event:
            frames = 1 + int(gone.message["dropped"])
            heir = next((w for w in list(self._buffer)[oldest:] if not w.event), None)
            if heir is None:
                self._owed += frames
            else:
                heir.message["dropped"] += frames


def _is_earlier(theirs: object, ours: bytes) -> bool:
    """Whether a status is of an earlier epoch than ours."""
    try:
        return isinstance(theirs, bytes) and int(json.loads(theirs)["epoch"]) < int(json.loads(ours)["epoch"])
    except (ValueError, KeyError, TypeError):
        return False
