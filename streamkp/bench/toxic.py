"""A TCP proxy that harms what passes through it, to see how a program takes it.

Faults are set while it runs and hold for the connections that exist and for new ones:

>>> proxy = await ToxicProxy("127.0.0.1", 8554).start()   # doctest: +SKIP
>>> proxy.set(Toxics(latency=0.2, jitter=0.1))            # doctest: +SKIP
>>> proxy.reset_all()                                     # doctest: +SKIP

Everything random comes from the seed; what the peers send, and when, does not.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

_CHUNK = 16 * 1024
_QUEUE = 64  # chunks on their way in one direction
_SLICE = 0.05  # seconds' worth of bytes that a limited connection sends at once
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST instead of FIN


@dataclass(frozen=True)
class Toxics:
    """What happens to the bytes. The default lets everything pass.

    `latency`, `jitter` and `loss` hold in both directions, the others from the server to the client.
    """

    latency: float = 0.0  # seconds that every chunk is late
    jitter: float = 0.0  # seconds: each chunk is late by up to so much more; order is kept, as in TCP
    loss: float = 0.0  # probability that a chunk waits for a retransmission
    retransmission: float = 0.3  # seconds that such a chunk, and what follows it, waits
    bandwidth: float | None = None  # bytes a second
    flip: float = 0.0  # probability of each byte to come with one bit flipped
    stall: bool = False  # nothing passes, connections stay open, nothing is lost: it passes afterwards
    half_open: bool = False  # the peer is gone without a word: what comes is swallowed, new connections hang


PASS = Toxics()


class ToxicProxy:
    """Passes connections to `host:port` on. All methods are for the loop on which it was started.

    Args:
        host: the server's host.
        port: the server's port.
        seed: of everything random.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self._upstream = host, port
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._toxics = PASS
        self._changed = asyncio.Condition()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0  # connections so far
        self.flipped = 0  # bytes so far

    @property
    def toxics(self) -> Toxics:
        """What happens now."""
        return self._toxics

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._links)

    async def start(self, port: int = 0) -> Self:
        """Listen on loopback; `port` 0 is any free one."""
        await self._listen(port)
        return self

    async def close(self) -> None:
        """End everything."""
        await self.refuse()
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.wait(self._tasks)

    async def set(self, toxics: Toxics) -> None:
        """From now on this happens. Connections that were half open are reset once they no longer are."""
        healed = self._toxics.half_open and not toxics.half_open
        self._toxics = toxics
        if toxics.half_open:
            for link in self._links:
                link.drop_server()
        if healed:
            self.reset_all()
        async with self._changed:
            self._changed.notify_all()

    def reset_all(self) -> None:
        """Break every connection with RST; new ones are taken."""
        for link in tuple(self._links):
            link.reset()

    async def refuse(self) -> None:
        """Nobody listens any more, and every connection is reset, until `accept`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset_all()

    async def accept(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            await self._listen(self.port)

    async def _listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._pass(link, reader)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a broken connection is what we are here for
        finally:
            self._tasks.discard(task)
            self._links.discard(link)
            link.close()

    async def _pass(self, link: _Link, reader: asyncio.StreamReader) -> None:
        if self._toxics.half_open:
            await self._swallow(reader)
            return
        server, link.server = await asyncio.open_connection(*self._upstream, limit=_CHUNK)
        await _all(
            self._pump(link, reader, link.server, harm=False),
            self._pump(link, server, link.client, harm=True),
        )

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, harm: bool
    ) -> None:
        """One direction: chunks go through a queue with the time at which they are due."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)
        await _all(self._take(reader, queue), self._give(queue, writer, harm))
        with suppress(OSError):
            if writer.can_write_eof() and not self._toxics.half_open:
                writer.write_eof()
        if self._toxics.half_open:
            await self._hang(link)

    async def _take(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop, due = asyncio.get_running_loop(), 0.0
        while data := await reader.read(_CHUNK):
            toxics = self._toxics
            if toxics.half_open:
                continue
            late = toxics.latency + toxics.jitter * self._random.random()
            if toxics.loss and self._random.random() < toxics.loss:
                late += toxics.retransmission
            due = max(due, loop.time() + late)
            await queue.put((due, data))
        await queue.put((due, b""))

    async def _give(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, harm: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await queue.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            async with self._changed:
                await self._changed.wait_for(lambda: not self._toxics.stall)
            if not data:
                return
            toxics = self._toxics
            if toxics.half_open:
                continue
            if not harm:
                writer.write(data)
                await writer.drain()
                continue
            if toxics.flip:
                data = self._flipped(data, toxics.flip)
            if toxics.bandwidth is None:
                writer.write(data)
                await writer.drain()
            else:
                size = max(1, int(toxics.bandwidth * _SLICE))
                for start in range(0, len(data), size):
                    part = data[start : start + size]
                    writer.write(part)
                    await writer.drain()
                    if self._toxics.bandwidth is not None:  # it may be healed in the middle of a chunk
                        await asyncio.sleep(len(part) / self._toxics.bandwidth)

    def _flipped(self, data: bytes, share: float) -> bytes:
        """Some bytes with one bit flipped. The gaps between them are drawn, not each byte."""
        out, at = bytearray(data), -1
        while (at := at + 1 + int(self._random.expovariate(share))) < len(out):
            out[at] ^= 1 << self._random.randrange(8)
            self.flipped += 1
        return bytes(out)

    async def _hang(self, link: _Link) -> None:
        """Keep a connection whose server is gone open, without a word."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._toxics.half_open or link.over)

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(_CHUNK):
            pass


class _Link:
    """One connection: the client's side, and the server's where there is one."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.over = False

    def drop_server(self) -> None:
        """End the server's side; the client is not told."""
        if self.server is not None:
            self.server.transport.abort()

    def reset(self) -> None:
        """Break both sides with RST."""
        self.over = True
        for side in (self.client, self.server):
            if side is not None and (raw := side.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                side.transport.abort()

    def close(self) -> None:
        self.over = True
        for side in (self.client, self.server):
            if side is not None:
                side.transport.abort()


async def _all(*work: Coroutine[Any, Any, None]) -> None:
    """Run all; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
