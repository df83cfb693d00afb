"""The page in a real browser, driven over the DevTools protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet
from tests.system.browser import Tab, browser

pytestmark = pytest.mark.system


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(tmp_path) as page:
        yield page


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
