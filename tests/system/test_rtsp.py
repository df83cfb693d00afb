"""A real RTSP server that plays, dies, freezes, comes back, or never was one."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest

from streamkp.bench.servers import RtspServer
from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StageContext, StreamContext
from streamkp.graph.status import Status
from streamkp.packet import Packet
from streamkp.sources.decode import Decode
from streamkp.uris import mask
from tests.sources.videos import write_clip

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]

PATIENCE = 20.0  # seconds that anything may take


class Watcher:
    """Runs the source in a thread, as the engine does, and hands over what comes."""

    def __init__(self, uri: str, **options: Any) -> None:
        self.stream = StreamContext("cam", uri, mask(uri), Clock(), live=Decode.is_live(uri))
        self._events: queue.Queue[Packet | str | StreamkpError | None] = queue.Queue()
        self.stream.board.watch(self._note)
        self._decode = Decode(Decode.Options(**options), StageContext("decode"))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _note(self, _: str, status: Status | None) -> None:
        if status is not None and status.state != "connecting":
            self._events.put(status.state)

    def _run(self) -> None:
        try:
            for packet in self._decode.frames(self.stream):
                self._events.put(packet)
            self._events.put(None)
        except StreamkpError as error:
            self._events.put(error)

    def packets(self, count: int) -> list[Packet]:
        """The next packets, whatever else happens in between."""
        found: list[Packet] = []
        while len(found) < count:
            event = self._events.get(timeout=PATIENCE)
            assert event is not None, "the stream ended"
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Packet):
                found.append(event)
        return found

    def wait_for(self, status: str) -> None:
        while (event := self._events.get(timeout=PATIENCE)) != status:
            assert isinstance(event, Packet)

    def wait_for_epoch(self, epoch: int) -> Packet:
        while (packet := self.packets(1)[0]).epoch < epoch:
            pass
        return packet

    def stop(self) -> None:
        self.stream.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def server(rtsp: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    clip = write_clip(tmp_path_factory.mktemp("rtsp") / "clip.mp4", size=(320, 240), frames=30, keyframes_every=10)
    running = RtspServer(clip)
    yield running
    running.kill()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    with ExitStack() as stack:

        def start(uri: str, **options: Any) -> Watcher:
            watcher = Watcher(uri, **({"timeout": 1.0} | options))
            stack.callback(watcher.stop)
            return watcher

        yield start


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_arrive_in_order(server: RtspServer, watch: Callable[..., Watcher], transport: str) -> None:
    packets = watch(server.uri, rtsp_transport=transport).packets(40)
    assert [p.seq for p in packets] == list(range(40))
    assert {p.epoch for p in packets} == {0}
    assert all(a.pts < b.pts for a, b in pairwise(packets))
    assert packets[-1].pts - packets[1].pts == pytest.approx(38 * 1e9 / 30, rel=0.1)
    assert all((p.width, p.height) == (320, 240) for p in packets)
    assert all(p.expires_at is not None for p in packets)


def test_a_killed_server_that_comes_back(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server.uri)
    before = watcher.packets(5)[-1]
    server.kill()
    watcher.wait_for("reconnecting")
    server.start()
    after = watcher.packets(5)
    assert all(p.epoch > before.epoch for p in after)
    assert after[0].seq > before.seq
    assert [p.seq - after[0].seq for p in after] == list(range(5))


def test_a_frozen_server_that_thaws(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server.uri)
    before = watcher.packets(5)[-1]
    server.signal(signal.SIGSTOP)
    try:
        watcher.wait_for("reconnecting")
    finally:
        server.signal(signal.SIGCONT)
    assert watcher.wait_for_epoch(before.epoch + 1).seq > before.seq


def test_stopping_while_the_server_is_frozen(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server.uri)
    watcher.packets(5)
    server.signal(signal.SIGSTOP)
    try:
        watcher.stop()
    finally:
        server.signal(signal.SIGCONT)


def test_stopping_between_attempts(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server.uri, reconnect_max_wait=600)
    watcher.packets(5)
    server.kill()
    try:
        watcher.wait_for("reconnecting")
        watcher.stop()
    finally:
        server.start()


def test_giving_up(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    watcher = watch(server.uri, give_up_after=1.0)
    watcher.packets(5)
    server.kill()
    try:
        with pytest.raises(SourceError, match=r"connection refused.*gave up"):
            watcher.packets(10_000)
    finally:
        server.start()


def test_wrong_path(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    uri = server.uri.replace("//", "//user:secret@") + "/nowhere"
    with pytest.raises(SourceError, match=r"rtsp://\*\*\*@.*no such stream; check the path") as failure:
        watch(uri).packets(1)
    assert "secret" not in str(failure.value)


def test_nothing_listens(watch: Callable[..., Watcher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceError, match="connection refused: nothing listens there"):
        watch(f"rtsp://127.0.0.1:{port}/live").packets(1)


def test_a_server_that_never_says_a_word(watch: Callable[..., Watcher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SourceError, match="no data for 1 s"):
            watch(f"rtsp://127.0.0.1:{port}/live").packets(1)


def test_a_camera_that_is_switched_on_later(server: RtspServer, watch: Callable[..., Watcher]) -> None:
    server.kill()
    try:
        watcher = watch(server.uri, wait_for_source=True)
        watcher.wait_for("reconnecting")
    finally:
        server.start()
    assert watcher.packets(1)[0].epoch == 0
