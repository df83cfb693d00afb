"""The toxic proxy between a server that echoes and plain clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from streamkp.bench.toxic import PASS, ToxicProxy, Toxics

LIMIT = 20.0  # seconds that anything may take


@asynccontextmanager
async def proxied() -> AsyncIterator[ToxicProxy]:
    """A proxy in front of a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = await ToxicProxy("127.0.0.1", server.sockets[0].getsockname()[1], seed=1).start()
    try:
        yield proxy
    finally:
        await proxy.close()
        server.close()


class Client:
    """A connection that tells what it gets back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def echo(self, data: bytes) -> bytes:
        self.writer.write(data)
        return await self.reader.readexactly(len(data))


async def connect(proxy: ToxicProxy) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", proxy.port))


def run(scenario: Callable[[ToxicProxy], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT), proxied() as proxy:
            await scenario(proxy)

    asyncio.run(main())


def test_everything_passes_unharmed() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        data = bytes(range(256)) * 4000
        client = await connect(proxy)
        client.writer.write(data)
        assert await client.reader.readexactly(len(data)) == data
        client.writer.write_eof()
        assert await client.reader.read() == b""
        assert proxy.accepted == 1

    run(scenario)


def test_latency_and_jitter_keep_the_order() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client, loop = await connect(proxy), asyncio.get_running_loop()
        await client.echo(b"before")
        await proxy.set(Toxics(latency=0.05, jitter=0.1))
        started = loop.time()
        for n in range(20):
            client.writer.write(bytes([n]))
            await asyncio.sleep(0.001)
        assert await client.reader.readexactly(20) == bytes(range(20))
        assert loop.time() - started >= 0.1, "late on the way there and back"

    run(scenario)


def test_a_lost_segment_holds_up_what_follows_it() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client, loop = await connect(proxy), asyncio.get_running_loop()
        await proxy.set(Toxics(loss=1.0, retransmission=0.1))
        started = loop.time()
        assert await client.echo(b"hello") == b"hello"
        assert loop.time() - started >= 0.2

    run(scenario)


def test_a_stall_delivers_afterwards() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client = await connect(proxy)
        await client.echo(b"before")
        await proxy.set(Toxics(stall=True))
        client.writer.write(b"held")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading := asyncio.ensure_future(client.reader.read(4))), 0.1)
        await proxy.set(PASS)
        assert await reading == b"held"

    run(scenario)


def test_half_open_connections_hang_then_break() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        old = await connect(proxy)
        await old.echo(b"before")
        await proxy.set(Toxics(half_open=True))
        new = await connect(proxy)
        for client in (old, new):
            client.writer.write(b"anybody there?")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.1)
        await proxy.set(PASS)
        for client in (old, new):
            with pytest.raises(ConnectionResetError):
                await client.reader.read(1)
        assert await (await connect(proxy)).echo(b"after") == b"after"

    run(scenario)


def test_reset() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client = await connect(proxy)
        await client.echo(b"before")
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            await client.reader.read(1)
        assert await (await connect(proxy)).echo(b"after") == b"after"

    run(scenario)


def test_refused_and_taken_again_on_the_same_port() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        port = proxy.port
        client = await connect(proxy)
        await client.echo(b"before")
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
        await proxy.accept()
        assert proxy.port == port
        assert await (await connect(proxy)).echo(b"after") == b"after"

    run(scenario)


def test_bandwidth() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client, loop = await connect(proxy), asyncio.get_running_loop()
        await proxy.set(Toxics(bandwidth=100_000))
        started = loop.time()
        data = bytes(30_000)
        assert await client.echo(data) == data
        assert loop.time() - started >= 0.2

    run(scenario)


def test_flipped_bytes_are_as_many_as_asked_for() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client = await connect(proxy)
        await proxy.set(Toxics(flip=0.01))
        data = bytes(10_000)
        got = await client.echo(data)
        changed = [byte for byte in got if byte]
        assert 50 < len(changed) < 200
        assert all(byte.bit_count() == 1 for byte in changed)
        assert proxy.flipped == len(changed)

    run(scenario)


def test_closing_leaves_nothing_open() -> None:
    async def scenario(proxy: ToxicProxy) -> None:
        client = await connect(proxy)
        await client.echo(b"before")
        await proxy.set(Toxics(stall=True))
        client.writer.write(b"held")
        await proxy.close()
        assert proxy.open == 0
        assert len(asyncio.all_tasks()) <= 2, "this one, and the server's"

    run(scenario)
