"""A node that speaks to its fleet over MQTT."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Final

import aiomqtt

from streamkp.errors import UsageError
from streamkp.fleet.broker import RETRY_SECONDS, Broker, pause, payload, reason
from streamkp.fleet.messages import Assignment, Grant, MessageError, decode
from streamkp.fleet.node import Node

log = logging.getLogger("streamkp.node")

BEAT_SECONDS: Final = 1.0
TWIN_SECONDS: Final = 2 * BEAT_SECONDS + 1.5  # in which a node that runs beats twice
LATE_SECONDS: Final = 1.5  # a broker that takes longer to acknowledge counts as gone


class MqttNode:
    """Carries a node's messages. All methods run on one loop."""

    def __init__(self, node: Node, broker: Broker) -> None:
        self._node = node
        self._broker = broker
        self._supervised = True
        self._urgent = asyncio.Event()
        self._away = False
        self._checked = False  # no other node of this name runs

    def urgent(self) -> None:
        """Something has to be told at once; on the loop."""
        self._urgent.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set and the node has told that it runs nothing any more.

        Raises:
            UsageError: another node of this name runs in the group.
        """
        while not (stop.is_set() and self._node.wait(0)):
            try:
                if not self._checked:
                    await self._check_name()
                    self._checked = True
                await self._connected()
                return
            except aiomqtt.MqttError as error:
                if not self._away:
                    log.warning(
                        "the broker %s is away (%s); trying again until it is back", self._broker.shown, reason(error)
                    )
                self._away = True
            if await pause(RETRY_SECONDS, stop) and self._node.wait(0):
                return

    async def _check_name(self) -> None:
        """Look for another node of this name. One that has died may still count as alive: it must beat twice."""
        broker, name = self._broker, self._node.name
        async with broker.client() as client:
            others: dict[str, int] = {}
            async for message in broker.retained(client, broker.topic("alive", "+")):
                other = broker.parts(str(message.topic))[1]
                if other.rpartition(".")[0] == name and payload(message) == b"alive":
                    others[other] = 0
            if not others:
                return
            for other in others:
                await client.subscribe(broker.topic("beat", other), 1)
            with suppress(TimeoutError):
                async with asyncio.timeout(TWIN_SECONDS):
                    async for message in client.messages:
                        what, other = broker.parts(str(message.topic))
                        others[other] += what == "beat"
                        if others[other] == 2:
                            raise UsageError(
                                f"a node named {name} runs in the group {broker.group} already ({other}): give this "
                                "one another name with --name"
                            )

    async def _connected(self) -> None:
        node, broker = self._node, self._broker
        alive = broker.topic("alive", node.id)
        self._supervised = True  # until the broker says otherwise
        async with broker.client(will=aiomqtt.Will(alive, "lost", 1, True)) as client:
            await client.publish(alive, "alive", 1, True, timeout=LATE_SECONDS)
            ours = ("graph", f"assign/{node.id}", f"grant/{node.id}", "supervisor")
            known = False
            async for message in broker.retained(client, *(broker.topic(each) for each in ours)):
                known |= self._take(message)
            if not known:
                self._supervised = False
            if self._away:
                log.warning("the broker is back")
            self._away = False
            tasks = [asyncio.create_task(self._listen(client)), asyncio.create_task(self._tell(client))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            # In good order: nobody has to wait for the lease, and nothing is left behind.
            await client.publish(alive, b"", 1, True, timeout=LATE_SECONDS)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._take(message)

    def _take(self, message: aiomqtt.Message) -> bool:
        """Take what came; whether it was about the supervisor."""
        what, data = self._broker.parts(str(message.topic))[0], payload(message)
        try:
            if what == "supervisor":
                self._supervised = bool(data) and bool(json.loads(data).get("online"))
                return bool(data)
            if not data:
                return False
            if what == "graph":
                document = json.loads(data)
                if not isinstance(document, dict):
                    raise MessageError("this is no graph")
                self._node.graph(document)
            elif what == "assign":
                self._node.assign(decode(Assignment, data))
            elif what == "grant":
                self._node.granted(decode(Grant, data))
        except (MessageError, ValueError, AttributeError) as error:
            log.warning("%s: not understood: %s", message.topic, error)
        return False

    async def _tell(self, client: aiomqtt.Client) -> None:
        node, broker = self._node, self._broker
        again = True
        while True:
            self._urgent.clear()
            left = node.wait(0)
            # A state that the broker has not acknowledged counts as not told: it goes out again on the next connection.
            # A supervisor may have forgotten a node that was silent for long.
            if (state := node.state(again=again or node.lease_left() <= 0)) is not None:
                await client.publish(broker.topic("state", node.id), state.encoded(), 1, True, timeout=LATE_SECONDS)
            again = False
            if left:
                return
            beat = node.beat()
            await client.publish(broker.topic("beat", node.id), beat.encoded(), 1, timeout=LATE_SECONDS)
            if not self._supervised:
                node.unsupervised(beat.number)
            await pause(BEAT_SECONDS, self._urgent)
