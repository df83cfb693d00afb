"""Two nodes of one name: the second does not start."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiomqtt
import pytest

from streamkp.errors import UsageError
from streamkp.fleet import mqtt_node
from streamkp.fleet.broker import Broker
from streamkp.fleet.messages import Beat
from streamkp.fleet.mqtt_node import MqttNode
from streamkp.fleet.node import Node
from streamkp.sinks._mqtt_broker import start_broker


@asynccontextmanager
async def group() -> AsyncIterator[tuple[Broker, aiomqtt.Client]]:
    """A fleet's broker, where a node `n.1` is said to be alive, and a client of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = await start_broker(port)
    broker = Broker(f"mqtt://127.0.0.1:{port}", "g")
    async with broker.client() as client:
        await client.publish(broker.topic("alive", "n.1"), "alive", 1, True)
        yield broker, client
    await running.shutdown()


async def start(name: str, *, beats: bool) -> None:
    """Start a node beside `n.1`, and tell it to end."""
    async with group() as (broker, client):
        node = Node(name, env={})
        node.start()
        stop = asyncio.Event()
        work = asyncio.create_task(MqttNode(node, broker).run(stop))
        number = 0
        async with broker.client() as watching:
            await watching.subscribe(broker.topic("alive", "+"), 1)

            async def until_alive() -> None:
                async for message in watching.messages:
                    if str(message.topic).endswith(node.id):
                        return

            alive = asyncio.create_task(until_alive())
            while not work.done() and not alive.done():
                number += 1
                if beats:
                    beat = Beat(node="n.1", number=number, version=0)
                    await client.publish(broker.topic("beat", "n.1"), beat.encoded(), 1)
                await asyncio.wait((work, alive), timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
            alive.cancel()
        stop.set()
        node.close()
        await work


def test_the_second_node_of_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"a node named n runs in the group g already \(n\.1\).*--name"):
        asyncio.run(start("n", beats=True))


def test_a_name_that_no_other_node_has_is_taken_at_once() -> None:
    asyncio.run(start("m", beats=True))


def test_a_node_that_died_without_a_word_does_not_keep_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_node, "TWIN_SECONDS", 0.2)
    asyncio.run(start("n", beats=False))
