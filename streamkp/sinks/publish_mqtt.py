"""`publish-mqtt`: every frame to an MQTT broker.

* `{prefix}/{stream}/pose` one message per frame, as in `streamkp.wire`; not retained
* `{prefix}/{stream}/event` one message per event of a frame (a repetition, a fall), with QoS 1: `v`, `stream`,
  `epoch`, `seq`, `pts`, `captured_at`, and what the event says; not retained
* `{prefix}/{stream}/status` retained, JSON: `v`, `type`, `stream`, `state`, `reason`, `since`, `epoch`, `picture`, as
  in `streamkp.wire.StatusMessage`, on every change. The last will of that stream's connection says `failed`, so it is
  true after a crash as well. A subscriber that comes later knows at once.

While the broker is away each stream keeps its newest `buffer` messages, and sends them in order when it is back. What
did not fit is counted (`undelivered` in the statistics), and in `dropped` of the next frame that goes out. At the end
of the graph what waits is sent within a few seconds, then dropped with a warning. The latency in the statistics is from
capture to the broker's acknowledgement with QoS 1, and to the write to the socket with QoS 0.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from pydantic import Field, SecretStr

from streamkp import wire
from streamkp.errors import OutputError, UsageError
from streamkp.graph.loop_thread import LoopThread
from streamkp.graph.stage import StageOptions
from streamkp.graph.status import Status
from streamkp.sinks._mqtt_broker import HOST, start_broker, unacknowledged
from streamkp.sinks._mqtt_client import MqttClient
from streamkp.sinks._mqtt_stream import MqttStream
from streamkp.sinks.message_sink import MessageSink
from streamkp.uris import mask_address, split

ANSWER_SECONDS = 5.0  # a broker that takes longer for one acknowledgement counts as gone
FLUSH_SECONDS = 3.0
LINGER_SECONDS = 30.0  # an ended stream's messages wait that long for a broker that is away
PORTS = {"mqtt": 1883, "mqtts": 8883}


_QUIET = logging.getLogger("streamkp.mqtt-client")
_QUIET.setLevel(logging.CRITICAL)  # what it warns of, `MqttStream` says in our words; as in `streamkp.fleet.broker`


@dataclass(frozen=True, repr=False)
class _Address:
    """The address and credentials of a broker; the credentials appear in no text."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


