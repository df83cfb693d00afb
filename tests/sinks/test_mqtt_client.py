"""What aiomqtt does not do, and its client here does."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiomqtt
import pytest

from streamkp.sinks._mqtt_client import MqttClient


class Paho:
    """Stands in for the client that writes when the socket is ready."""

    def __init__(self) -> None:
        self.written = asyncio.Event()

    def loop_write(self) -> None:
        self.written.set()


def test_a_socket_that_is_closed_in_time_is_not_watched() -> None:
    async def scenario() -> list[dict[str, Any]]:
        loop, troubles = asyncio.get_running_loop(), list[dict[str, Any]]()
        loop.set_exception_handler(lambda _, context: troubles.append(context))
        client, paho = MqttClient("127.0.0.1"), Paho()
        ours, theirs = socket.socketpair()
        number = ours.fileno()
        client._on_socket_register_write(paho, None, ours)
        ours.close()
        other = theirs.dup()  # gets the number that has become free
        assert other.fileno() == number
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not loop.remove_writer(number)
        assert not paho.written.is_set()
        other.close()
        theirs.close()
        return troubles

    assert asyncio.run(scenario()) == []


def test_an_open_socket_is_watched() -> None:
    async def scenario() -> None:
        client, paho = MqttClient("127.0.0.1"), Paho()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            client._on_socket_register_write(paho, None, ours)
            async with asyncio.timeout(10):
                await paho.written.wait()
            assert asyncio.get_running_loop().remove_writer(ours.fileno())

    asyncio.run(scenario())


def test_a_connection_that_is_closed_at_once_is_not_waited_for() -> None:
    async def scenario() -> None:
        async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        server = await asyncio.start_server(close, "127.0.0.1", 0)
        client = MqttClient("127.0.0.1", server.sockets[0].getsockname()[1], timeout=120)
        async with asyncio.timeout(30), server:
            for _ in range(2):  # it can be used again
                with pytest.raises(aiomqtt.MqttError):
                    await client.__aenter__()

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(scenario())
