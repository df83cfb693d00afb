"""aiomqtt's client, without a race of its own."""

from __future__ import annotations

from typing import Any

import aiomqtt


class MqttClient(aiomqtt.Client):
    """Waits for a socket to be writable only while that socket is open.

    aiomqtt (2.5) notes the number of the descriptor, and has the loop watch it a little later. By then a connection
    that broke is closed: the loop fails with a traceback, or watches another connection that got the same number,
    whose own watch is replaced.
    """

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
