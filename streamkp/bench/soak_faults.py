"""The faults that the soak test injects, each with its beginning and its end."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from urllib.parse import urlsplit

import aiohttp

from streamkp.bench.servers import Mosquitto, RtspServer
from streamkp.bench.toxic import PASS, ToxicProxy, Toxics

SILENT_CLIENTS = 40
BUSY_CLIENTS = 10
Area = Literal["camera", "server", "broker", "clients"]


@dataclass
class Rig:
    """Everything around the program that can be broken."""

    cameras: Sequence[ToxicProxy]  # one before each stream
    servers: Sequence[RtspServer]  # stream n comes from server n % len(servers)
    broker: Mosquitto
    broker_link: ToxicProxy
    page: str  # http address of the program
    bitrate: float  # bytes a second of one stream
    held: list[socket.socket] = field(default_factory=list)  # clients that never read
    busy: list[asyncio.Task[None]] = field(default_factory=list)  # clients that come and go

    def streams_of(self, server: int) -> list[int]:
        """The numbers of the streams that a server plays."""
        return [n for n in range(len(self.cameras)) if n % len(self.servers) == server]


Act = Callable[[Rig, int], Awaitable[None]]  # the number of the camera or server; broker and clients have none


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    area: Area
    begin: Act
    end: Act


def _toxic(name: str, make: Callable[[Rig], Toxics]) -> Fault:
    async def begin(rig: Rig, number: int) -> None:
        await rig.cameras[number].set(make(rig))

    async def end(rig: Rig, number: int) -> None:
        await rig.cameras[number].set(PASS)

    return Fault(name, "camera", begin, end)


async def _nothing(rig: Rig, number: int) -> None:
    pass


async def _reset(rig: Rig, number: int) -> None:
    rig.cameras[number].reset_all()


async def _refuse(rig: Rig, number: int) -> None:
    await rig.cameras[number].refuse()


async def _accept(rig: Rig, number: int) -> None:
    await rig.cameras[number].accept()


async def _server(act: Callable[[RtspServer], None], rig: Rig, number: int) -> None:
    await asyncio.to_thread(act, rig.servers[number])


async def _broker(act: Callable[[Mosquitto], None], rig: Rig, number: int) -> None:
    await asyncio.to_thread(act, rig.broker)


async def _link(toxics: Toxics, rig: Rig, number: int) -> None:
    await rig.broker_link.set(toxics)


async def _reset_link(rig: Rig, number: int) -> None:
    rig.broker_link.reset_all()


async def _never_read(rig: Rig, number: int) -> None:
    """Clients that ask for everything and read nothing."""
    address = urlsplit(rig.page)
    assert address.port is not None
    for _ in range(SILENT_CLIENTS):
        client = socket.create_connection(("127.0.0.1", address.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        rig.held.append(client)


async def _leave(rig: Rig, number: int) -> None:
    while rig.held:
        rig.held.pop().close()


async def _come_and_go(rig: Rig, number: int) -> None:
    async def visit() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.ws_connect(f"{rig.page}/ws") as client:
                        await client.receive(timeout=2)
                await asyncio.sleep(0.01)

    rig.busy.extend(asyncio.create_task(visit()) for _ in range(BUSY_CLIENTS))


async def _stay_away(rig: Rig, number: int) -> None:
    for task in rig.busy:
        task.cancel()
    await asyncio.gather(*rig.busy, return_exceptions=True)
    rig.busy.clear()


CAMERA = (
    _toxic("latency 300 ms", lambda _: Toxics(latency=0.3)),
    _toxic("jitter 0-400 ms", lambda _: Toxics(latency=0.05, jitter=0.4)),
    _toxic("loss 20 %", lambda _: Toxics(loss=0.2)),
    _toxic("half the bandwidth", lambda rig: Toxics(bandwidth=rig.bitrate / 2)),
    _toxic("stall", lambda _: Toxics(stall=True)),
    _toxic("half-open", lambda _: Toxics(half_open=True)),
    _toxic("flipped bytes 0.1 %", lambda _: Toxics(flip=0.001)),
    Fault("connection reset", "camera", _reset, _nothing),
    Fault("connection refused", "camera", _refuse, _accept),
)
WIDE = (
    Fault("RTSP server killed", "server", partial(_server, RtspServer.kill), partial(_server, RtspServer.start)),
    Fault("broker killed", "broker", partial(_broker, Mosquitto.kill), partial(_broker, Mosquitto.start)),
    Fault("clients that never read", "clients", _never_read, _leave),
    Fault("RTSP server frozen", "server", partial(_server, RtspServer.freeze), partial(_server, RtspServer.thaw)),
    Fault("broker frozen", "broker", partial(_broker, Mosquitto.freeze), partial(_broker, Mosquitto.thaw)),
    Fault("clients that come and go", "clients", _come_and_go, _stay_away),
    Fault(
        "no video, audio goes on", "server",
        partial(_server, lambda s: s.mode("silent")), partial(_server, lambda s: s.mode("video")),
    ),
    Fault("broker connection reset", "broker", _reset_link, _nothing),
    Fault(
        "undecodable video", "server",
        partial(_server, lambda s: s.mode("damaged")), partial(_server, lambda s: s.mode("video")),
    ),
    Fault("broker half-open", "broker", partial(_link, Toxics(half_open=True)), partial(_link, PASS)),
)  # fmt: skip


class Deck:
    """Deals faults at random, each as often as the others."""

    def __init__(self, faults: Sequence[Fault], chance: random.Random) -> None:
        self._faults, self._chance = faults, chance
        self._left: list[Fault] = []

    def deal(self) -> Fault:
        """The next fault."""
        if not self._left:
            self._left = list(self._faults)
            self._chance.shuffle(self._left)
        return self._left.pop()
