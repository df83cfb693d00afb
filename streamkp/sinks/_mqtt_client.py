"""aiomqtt's client, where it waits for what cannot come or watches what is closed."""

from __future__ import annotations

from typing import Any

import aiomqtt


class MqttClient(aiomqtt.Client):
    """Gives up at once where a connection is closed before the broker has answered, and watches only open sockets.

    aiomqtt (2.5) waits out its whole time limit where something in between, such as a proxy or a load balancer, takes
    the connection while the broker is away. And it notes the number of a descriptor that it has the loop watch a
    little later. By then a connection that broke is closed: the loop fails with a traceback, or watches another
    connection that got the same number, whose own watch is replaced.
    """

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError("the connection was closed before the broker answered"))
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        def ready() -> None:
            try:
                client.loop_write()
            except Exception as error:  # the connection broke
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def watch() -> None:
            if (descriptor := sock.fileno()) >= 0:
                self._loop.add_writer(descriptor, ready)

        self._loop.call_soon_threadsafe(watch)  # from the thread that connects, too