class PublishMqtt(MessageSink):
    """Publishes every frame to an MQTT broker, or to one that it runs itself (`broker: embedded`)."""

    light = True

    class Options(StageOptions):
        broker: str = Field(
            repr=False, description="`embedded`, a host, or mqtt://user:password@host:port (mqtts:// for TLS)."
        )
        port: int | None = Field(None, ge=1, le=65535, description="Port; 1883 by default, 8883 with TLS.")
        username: str | None = Field(None, description="User name, if not in `broker`.")
        password: SecretStr | None = Field(None, description="Password, if not in `broker`.")
        tls: bool = Field(False, description="Speak TLS, as mqtts:// does.")
        tls_ca: Path | None = Field(None, description="Trust these authorities (PEM) instead of the system's.")
        qos: Literal[0, 1] = Field(0, description="1: the broker acknowledges every message.")
        prefix: str = Field(
            "streamkp", pattern=r"^[^+#\x00/]([^+#\x00]*[^+#\x00/])?$", description="First part of the topics."
        )
        format: wire.Format = Field("msgpack", description="msgpack or json.")
        wait_for_broker: bool = Field(
            False, description="Start although no broker is there, and keep trying; a wrong password still is an error."
        )
        buffer: int = Field(1000, ge=1, description="Messages of each stream to keep while the broker is away.")

    options: Options
    delivers_later = True

    def notice(self) -> str:
        return f"publishing to mqtt://{self._address.host}:{self._address.port}, topics {self.options.prefix}/..."

    def open(self) -> None:
        self._address = self._find_address()
        self._streams: dict[str, MqttStream] = {}  # by stream id, for any thread with the lock
        self._lock = threading.Lock()
        self._running: dict[str, tuple[MqttStream, asyncio.Task[None]]] = {}  # by topic, for the loop's
        self._broker: Any = None
        self._loop = LoopThread(self.context.name)
        self._loop.start()
        try:
            self._loop.call(self._begin())
        except BaseException:
            self._loop.stop()
            raise
        self.follow_streams(self._changed)

    def send(self, message: wire.Message) -> None:
        self._loop.check()
        stream = self._stream(message["stream"])
        stream.offer(message)
        for event in message["events"]:
            frame = {key: message[key] for key in ("v", "stream", "epoch", "seq", "pts", "captured_at")}
            stream.offer(event | frame, event=True)
        self._loop.post(stream.wake)

    def stream_ended(self, stream: str) -> None:
        super().stream_ended(stream)
        with self._lock:
            ended = self._streams.pop(stream, None)
        if ended is not None:
            self._loop.post(self._end, ended)

    def close(self) -> None:
        self.unfollow_streams()
        try:
            self._loop.call(self._finish())
        finally:
            self._loop.stop()
        self._loop.check()

    def _stream(self, name: str) -> MqttStream:
        with self._lock:
            stream = self._streams.get(name)
            if stream is None:
                stream = self._streams[name] = self._new_stream(name)
                self._loop.post(self._start, stream)
            return stream

    def _changed(self, name: str, status: Status | None) -> None:
        if status is not None:
            stream = self._stream(name)
            stream.set_status(_status(name, status), final=status.final)
            self._loop.post(stream.wake)

    def _find_address(self) -> _Address:
        options = self.options
        tls, user, password = options.tls, options.username, options.password
        if options.broker == "embedded":
            return _Address(HOST, options.port or PORTS["mqtt"], None, None, None)
        text = options.broker if "://" in options.broker else f"mqtt://{options.broker}"
        address = split(text)
        try:
            url = urlsplit(f"{address.scheme}://{address.rest}")
            port, host = options.port or url.port, url.hostname
        except ValueError:
            port = host = None
            url = urlsplit("")
        if url.scheme not in PORTS or not host or url.path.strip("/") or url.query:
            shown = mask_address(text).removeprefix("" if "://" in options.broker else "mqtt://")
            raise UsageError(
                f"{self.context.name}: broker {shown!r} is not `embedded`, a host name, or "
                "mqtt://user:password@host:port (mqtts:// for TLS)"
            )
        tls = tls or url.scheme == "mqtts"
        return _Address(
            host,
            port or PORTS["mqtts" if tls else "mqtt"],
            address.user or user,
            address.password or (password.get_secret_value() if password else None),
            self._tls_context() if tls else None,
        )

    def _tls_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.options.tls_ca)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{self.context.name}: cannot use tls_ca {self.options.tls_ca}: {error}") from None

    def _new_client(self, identifier: str, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
        address = self._address
        return MqttClient(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            tls_context=address.tls,
            identifier=identifier,
            will=will,
            timeout=ANSWER_SECONDS,
            keepalive=15,
            logger=_QUIET,
        )

    def _new_stream(self, stream: str) -> MqttStream:
        # The same name on every connection of this stream: a broker then ends the old one before it takes the new.
        name = f"streamkp-{uuid.uuid4().hex[:12]}"
        gone = {"state": "failed", "reason": "the publisher is gone: it died, or its connection broke"}
        will = wire.status_message(stream, {**gone, "since": None, "epoch": 0, "picture": None})
        return MqttStream(
            stream,
            lambda will: self._new_client(name, will),
            f"{self.options.prefix}/{re.sub(r'[/+#]', '_', stream)}",
            self.options.qos,
            self.options.format,
            self.options.buffer,
            self.context.log,
            will=wire.encode(will, "json"),
            sent=lambda message: self.context.delivered(stream, message["captured_at"]),
            lose=lambda count: self.context.undelivered(stream, count),
        )

    async def _begin(self) -> None:
        address = self._address
        if self.options.broker == "embedded":
            self._broker = await start_broker(address.port)
            self.context.log.info("the embedded broker is at mqtt://%s:%d", address.host, address.port)
        try:
            async with self._new_client(f"streamkp-{uuid.uuid4().hex[:12]}"):
                pass
        except aiomqtt.MqttError as error:
            refused = isinstance(error, MqttConnectError)  # there is a broker, and it does not want us
            if self.options.wait_for_broker and self._broker is None and not refused:
                self.context.log.warning(
                    "no MQTT broker takes us at %s port %d yet (%s); trying again", address.host, address.port, error
                )
                return
            if self._broker is not None:
                await self._broker.shutdown()
            raise OutputError(
                f"{self.context.name}: no MQTT broker takes us at {address.host} port {address.port}: {error}; "
                "start one, correct `broker`, or use `broker: embedded`"
            ) from None

    def _start(self, stream: MqttStream) -> None:
        before = self._running.get(stream.topic)

        async def run() -> None:
            if before is not None:  # a stream of the same name that has ended says `offline` first
                await asyncio.wait({before[1]})
            await stream.run()

        def forget(task: asyncio.Task[None]) -> None:
            self._give_up(stream)
            if self._running.get(stream.topic) == (stream, task):
                del self._running[stream.topic]

        task = self._loop.spawn(run())
        self._running[stream.topic] = stream, task
        task.add_done_callback(forget)

    def _end(self, stream: MqttStream) -> None:
        stream.end(self._stopped(stream))
        if (running := self._running.get(stream.topic)) is not None and running[0] is stream:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, running[1].cancel)

    def _give_up(self, stream: MqttStream) -> None:
        if count := stream.lose_waiting():
            self.context.log.warning("%s: %d messages were not sent: the broker is away", stream.topic, count)

    def _stopped(self, stream: MqttStream) -> bytes:
        """The last status of a stream that the graph has not seen to its end."""
        return _status(stream.name, Status("ended", "the graph was stopped", self.context.clock.now()))

    async def _finish(self) -> None:
        streams = [stream for stream, _ in self._running.values()]
        tasks = {task for _, task in self._running.values()}
        for stream in streams:
            stream.end(self._stopped(stream))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=FLUSH_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for stream in streams:
            self._give_up(stream)
        if self._broker is not None:
            await self._settle()
            await self._broker.shutdown()

    async def _settle(self) -> None:
        """Wait until the embedded broker has handed on what it acknowledged: it forgets the rest when it ends.

        It hands messages on in the order in which they came, so once a message to ourselves is back all others are on
        their way; those of QoS 1 have arrived when they are acknowledged. A connection that is closed before that loses
        what its client has not read.
        """
        assert self._broker is not None
        topic = f"{self.options.prefix}/{uuid.uuid4().hex}"
        try:
            async with asyncio.timeout(FLUSH_SECONDS), self._new_client(f"streamkp-{uuid.uuid4().hex[:12]}") as client:
                await client.subscribe(topic, 1)
                await client.publish(topic, b"", 1)
                await anext(aiter(client.messages))
                while waiting := unacknowledged(self._broker):
                    await asyncio.wait(waiting)
        except (aiomqtt.MqttError, TimeoutError):
            self.context.log.warning("the embedded broker ends before it has handed on every message")


def _status(stream: str, status: Status) -> bytes:
    return wire.encode(wire.status_message(stream, status.as_json()), "json")
