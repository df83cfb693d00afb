"""Speaks to a running fleet from outside: asks its supervisor, or looks at what the broker has kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aiomqtt

from streamkp.errors import StreamkpError
from streamkp.fleet.broker import Broker, payload
from streamkp.fleet.messages import Assignment, MessageError, NodeState, Pending, decode

WAIT_SECONDS: Final = 10.0
ASK_AGAIN_SECONDS: Final = 1.0  # a supervisor that is just connecting has not heard it; asking twice does no harm


async def ask(broker: Broker, number: str, command: dict[str, Any]) -> dict[str, Any]:
    """Give the supervisor a command, and return its answer.

    Raises:
        OutputError: no broker takes us.
        StreamkpError: no supervisor answers.
    """
    try:
        async with broker.client() as client:
            await client.subscribe(broker.topic("answer", number), 1)
            asking = asyncio.create_task(_ask(client, broker.topic("command", number), json.dumps(command)))
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    async for message in client.messages:
                        answer = json.loads(payload(message))
                        if isinstance(answer, dict):
                            return answer
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
    except aiomqtt.MqttError as error:
        raise broker.gone(error) from None
    except TimeoutError:
        pass
    raise StreamkpError(
        f"no supervisor of the group {broker.group} answers at {broker.shown}; start one with `streamkp fleet run`"
    )


async def _ask(client: aiomqtt.Client, topic: str, command: str) -> None:
    while True:
        await client.publish(topic, command, 1)
        await asyncio.sleep(ASK_AGAIN_SECONDS)


async def found(broker: Broker) -> tuple[list[NodeState], list[Assignment], Pending | None]:
    """The nodes that run, their assignments, and what waits, as the broker has kept them.

    Raises:
        OutputError: no broker takes us.
    """
    states: dict[str, NodeState] = {}
    assignments: list[Assignment] = []
    pending: Pending | None = None
    lost: set[str] = set()
    try:
        async with broker.client() as client:
            topics = ("state/+", "assign/+", "alive/+", "pending")
            async for message in broker.retained(client, *map(broker.topic, topics)):
                what, *rest = broker.parts(str(message.topic))
                data = payload(message)
                try:
                    if what == "state" and data:
                        states[rest[0]] = decode(NodeState, data)
                    elif what == "assign" and data:
                        assignments.append(decode(Assignment, data))
                    elif what == "pending" and data:
                        pending = decode(Pending, data)
                    elif what == "alive" and data == b"lost":
                        lost.add(rest[0])
                except MessageError:  # of another version: as if it were not there
                    continue
    except aiomqtt.MqttError as error:
        raise broker.gone(error) from None
    return [state for name, state in states.items() if name not in lost], assignments, pending
