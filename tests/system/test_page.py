"""The page in a real browser, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import connect

from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet

pytestmark = pytest.mark.system


class Tab:
    """One page of a headless browser."""

    def __init__(self, url: str) -> None:
        self._socket = connect(url, max_size=None, proxy=None)
        self._id = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._id:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, expression: str) -> Any:
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return once the condition holds in the page."""
        self.evaluate(
            f"new Promise((done) => {{ const look = () => (({condition}) ? done() : setTimeout(look, 20)); look(); }})"
        )

    def screenshot(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if "STREAMKP_SCREENSHOTS" in os.environ:
            name = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].split()[0]
            Path(os.environ["STREAMKP_SCREENSHOTS"], f"{name}.png").write_bytes(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image.astype(np.uint8, copy=False)


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium; CI must not skip this")
        pytest.skip("needs Chromium")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
               "--remote-debugging-port=0", f"--user-data-dir={tmp_path}", "--window-size=1280,720",
               "--no-first-run", "--disable-background-networking", "--no-proxy-server"]  # fmt: skip
    # The address of the DevTools is the first thing that it says.
    browser = subprocess.Popen([program, *options, "about:blank"], stderr=subprocess.PIPE, text=True)
    try:
        assert browser.stderr is not None
        port = next(line.split(":")[2].split("/")[0] for line in browser.stderr if "DevTools listening" in line)
        drain = threading.Thread(target=browser.stderr.read, daemon=True)
        drain.start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = json.load(opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30))
        page = Tab(next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page"))
        page.call("Page.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=1280, height=720, deviceScaleFactor=1, mobile=False)
        yield page
    finally:
        browser.terminate()
        browser.wait(timeout=30)


class Feed:
    """Publishes walkers at about 25 frames/s until it is stopped."""

    def __init__(self, sink: PublishWebsocket, streams: tuple[str, ...], people: int) -> None:
        self._sink, self._streams, self._people = sink, streams, people
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        seq = 0
        while not self._stop.wait(0.04):
            for stream in self._streams:
                now = time.time_ns()
                self._sink.process(make_packet(seq, stream, self._people, 1280, 720, captured_at=now - 12_000_000))
            seq += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def feed() -> Iterator[Any]:
    running: list[tuple[PublishWebsocket, Feed]] = []

    def start(streams: tuple[str, ...] = ("cam",), people: int = 1, **options: Any) -> PublishWebsocket:
        sink = PublishWebsocket(PublishWebsocket.Options(port=0, **options), StageContext("publish"))
        sink.open()
        for stream in streams:
            sink.context.streams.set(stream, "live")
        running.append((sink, Feed(sink, streams, people)))
        return sink

    yield start
    for sink, one in running:
        one.stop()
        sink.close()


def _near(image: np.ndarray[Any, Any], colour: str, tolerance: int = 24) -> int:
    """Pixels of about that colour."""
    bgr = np.array([int(colour[i : i + 2], 16) for i in (5, 3, 1)])
    return int((np.abs(image.astype(int) - bgr).max(axis=2) <= tolerance).sum())


LEFT, RIGHT = "#38c8f0", "#ff9f45"  # the sides of the body


def test_the_page_shows_both_skeletons(tab: Tab, feed: Any) -> None:
    sink = feed(people=2)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for(
        "window.streamkp?.frames > 20 && streamkp.previews > 3 && streamkp.bones3d > 0 && streamkp.bones2d > 0"
    )
    state = tab.evaluate("window.streamkp")
    assert state["connection"] == "live"
    assert state["stream"] == "cam"
    assert len(state["persons"]) == 2
    assert state["lastMessage"]["width"] == 1280
    assert state["bones2d"] == state["bones3d"] == 2 * 16
    assert state["lost"] == state["dropped"] == 0
    picture = tab.screenshot()
    edge = round(tab.evaluate("document.getElementById('space').getBoundingClientRect().left"))
    for half in (picture[:, :edge], picture[:, edge:]):
        assert _near(half, LEFT) > 150
        assert _near(half, RIGHT) > 150
    assert _near(picture[:, :edge], "#3c3c3c", 4) > 50_000, "the image lies behind the 2D skeleton"
    assert float(tab.evaluate("document.getElementById('fps').textContent")) > 0


def test_the_3d_skeleton_turns_on_its_own_and_by_hand(tab: Tab, feed: Any) -> None:
    sink = feed()
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.bones3d > 0")
    first = tab.evaluate("streamkp.azimuth")
    tab.wait_for(f"streamkp.azimuth > {first}")
    where = tab.evaluate(
        "(({left, top}) => [left + 100, top + 100])(document.getElementById('space').getBoundingClientRect())"
    )
    mouse = {"button": "left", "clickCount": 1}
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=where[0], y=where[1], **mouse)
    held = tab.evaluate("streamkp.azimuth")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=where[0] + 100, y=where[1], buttons=1, **mouse)
    tab.wait_for(f"streamkp.azimuth < {held} - 0.5")
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=where[0] + 100, y=where[1], **mouse)


def test_streams_can_be_chosen_and_their_end_is_shown(tab: Tab, feed: Any) -> None:
    sink = feed(("yard", "gate"))
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.streams.length === 2 && streamkp.frames > 0")
    assert tab.evaluate("[...document.getElementById('stream').options].map(o => o.value)") == ["gate", "yard"]
    tab.evaluate("const s = document.getElementById('stream'); s.value = 'yard'; s.dispatchEvent(new Event('change'))")
    tab.wait_for("streamkp.lastMessage?.stream === 'yard' && streamkp.frames > 3")
    assert tab.evaluate("streamkp.stream") == "yard"


def test_a_page_without_the_token_says_so(tab: Tab, feed: Any) -> None:
    sink = feed(token="s3cret")
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.connection === 'refused'")
    assert "token" in tab.evaluate("document.getElementById('image-note').textContent")
    tab.call("Page.navigate", url=f"{sink.url}/?token=s3cret")
    tab.wait_for("window.streamkp?.frames > 3 && streamkp.previews > 0")


def test_a_stream_that_fails_is_told_of(tab: Tab, tmp_path: Path) -> None:
    graph = Graph().stream("gone", str(tmp_path / "nothing.mp4")).add("decode")
    engine = Engine(graph.add("publish", "publish-websocket", port=0).validate(), keep_alive=True)
    engine.start()
    try:
        (line,) = engine.notices()
        tab.call("Page.navigate", url=line.removeprefix("the page is at "))
        tab.wait_for("document.querySelector('#troubles li') !== null")
        assert tab.evaluate("document.getElementById('troubles').hidden") is False
        assert tab.evaluate("document.querySelector('#troubles li').textContent").startswith("gone: failed")
    finally:
        engine.stop()
        engine.wait()
