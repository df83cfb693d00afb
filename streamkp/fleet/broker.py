"""The fleet's topics on an MQTT broker, and connections to it.

Below `streamkp-fleet/GROUP/`, retained unless said otherwise:

* `supervisor`      who decides: `{"term", "online"}`; offline also as its last will
* `graph`           the graph that the nodes run
* `assign/NODE`     the streams of a node
* `pending`         streams that no node has, and the nodes that are drained
* `state/NODE`      what a node is and runs
* `alive/NODE`      `alive`, or `lost` as its last will
* `beat/NODE`, `grant/NODE`       leases; not retained
* `command/ID`, `answer/ID`       from `streamkp fleet move` and the like; not retained
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiomqtt

from streamkp.errors import OutputError, UsageError
from streamkp.graph.spec import is_name
from streamkp.uris import expand_argument, mask_address, split

PREFIX: Final = "streamkp-fleet"
ANSWER_SECONDS: Final = 1.5  # a connection that breaks before it stands is only noticed so: less than a lease
RETRY_SECONDS: Final = 0.25
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
_QUIET = logging.getLogger("streamkp.mqtt-client")
_QUIET.setLevel(logging.CRITICAL)  # what fails is told once, by whoever uses the connection


class Broker:
    """An MQTT broker by its address, `mqtt://user:password@host:port` or `mqtts://...`, and a fleet's topics on it.

    Raises:
        UsageError: it is no such address, a `${NAME}` in it is not set, or the group is no name.
    """

    def __init__(
        self, address: str, group: str, *, tls_ca: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        text = expand_argument(address if "://" in address else f"mqtt://{address}", os.environ if env is None else env)
        parts = split(text)
        self.shown = mask_address(text)
        try:
            url = urlsplit(f"{parts.scheme}://{parts.rest}")
            host, port = url.hostname, url.port
        except ValueError:
            host = port = None
        if parts.scheme not in _PORTS or not host or (host and url.path.strip("/")):
            raise UsageError(
                f"the broker {self.shown} is not mqtt://HOST:PORT, or mqtts:// for TLS, with USER:PASSWORD in front of "
                "HOST and an at sign between them where it asks who you are"
            )
        if not is_name(group):  # it becomes a part of topics
            raise UsageError(f"--group {group}: a group is a name of letters, digits, '.', '_' and '-'")
        self.group = group
        self._host, self._port = host, port or _PORTS[parts.scheme]
        self._user, self._password = parts.user, parts.password
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "mqtts" or tls_ca is not None:
            try:
                self._tls = ssl.create_default_context(cafile=tls_ca)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"cannot use the authorities in {tls_ca}: {error}") from None

    def topic(self, *parts: str) -> str:
        """A topic of this fleet."""
        return "/".join((PREFIX, self.group, *parts))

    def parts(self, topic: str) -> list[str]:
        """The parts of a topic behind the fleet's name."""
        return topic.split("/")[2:]

    def client(self, *, will: aiomqtt.Will | None = None, keepalive: int = 5) -> aiomqtt.Client:
        """A connection, not yet made."""
        return aiomqtt.Client(
            self._host,
            self._port,
            username=self._user,
            password=self._password,
            tls_context=self._tls,
            identifier=f"streamkp-fleet-{uuid.uuid4().hex[:12]}",
            will=will,
            timeout=ANSWER_SECONDS,
            keepalive=keepalive,
            logger=_QUIET,
        )

    async def retained(self, client: aiomqtt.Client, *topics: str) -> AsyncIterator[aiomqtt.Message]:
        """Subscribe, and yield what the broker has kept of these topics; ends when all of it has come.

        The broker hands on what it has kept before anything that it gets later, so a message to ourselves comes last.
        """
        mark = self.topic("mark", uuid.uuid4().hex)
        for topic in (*topics, mark):
            await client.subscribe(topic, 1)
        await client.publish(mark, b"", 1)
        async for message in client.messages:
            if str(message.topic) == mark:
                await client.unsubscribe(mark)
                return
            yield message

    def gone(self, error: aiomqtt.MqttError) -> OutputError:
        """What to tell a person when the broker does not take us."""
        return OutputError(f"cannot connect to the MQTT broker at {self.shown}: {reason(error)}")


def reason(error: aiomqtt.MqttError) -> str:
    """What went wrong, without the number that the system has for it."""
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error))


def payload(message: aiomqtt.Message) -> bytes:
    """The bytes of a message."""
    return message.payload if isinstance(message.payload, bytes) else str(message.payload or "").encode()


async def pause(seconds: float, until: asyncio.Event) -> bool:
    """Wait; True at once when the event is set."""
    try:
        await asyncio.wait_for(until.wait(), seconds)
    except TimeoutError:
        return False
    return True
