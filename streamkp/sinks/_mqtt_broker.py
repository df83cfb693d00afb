"""An MQTT broker inside this process, on the loopback address, for trials without a broker of one's own."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from amqtt.broker import Broker

from streamkp.errors import OutputError

HOST = "127.0.0.1"


async def start_broker(port: int) -> Broker:
    """Start it on the running loop. Raises OutputError when the port is in use."""
    for noisy in ("amqtt", "transitions"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:  # amqtt logs a traceback when it cannot bind, so see first
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError as error:
        raise OutputError(
            f"the embedded MQTT broker cannot listen on {HOST} port {port}: {error.strerror}; "
            "choose another `port`, or publish to the broker that runs there: `broker: localhost`"
        ) from None
    config: dict[str, Any] = {
        "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}", "max_connections": 200}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(config)
    await broker.start()
    return broker


def unacknowledged(broker: Broker) -> list[asyncio.Future[Any]]:
    """One future for each message of QoS 1 that a subscriber has not acknowledged yet; done when it has."""
    handlers = [handler for _, handler in broker._sessions.values()]
    return [waiter for handler in handlers for waiter in handler._puback_waiters.values() if not waiter.done()]
