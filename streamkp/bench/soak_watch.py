"""What the soak test sees of the program: messages over MQTT and WebSocket, and the process from outside."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from streamkp import wire
from streamkp.errors import SourceError

NANO = 1_000_000_000


@dataclass
class Tally:
    """What went wrong with one stream's messages at a subscriber."""

    messages: int = 0
    lost: int = 0  # gaps in `seq` beyond the frames that the message itself says were dropped
    duplicated: int = 0
    redelivered: int = 0  # sent again by the broker, and marked so by it
    reordered: int = 0
    dropped: int = 0  # as the messages say

    def add(self, other: Tally) -> None:
        """Sum up."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def minus(self, other: Tally) -> Tally:
        """What came after `other` was taken."""
        return Tally(**{name: value - getattr(other, name) for name, value in vars(self).items()})


class Ledger:
    """Judges the order of one stream's messages."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._seen: set[int] = set()
        self._last: int | None = None

    def add(self, seq: int, dropped: int, repeated: bool) -> None:
        """One message, in the order of arrival; `repeated`: the broker has marked it as sent again."""
        tally = self.tally
        if seq in self._seen:
            if repeated:
                tally.redelivered += 1
            else:
                tally.duplicated += 1
            return
        tally.messages += 1
        tally.dropped += dropped
        self._seen.add(seq)
        if self._last is None:
            self._last = seq
        elif seq < self._last:
            tally.reordered += 1
        else:
            tally.lost += max(0, seq - self._last - 1 - dropped)
            self._last = seq


class MqttConsumer:
    """Subscribes to every pose at QoS 1 in a session that the broker keeps, so that nothing is lost on this side."""

    def __init__(self, port: int) -> None:
        self.newest: dict[str, int] = {}  # by stream: `captured_at` of the newest message
        self._ledgers: defaultdict[str, Ledger] = defaultdict(Ledger)
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "streamkp-soak", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("streamkp/+/pose", 1)
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not self._subscribed.wait(20):
            raise SourceError("the broker does not take the soak test's own subscription")

    def tallies(self) -> dict[str, Tally]:
        """By stream, so far."""
        with self._lock:
            return {name: Tally(**vars(ledger.tally)) for name, ledger in self._ledgers.items()}

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _: Any, __: Any, got: mqtt.MQTTMessage) -> None:
        message = wire.decode(bytes(got.payload))
        with self._lock:
            self._ledgers[message["stream"]].add(message["seq"], message["dropped"], got.dup)
            self.newest[message["stream"]] = max(message["captured_at"], self.newest.get(message["stream"], 0))


@dataclass
class WebConsumer:
    """A WebSocket client that takes every message as it comes, and connects again where it is cut off."""

    url: str
    newest: dict[str, int] = field(default_factory=dict)  # by stream: `captured_at` of the newest frame
    lost: int = 0  # messages that the server says this client was too slow for
    connections: int = 0
    _latencies: list[tuple[int, float]] = field(default_factory=list)  # Unix ns of arrival, milliseconds

    async def run(self) -> None:
        """Read until cancelled."""
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.ws_connect(f"{self.url}/ws") as socket:
                        self.connections += 1
                        async for message in socket:
                            self._take(wire.decode(message.data))
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)

    def latencies(self, start: int, end: int) -> list[float]:
        """Milliseconds from capture to arrival here, of the frames that arrived between two times (Unix ns)."""
        return [late for at, late in self._latencies if start <= at < end]

    def _take(self, message: wire.Message) -> None:
        if message.get("type") == "lost":
            self.lost += message["messages"]
        if "type" in message:
            return
        now = time.time_ns()
        self.newest[message["stream"]] = message["captured_at"]
        self._latencies.append((now, (now - message["captured_at"]) / 1e6))


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    at: float  # seconds, monotonic
    rss: float  # MiB
    descriptors: int
    threads: int


class Meter:
    """Reads the memory, descriptors and threads of a process from `/proc`."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._page = os.sysconf("SC_PAGE_SIZE")
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Take a sample each second, until cancelled or the process is gone."""
        while (sample := self.read()) is not None:
            self.samples.append(sample)
            await asyncio.sleep(1)

    def read(self) -> Sample | None:
        """The process now; None when it is gone."""
        try:
            pages = int((self._folder / "statm").read_text().split()[1])
            descriptors = len(os.listdir(self._folder / "fd"))
            threads = len(os.listdir(self._folder / "task"))
        except (OSError, IndexError):
            return None
        return Sample(time.monotonic(), pages * self._page / 2**20, descriptors, threads)

    def growth(self, after: float) -> float | None:
        """Share by which the memory grew: median of the last tenth (30 s at least), over the median of the 30 s that
        follow the first `after` seconds; None where the run was too short to tell.
        """
        if not self.samples:
            return None
        start, end = self.samples[0].at + after, self.samples[-1].at
        tail = max(30.0, (end - start) / 10)
        if end - tail < start + 30:
            return None
        early = np.median([s.rss for s in self.samples if start <= s.at < start + 30])
        late = np.median([s.rss for s in self.samples if s.at >= end - tail])
        return float(late / early - 1)


def percentile(values: Iterable[float], q: float) -> float | None:
    """The q-th percentile, None of nothing."""
    found = list(values)
    return float(np.percentile(found, q)) if found else None
