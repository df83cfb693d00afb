"""The supervisor over MQTT: what it has decided is retained on the broker, so that it can be started anew anywhere."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any, Final

import aiomqtt

from streamkp.errors import StreamkpError
from streamkp.fleet.broker import RETRY_SECONDS, Broker, pause, payload, reason
from streamkp.fleet.clock import lease_time
from streamkp.fleet.commands import carry_out
from streamkp.fleet.messages import Assignment, Beat, MessageError, NodeState, Pending, decode
from streamkp.fleet.spec import FleetSpec
from streamkp.fleet.supervisor import Forget, Settings, Supervisor

log = logging.getLogger("streamkp.fleet")

TICK_SECONDS: Final = 0.25
LEASE_SECONDS: Final = 4.0


class Replaced(StreamkpError):
    """Another supervisor of the same group has been started."""


class MqttSupervisor:
    """Runs a fleet. All methods run on one loop.

    Args:
        fleet: what to run.
        broker: where.
        say: gets one line for a person for each thing that happens.
    """

    def __init__(self, fleet: FleetSpec, broker: Broker, *, say: Callable[[str], None] = log.info) -> None:
        self._fleet = fleet
        self._broker = broker
        self._say = say
        self._settings = Settings(limits=fleet.limits, lease=fleet.lease_s or LEASE_SECONDS)
        self._supervisor: Supervisor | None = None
        self._out: asyncio.Queue[tuple[str, bytes, int, bool]] = asyncio.Queue()
        self._nodes: set[str] = set()
        self._term = 0
        self._away = False

    def snapshot(self) -> dict[str, Any]:
        """How things stand, see `Supervisor.snapshot`."""
        return {} if self._supervisor is None else self._supervisor.snapshot(lease_time())

    def update(self, fleet: FleetSpec) -> None:
        """The fleet file has changed."""
        self._fleet = fleet
        if self._supervisor is not None:
            self._supervisor.update(fleet.streams)
            self._publish("graph", json.dumps(fleet.graph_document()).encode(), retain=True)
            self._carry_out()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set; the nodes go on without it.

        Raises:
            Replaced: another supervisor of the group has been started.
            OutputError: there is no broker at the very start.
        """
        try:
            async with self._broker.client() as client:
                await self._restore(client)
        except aiomqtt.MqttError as error:
            raise self._broker.gone(error) from None
        while not stop.is_set():
            try:
                await self._connected(stop)
                return
            except aiomqtt.MqttError as error:
                if not self._away:
                    log.warning(
                        "the broker %s is away (%s); trying again until it is back", self._broker.shown, reason(error)
                    )
                self._away = True
            finally:
                assert self._supervisor is not None
                self._supervisor.disconnected()
                self._out = asyncio.Queue()
            await pause(RETRY_SECONDS, stop)

    async def _restore(self, client: aiomqtt.Client) -> None:
        """Take up what an earlier supervisor has left on the broker."""
        assignments: list[Assignment] = []
        pending: Pending | None = None
        topics = ("supervisor", "assign/+", "pending")
        async for message in self._broker.retained(client, *map(self._broker.topic, topics)):
            what, data = self._broker.parts(str(message.topic))[0], payload(message)
            try:
                if not data:
                    continue
                if what == "supervisor":
                    self._term = int(json.loads(data)["term"])
                elif what == "assign":
                    assignments.append(decode(Assignment, data))
                else:
                    pending = decode(Pending, data)
            except (MessageError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: not understood: %s", message.topic, error)
        self._term = max(self._term, *(each.term for each in assignments), 0) + 1
        self._supervisor = Supervisor(self._fleet.streams, self._settings, term=self._term)
        self._supervisor.restore(assignments, pending)
        self._nodes.update(each.node for each in assignments)

    async def _connected(self, stop: asyncio.Event) -> None:
        assert self._supervisor is not None
        broker = self._broker
        will = aiomqtt.Will(broker.topic("supervisor"), self._presence(False), 1, True)
        async with broker.client(will=will) as client:
            topics = ("supervisor", "state/+", "alive/+", "beat/+", "command/+")
            found = [message async for message in broker.retained(client, *map(broker.topic, topics))]
            for message in found:  # a newer supervisor first of all
                self._check_term(message)
            await client.publish(broker.topic("supervisor"), self._presence(True), 1, True)
            if self._away:
                log.warning("the broker is back")
            self._away = False
            self._supervisor.connected(lease_time())
            self._publish("graph", json.dumps(self._fleet.graph_document()).encode(), retain=True)
            for message in found:
                self._take(message)
            self._carry_out()
            work = (self._listen(client), self._send(client), self._tick(), stop.wait())
            tasks = [asyncio.ensure_future(each) for each in work]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            await client.publish(broker.topic("supervisor"), self._presence(False), 1, True, timeout=1.0)

    def _presence(self, online: bool) -> bytes:
        return json.dumps({"term": self._term, "online": online}).encode()

    def _check_term(self, message: aiomqtt.Message) -> None:
        if self._broker.parts(str(message.topic)) != ["supervisor"] or not (data := payload(message)):
            return
        try:
            term = int(json.loads(data)["term"])
        except (ValueError, KeyError, TypeError):
            return
        if term > self._term:
            raise Replaced(f"another supervisor of the group {self._broker.group} has been started: this one ends")

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self._take(message)

    async def _tick(self) -> None:
        assert self._supervisor is not None
        while True:
            self._supervisor.tick(lease_time())
            self._carry_out()
            await asyncio.sleep(TICK_SECONDS)

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            topic, data, qos, retain = await self._out.get()
            await client.publish(topic, data, qos, retain)

    def _take(self, message: aiomqtt.Message) -> None:
        assert self._supervisor is not None
        self._check_term(message)
        what, *rest = self._broker.parts(str(message.topic))
        data = payload(message)
        if not data or len(rest) != 1:
            return
        now, grant = lease_time(), None
        try:
            if what == "state":
                state = decode(NodeState, data)
                if state.node == rest[0]:
                    self._nodes.add(state.node)
                    self._supervisor.node_state(state, now)
            elif what == "beat":
                grant = self._supervisor.beat(decode(Beat, data), now)
            elif what == "alive" and data == b"lost":
                self._supervisor.node_lost(rest[0])
            elif what == "command":
                answer = carry_out(self._supervisor, json.loads(data), now)
                self._publish(f"answer/{rest[0]}", json.dumps(answer).encode())
        except (MessageError, ValueError) as error:
            log.warning("%s: not understood: %s", message.topic, error)
        self._carry_out()
        if grant is not None:
            self._publish(f"grant/{grant.node}", grant.encoded(), qos=0)

    def _carry_out(self) -> None:
        assert self._supervisor is not None
        for output in self._supervisor.take():
            if isinstance(output, Assignment):
                streams = self._fleet.streams
                definitions = {name: dict(streams[name].definition) for name in output.streams if name in streams}
                whole = output.model_copy(update={"definitions": definitions})
                self._publish(f"assign/{output.node}", whole.encoded(), retain=True)
            elif isinstance(output, Pending):
                self._publish("pending", output.encoded(), retain=True)
            elif isinstance(output, Forget):
                self._nodes.discard(output.node)
                for what in ("assign", "state", "alive"):
                    self._publish(f"{what}/{output.node}", b"", retain=True)
            else:
                self._say(output.text)

    def _publish(self, what: str, data: bytes, *, qos: int = 1, retain: bool = False) -> None:
        self._out.put_nowait((self._broker.topic(what), data, qos, retain))
