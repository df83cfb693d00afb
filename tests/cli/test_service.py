"""What a service tells systemd, over a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkp.cli.service import Service
from streamkp.graph.status import Status
from streamkp.testing import ManualClock

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd's sockets are of UNIX")


class Engine:
    """What is asked of an engine."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.hangs: list[str] = []
        self.states = {"a": Status("live", None, 1), "b": Status("connecting", None, 1)}

    def stuck(self) -> list[str]:
        return self.hangs

    def statuses(self) -> dict[str, Status]:
        return self.states


@pytest.fixture(params=["file", "abstract"])
def listen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    path = str(tmp_path / "notify")
    name = path if request.param == "file" else f"@streamkp-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as inbox:
        try:
            inbox.bind(name.replace("@", "\0", 1))
        except OSError:
            pytest.skip("abstract sockets are of Linux")
        inbox.setblocking(False)

        def heard() -> list[str]:
            found = []
            while True:
                try:
                    found.append(inbox.recv(1000).decode())
                except BlockingIOError:
                    return found

        yield name, heard


def test_a_life(listen: tuple[str, Callable[[], list[str]]]) -> None:
    name, heard = listen
    engine: Any = Engine()
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    with Service(engine, environment) as service:
        assert heard() == []
        service.look()
        assert heard() == ["READY=1", "WATCHDOG=1", "STATUS=1 live, 1 connecting"]
        engine.clock.advance(4.9)
        service.look()
        assert heard() == []
        engine.states["b"] = Status("reconnecting", "gone", 2)
        engine.clock.advance(0.2)
        service.look()
        assert heard() == ["WATCHDOG=1"]  # looked at the state a moment ago
        engine.clock.advance(1.0)
        service.look()
        assert heard() == ["STATUS=1 live, 1 reconnecting"]
        engine.hangs = ["stage x is stuck"]
        engine.clock.advance(60.0)
        service.look()
        assert heard() == [
            "STATUS=1 live, 1 reconnecting; stage x is stuck"
        ]  # no sign of life: systemd starts it again
        service.stopping()
        assert heard() == ["STOPPING=1"]


def test_the_watchdog_of_another_process(listen: tuple[str, Callable[[], list[str]]]) -> None:
    name, heard = listen
    engine: Any = Engine()
    with Service(engine, {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}) as service:
        service.look()
    assert heard() == ["READY=1", "STATUS=1 live, 1 connecting"]


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "vsock:2:1"])
def test_nobody_to_tell(address: str | None) -> None:
    engine: Any = Engine()
    with Service(engine, {} if address is None else {"NOTIFY_SOCKET": address}) as service:
        service.look()
        service.stopping()
