"""A program that runs: what it says, its page, its figures; and things to break around it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from streamkp import wire
from streamkp.bench.toxic import ToxicProxy, Toxics
from streamkp.graph.loop_thread import LoopThread

PATIENCE = 45.0  # seconds that anything may take on a busy machine


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait for a condition, and return what it gives."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what}"
        time.sleep(0.05)
    return value


class Running:
    """`streamkp ARGUMENTS` in a process of its own, whose standard error is read all the time."""

    def __init__(self, *arguments: object, env: Mapping[str, str], cwd: Path, **more: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamkp", *map(str, arguments)],
            env=dict(env), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            **more,
        )  # fmt: skip
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        """All of its standard error so far."""
        return "".join(self._lines)

    @property
    def page(self) -> str:
        """The address of its page or control server."""
        found = until(lambda: re.search(r"http://[\w.:]+", self.said) or self.process.poll() is not None, "a page")
        assert found is not True, self.said
        return str(found[0])

    def wait_said(self, *words: str) -> str:
        """Wait for a line that holds all the words."""

        def look() -> str | None:
            return next((line for line in list(self._lines) if all(word in line for word in words)), None)

        return str(until(lambda: look() or self._ended(words), f"a line with {words}"))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Status and body of an answer; 0 where there is none."""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.page + path, headers=dict(headers or {})), timeout=10
            ) as got:
                return got.status, got.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")
        except OSError as error:
            return 0, str(error)

    def stats(self) -> dict[str, Any]:
        """`/stats`."""
        code, body = self.get("/stats")
        assert code == 200, body
        stats: dict[str, Any] = json.loads(body)
        return stats

    def status(self, stream: str) -> dict[str, Any]:
        """Where a stream stands."""
        status: dict[str, Any] = self.stats()["streams"][stream]["status"]
        return status

    def wait_state(self, stream: str, *states: str) -> dict[str, Any]:
        """Wait until a stream is in one of these states."""
        found: dict[str, Any] = until(
            lambda: (status := self.status(stream))["state"] in states and status, f"{stream} is {' or '.join(states)}"
        )
        return found

    def wait_frames(self, stream: str, more: int = 3) -> None:
        """Wait until so many further frames of a stream have been read."""
        now = self.stats()["streams"][stream]["frames"]
        until(lambda: self.stats()["streams"][stream]["frames"] >= now + more, f"{more} frames of {stream}")

    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)

    def _ended(self, words: tuple[str, ...]) -> None:
        if self.process.poll() is not None and not self._reader.is_alive():
            raise AssertionError(f"the program ended without saying {words}: {self.said}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            for line in self.process.stderr:
                self._lines.append(line)


class Network:
    """A thread with a loop for proxies and servers of the test's own."""

    def __init__(self) -> None:
        self._loop = LoopThread("network")
        self._loop.start()
        self._proxies: list[ToxicProxy] = []

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine there."""
        return self._loop.call(work)

    def proxy(self, port: int) -> Proxied:
        """A toxic proxy before a port of this machine."""
        proxy = self.call(ToxicProxy("127.0.0.1", port, seed=1).start())
        self._proxies.append(proxy)
        return Proxied(self, proxy)

    def serve(self, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> int:
        """A server on a free port."""

        async def start() -> int:
            async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with suppress(OSError, asyncio.IncompleteReadError):
                    await answer(reader, writer)
                writer.transport.abort()

            server = await asyncio.start_server(guarded, "127.0.0.1", 0)
            port: int = server.sockets[0].getsockname()[1]
            return port

        port: int = self.call(start())
        return port

    def close(self) -> None:
        """End everything."""
        for proxy in self._proxies:
            self.call(proxy.close())
        self._loop.stop()


class Proxied:
    """A toxic proxy, for a test that is not asynchronous."""

    def __init__(self, network: Network, proxy: ToxicProxy) -> None:
        self._network, self._proxy = network, proxy
        self.port = proxy.port

    @property
    def accepted(self) -> int:
        """Connections so far."""
        return self._proxy.accepted

    def set(self, toxics: Toxics) -> None:
        """See `ToxicProxy.set`."""
        self._network.call(self._proxy.set(toxics))

    def refuse(self) -> None:
        """See `ToxicProxy.refuse`."""
        self._network.call(self._proxy.refuse())

    def accept(self) -> None:
        """See `ToxicProxy.accept`."""
        self._network.call(self._proxy.accept())

    def reset_all(self) -> None:
        """See `ToxicProxy.reset_all`."""

        async def act() -> None:
            self._proxy.reset_all()

        self._network.call(act())


class WebListener:
    """A WebSocket client: status events and the number of frames of each stream."""

    def __init__(self, page: str) -> None:
        self.statuses: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.frames: defaultdict[str, int] = defaultdict(int)
        self._socket = connect(page.replace("http", "ws") + "/ws?format=json")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def states(self, stream: str) -> list[str]:
        """The states of a stream so far."""
        return [status["state"] for status in self.statuses[stream]]

    def close(self) -> None:
        """Leave."""
        self._socket.close()
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        with suppress(WebSocketException):
            for text in self._socket:
                message = wire.decode(text)
                if message.get("type") == "status":
                    self.statuses[message["stream"]].append(message)
                elif "seq" in message:
                    self.frames[message["stream"]] += 1


class MqttListener:
    """Subscribes to everything: statuses (JSON) and messages of each stream."""

    def __init__(self, port: int) -> None:
        self.statuses: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.poses: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, f"listener-{id(self)}", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("streamkp/#", 1)
        subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(PATIENCE)

    def states(self, stream: str) -> list[str]:
        """The states of a stream so far."""
        return [status["state"] for status in self.statuses[stream]]

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _: Any, __: Any, got: mqtt.MQTTMessage) -> None:
        _, stream, kind = got.topic.split("/")
        if kind == "status":
            self.statuses[stream].append(json.loads(got.payload))
        elif kind == "pose":
            message = wire.decode(bytes(got.payload))
            self.poses[stream].append({key: value for key, value in message.items() if key != "persons"})
