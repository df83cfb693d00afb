"""The page in a real browser, driven over the DevTools protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StageContext
from streamkp.packet import Packet
from streamkp.plugin import recording
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sinks.walker import make_packet
from tests.system.browser import HEIGHT, WIDTH, Tab, browser

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def tab(one_browser: Tab) -> Iterator[Tab]:
    one_browser.resize(WIDTH, HEIGHT)
    yield one_browser
    one_browser.call("Page.navigate", url="about:blank")


class Feed:
    """Publishes walkers at about 25 frames/s until it is stopped."""

    def __init__(
        self, sink: PublishWebsocket, streams: tuple[str, ...], people: int, change: Callable[[Packet], object]
    ) -> None:
        self._sink, self._streams, self._people, self._change = sink, streams, people, change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        seq = 0
        while not self._stop.wait(0.04):
            for stream in self._streams:
                now = time.time_ns()
                packet = make_packet(seq, stream, self._people, 1280, 720, captured_at=now - 12_000_000)
                self._change(packet)
                self._sink.process(packet)
            seq += 1

    def stop(self) -> bool:
        """Stop; False where it was stopped already."""
        if self._stop.is_set():
            return False
        self._stop.set()
        self._thread.join()
        return True


@pytest.fixture
def feed() -> Iterator[Any]:
    running: list[tuple[PublishWebsocket, Feed]] = []

    def start(
        streams: tuple[str, ...] = ("cam",),
        people: int = 1,
        change: Callable[[Packet], object] = lambda _: None,
        **options: Any,
    ) -> PublishWebsocket:
        sink = PublishWebsocket(PublishWebsocket.Options(port=0, **options), StageContext("publish"))
        sink.open()
        for stream in streams:
            sink.context.streams.set(stream, "live")
        running.append((sink, Feed(sink, streams, people, change)))
        return sink

    def stop() -> None:
        for sink, one in running:
            if one.stop():
                sink.close()

    start.stop = stop  # type: ignore[attr-defined]
    yield start
    stop()


def _near(image: np.ndarray[Any, Any], colour: str, tolerance: int = 24) -> int:
    """Pixels of about that colour."""
    bgr = np.array([int(colour[i : i + 2], 16) for i in (5, 3, 1)])
    return int((np.abs(image.astype(int) - bgr).max(axis=2) <= tolerance).sum())


LEFT, RIGHT = "#38c8f0", "#ff9f45"  # the sides of the body
ONE, TWO = "#ffb454", "#7aa8ff"  # the people with tracks 1 and 2


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
        assert _near(half, ONE) > 150, "each person has a colour"
        assert _near(half, TWO) > 150
    assert _near(picture[:, :edge], "#3c3c3c", 4) > 50_000, "the image lies behind the 2D skeleton"
    assert float(tab.evaluate("document.getElementById('fps').textContent")) > 0
    assert tab.evaluate("document.getElementById('latency').textContent").endswith(" ms")
    assert tab.evaluate("document.getElementById('flat').hidden")
    tab.key("p")
    tab.evaluate("new Promise(requestAnimationFrame)")
    tab.wait_for("streamkp.bones3d > 0")
    picture = tab.screenshot()
    for half in (picture[:, :edge], picture[:, edge:]):
        assert _near(half, LEFT) > 150, "and each side of the body has one"
        assert _near(half, RIGHT) > 150


def test_what_a_graph_does_not_have_is_said(tab: Tab, feed: Any) -> None:
    """A recording played again has no latency, and a graph without a lifter no poses in space."""

    def change(packet: Packet) -> None:
        packet.captured_at -= 3_600_000_000_000
        for person in packet.persons:
            person.keypoints_3d = None

    sink = feed(change=change)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.frames > 20 && streamkp.bones2d > 0")
    assert tab.evaluate("document.getElementById('latency').textContent") == "-"
    assert " ms" not in tab.evaluate("document.getElementById('wall').textContent")
    tab.wait_for("!document.getElementById('flat').hidden")
    assert tab.evaluate("document.getElementById('flat').textContent").startswith("2D only")


def test_the_3d_view_turns_on_its_own_by_hand_and_by_key(tab: Tab, feed: Any) -> None:
    sink = feed()
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.bones3d > 0")
    first = tab.evaluate("streamkp.azimuth")
    tab.wait_for(f"streamkp.azimuth > {first}")
    x, y = tab.evaluate(
        "(({left, top}) => [left + 100, top + 100])(document.getElementById('space').getBoundingClientRect())"
    )
    mouse = {"button": "left", "clickCount": 1}
    tab.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **mouse)
    held = tab.evaluate("streamkp.azimuth")
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 100, y=y, buttons=1, **mouse)
    tab.wait_for(f"streamkp.azimuth < {held} - 0.5")
    tab.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 100, y=y, **mouse)
    tab.key("3")
    tab.wait_for("Math.abs(streamkp.elevation - Math.PI / 2) < 0.01")
    tab.key("2")
    tab.wait_for("Math.abs(Math.sin(streamkp.azimuth) - 1) < 0.01")
    tab.key("+")
    assert tab.evaluate("streamkp.zoom") > 1
    tab.key("r")
    assert tab.evaluate("streamkp.zoom") == 1
    fingers = [{"x": x, "y": y}, {"x": x + 40, "y": y}]
    tab.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers)
    fingers[1]["x"] = x + 120
    tab.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=fingers)
    tab.wait_for("streamkp.zoom > 2")
    tab.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def test_nothing_moves_for_who_wants_no_motion(tab: Tab, feed: Any) -> None:
    sink = feed()
    tab.resize(390, 844, mobile=True, theme="light", still=True)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.bones3d > 0 && streamkp.frames > 10")
    assert tab.evaluate("streamkp.azimuth") == 0.5
    tab.key("1")
    assert tab.evaluate("streamkp.azimuth") == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than the phone"
    picture = tab.screenshot()
    assert picture[60:100, 250:380].mean() > 200, "and it is light"


def test_a_wall_of_sixteen_streams(tab: Tab, feed: Any) -> None:
    names = tuple(f"cam{i:02}" for i in range(16))
    sink = feed(names, preview_width=320)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp && Object.values(streamkp.pictures).filter((n) => n > 2).length === 16")
    assert tab.evaluate("streamkp.streams") == list(names)
    assert tab.evaluate("[...document.getElementById('stream').options].map(o => o.value)") == list(names)
    assert tab.evaluate("streamkp.stream") == "cam00"
    tab.evaluate("const s = document.getElementById('stream'); s.value = 'cam07'; s.dispatchEvent(new Event('change'))")
    tab.wait_for("streamkp.lastMessage?.stream === 'cam07' && streamkp.bones3d === 16")
    tab.key("ArrowRight")
    assert tab.evaluate("streamkp.stream") == "cam08"
    tab.key("Enter")
    assert tab.evaluate("[...document.querySelectorAll('.tile')].filter((t) => !t.hidden).length") == 1
    others = tab.evaluate("streamkp.pictures.cam03")
    shown = tab.evaluate("streamkp.pictures.cam08")
    tab.wait_for(f"streamkp.pictures.cam08 > {shown} + 10")
    assert tab.evaluate("streamkp.pictures.cam03") <= others + 3, "what is not shown is not sent"
    tab.key("Enter")
    assert tab.evaluate("[...document.querySelectorAll('.tile')].filter((t) => !t.hidden).length") == 16
    assert tab.evaluate("streamkp.lost") == 0


def test_people_never_stand_in_each_other(tab: Tab, feed: Any) -> None:
    def crowd(packet: Packet) -> None:
        for person in packet.persons[1:]:
            person.box = packet.persons[0].box + np.float32(person.track)

    sink = feed(people=5, change=crowd)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.bones3d === 5 * 16")
    places = np.array(list(tab.evaluate("streamkp.places").values()))[:, [0, 2]]
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(5, dtype=bool)]
    assert len(places) == 5
    assert apart.min() > 0.6


def test_a_page_without_the_token_says_so(tab: Tab, feed: Any) -> None:
    sink = feed(token="s3cret")
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.connection === 'refused'")
    assert "token" in tab.evaluate("document.getElementById('banner').textContent")
    tab.call("Page.navigate", url=f"{sink.url}/?token=s3cret")
    tab.wait_for("window.streamkp?.frames > 3 && streamkp.previews > 0")


def test_a_stream_that_fails_stays_in_the_list_with_its_reason(tab: Tab, tmp_path: Path) -> None:
    graph = Graph().stream("gone", str(tmp_path / "nothing.mp4")).add("decode")
    engine = Engine(graph.add("publish", "publish-websocket", port=0).validate(), keep_alive=True)
    engine.start()
    try:
        (line,) = engine.notices()
        tab.call("Page.navigate", url=line.removeprefix("the page is at "))
        tab.wait_for("document.querySelector('.tile[data-state=failed]') !== null")
        said = tab.evaluate("document.querySelector('.tile').textContent")
        assert "gone" in said
        assert "failed: " in said
        assert "nothing.mp4" in said
    finally:
        engine.stop()
        engine.wait()


def test_a_server_that_stops_is_told_of_and_leaves_no_figures(tab: Tab, feed: Any) -> None:
    sink = feed(people=2)
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.bones3d === 32 && document.getElementById('people').textContent === '2'")
    feed.stop()
    tab.wait_for(
        "['ended', 'lost'].includes(streamkp.connection) && document.getElementById('people').textContent === '0'"
    )
    assert "stopped" in tab.evaluate("document.getElementById('banner').textContent")
    tab.wait_for(
        "streamkp.bones3d === 0 && streamkp.bones2d === 0 && document.getElementById('fps').textContent === '0.0'"
    )
    tab.wait_for("document.querySelector('.tile').dataset.state === 'ended'")
    picture = tab.screenshot()
    assert _near(picture, ONE) + _near(picture, TWO) < 100, "nobody is there any more"


def test_pause_record_plots_people_and_events(tab: Tab, feed: Any, tmp_path: Path) -> None:
    def count(packet: Packet) -> None:
        packet.persons[0].extra["rep_counter"] = {"exercise": "squat", "count": packet.seq // 10}
        packet.events.append({"type": "rep", "track": 1, "count": packet.seq // 10})
        packet.annotations.append({"type": "label", "track": 1, "text": "squats"})
        packet.annotations.append({"type": "line", "points": [[0, 700], [1280, 700]], "color": "#00ff00"})

    sink = feed(change=count)
    tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.previews > 3 && streamkp.plotted > 5 && streamkp.events > 5")
    tab.wait_for("Number(document.querySelector('#persons output')?.textContent) > 0")
    assert "squat" in tab.evaluate("document.getElementById('persons').textContent")
    assert "track 1" in tab.evaluate("document.querySelector('#events li').textContent")
    options = tab.evaluate("[...document.getElementById('signal').options].map((o) => o.value)")
    assert {"left knee", "rep_counter.count", "left_wrist x 3d", "head y 2d"} <= set(options)
    assert _near(tab.screenshot(), "#00ff00") > 200, "the line is drawn"
    tab.key("s")
    tab.wait_for("streamkp.recorded > 10")
    tab.key("s")
    tab.wait_for("document.getElementById('banner').textContent.startsWith('Saved')")
    saved = _wait_for_file(tmp_path)
    packets = list(recording(saved))
    assert len(packets) > 10
    assert packets[0].persons[0].keypoints_3d is not None
    assert packets[0].annotations[0]["type"] == "label"
    tab.key(" ")
    frames = tab.evaluate("streamkp.frames")
    events = tab.evaluate("streamkp.events")
    tab.wait_for(f"streamkp.events > {events} + 5")
    assert tab.evaluate("streamkp.frames") == frames, "what is drawn stands still"
    tab.key(" ")
    tab.wait_for(f"streamkp.frames > {frames}")


def _wait_for_file(folder: Path) -> Path:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := [path for path in folder.glob("cam-*.jsonl") if path.stat().st_size]:
            return found[0]
        threading.Event().wait(0.02)
    raise AssertionError("nothing was saved")


def test_nothing_that_arrives_is_executed_and_nothing_is_asked_of_others(tab: Tab, feed: Any) -> None:
    evil = "<img src=x onerror=window.hacked=1>"

    def attack(packet: Packet) -> None:
        packet.persons[0].extra[evil] = {"__proto__": {"polluted": 1}, "text": evil}
        packet.events.append({"type": evil, "text": evil, "__proto__": {"polluted": 1}})
        packet.annotations.append({"type": "label", "track": 1, "text": evil})

    sink = feed((evil,), change=attack)
    tab.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="""
        window.violations = [];
        document.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
    """,
    )
    tab.call("Page.navigate", url=sink.url)
    tab.wait_for("window.streamkp?.previews > 3 && streamkp.events > 3 && streamkp.plotted > 3")
    tab.wait_for("document.getElementById('persons').textContent.includes('onerror')")
    assert tab.evaluate("window.hacked ?? ({}).polluted ?? null") is None
    assert tab.evaluate("document.querySelectorAll('#wall img, #persons img, #events img').length") == 0
    assert tab.evaluate("violations") == []
    asked = tab.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).origin)")
    assert set(asked) == {sink.url}
    assert tab.evaluate("performance.getEntriesByType('resource').some((e) => e.name.includes('three'))") is False
