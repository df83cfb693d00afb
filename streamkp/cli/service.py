"""What systemd wants to know of a service (sd_notify(3)): READY, STATUS, WATCHDOG and STOPPING.

Each is a datagram to the socket that `NOTIFY_SOCKET` names; outside systemd nothing happens.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from streamkp.graph.engine import Engine

STATUS_EVERY = 1_000_000_000  # ns between two looks at what the status line says


class Service:
    """Speaks to systemd of one engine; `look` is to be called often, from the thread that watches the run.

    The watchdog is told that all is well as long as `look` is called and no stage is stuck on a packet, so that a run
    that hangs is started again.
    """

    def __init__(self, engine: Engine, environment: Mapping[str, str]) -> None:
        self._engine = engine
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        self._every: int | None = None  # ns between two signs of life
        self._status = ""
        self._looked = self._alive = 0
        self._ready = False
        if self._address[:1] in ("/", "@") and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | getattr(socket, "SOCK_CLOEXEC", 0))
            self._socket.setblocking(False)  # systemd may be slow; a run waits for nobody
            self._every = _watchdog(environment)

    def look(self) -> None:
        """Tell what has changed, and that the run is alive."""
        if self._socket is None:
            return
        now = self._engine.clock.monotonic()
        if not self._ready:
            self._ready = True
            self._send("READY=1")
        if self._every is not None and now - self._alive >= self._every and not self._engine.stuck():
            self._alive = now
            self._send("WATCHDOG=1")
        if now - self._looked >= STATUS_EVERY:
            self._looked = now
            if (status := _status(self._engine)) != self._status:
                self._status = status
                self._send(f"STATUS={status}")

    def stopping(self) -> None:
        """The run is about to end."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Nothing more will be told."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        with suppress(OSError):  # nobody is there any more: that is no reason to stop working
            self._socket.sendto(text.encode(), address)


def _watchdog(environment: Mapping[str, str]) -> int | None:
    """Nanoseconds between two signs of life: half of what systemd allows; None where it wants none of this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        micros = int(environment.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return micros * 1000 // 2 if micros > 0 else None


def _status(engine: Engine) -> str:
    """One line: how many streams are in which state, and what hangs."""
    states = Counter(status.state for status in engine.statuses().values())
    parts = [f"{count} {state}" for state, count in states.items()]
    return "; ".join([", ".join(parts) or "no streams", *engine.stuck()])
