"""The base of sinks that send one person's motion as OSC over UDP: one socket for the run, and not too often."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import Field
from pythonosc.osc_message_builder import OscMessageBuilder

from streamkp.plugin import Packet, Person, Sink, StageOptions, UsageError
from streamkp_plugins.mocap.performer import Performer

FRAME_RATE = 60  # frames a second that no receiver minds


class OscSink(Sink):
    """Chooses the person, keeps the rate, and measures the time from the capture of a frame to its last datagram."""

    needs = ("kinematics",)
    delivers_later = True  # frames that are left out must not count as sent
    protocol = ""  # its name, for people

    class Options(StageOptions):
        host: str = Field("127.0.0.1", description="Where the receiver runs.")
        port: int = Field(ge=1, le=65535, description="Its port.")
        stream: str | None = Field(None, description="Only this stream; the first that shows a person otherwise.")

    options: Options

    def datagrams(self, packet: Packet, person: Person) -> Iterable[bytes]:
        """What is sent of a person in a frame."""
        raise NotImplementedError

    @classmethod
    def claims(cls, options: Options) -> Sequence[str]:
        return [f"{cls.protocol} receiver {options.host}:{options.port}"]

    def notice(self) -> str:
        return f"{self.protocol} to {self.options.host}:{self.options.port}"

    def open(self) -> None:
        try:
            found = socket.getaddrinfo(self.options.host, self.options.port, type=socket.SOCK_DGRAM)
        except socket.gaierror as error:
            raise UsageError(
                f"{self.context.name}: the host {self.options.host} is not known: {error.strerror}"
            ) from None
        self._address: Any = found[0][4]
        self._socket = socket.socket(found[0][0], socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._performer = Performer(self.options.stream)
        self._next = 0
        self._sent = 0
        self._delays: deque[float] = deque(maxlen=10_000)  # ms from the capture of a frame to its last datagram

    def process(self, packet: Packet) -> None:
        person = self._performer.choose(packet)
        if person is None:
            return
        now = self.context.clock.monotonic()
        if now < self._next:
            return
        # A frame that comes a little early must not make the next one wait for a whole turn.
        self._next = max(self._next + 1_000_000_000 // FRAME_RATE, now - 1_000_000_000 // FRAME_RATE)
        for datagram in self.datagrams(packet, person):
            try:
                self._socket.sendto(datagram, self._address)
            except OSError:  # nobody listens, or a full buffer: the next frame is as good
                continue
        self._sent += 1
        self._delays.append((self.context.clock.now() - packet.since) / 1e6)
        self.context.delivered(packet.stream, packet.since)

    def stream_ended(self, stream: str) -> None:
        self._performer.stream_ended(stream)

    def close(self) -> None:
        self._socket.close()

    def summary(self) -> str:
        """How much was sent, and how late."""
        if not self._delays:
            return f"{self.protocol} to {self.options.host}:{self.options.port}: nobody was seen, nothing was sent"
        half, most = np.percentile(self._delays, [50, 95])
        return (
            f"{self.protocol} to {self.options.host}:{self.options.port}: {self._sent} frames, "
            f"capture to datagram p50 {half:.0f} ms, p95 {most:.0f} ms"
        )


def osc_message(address: str, types: str, *values: Any) -> Any:
    """An OSC message with arguments of these types (s, f, i), whatever they are in Python."""
    builder = OscMessageBuilder(address)
    convert = {"s": str, "f": float, "i": int}
    for kind, value in zip(types, values, strict=True):
        builder.add_arg(convert[kind](value), kind)
    return builder.build()
