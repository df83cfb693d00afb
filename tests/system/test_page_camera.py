"""The browser's camera as a source, with the fake camera that Chromium has for tests."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from tests.sources.videos import write_clip
from tests.system.browser import browser

pytestmark = pytest.mark.system

BARS = [[40, 40, 200], [60, 180, 60], [200, 80, 40]]  # BGR


def _camera_file(path: Path) -> Path:
    """A film of three coloured bars, as Chromium's fake camera takes it."""
    picture = np.repeat(np.array(BARS, np.uint8)[None], 480, axis=0).repeat(214, axis=1)[:, :640]
    planes = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_BGR2YUV_I420).tobytes()
    path.write_bytes(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n" + 30 * (b"FRAME\n" + planes))
    return path


@pytest.mark.parametrize("plain", [True, False])
def test_a_browsers_camera_becomes_a_stream(tmp_path: Path, plain: bool) -> None:
    if not plain:
        pytest.importorskip("aiortc")
    graph = Graph().stream("phone", "browser://me").add("decode")
    engine = Engine(graph.add("publish", "publish-websocket", port=0).validate(), keep_alive=True)
    engine.start()
    film = _camera_file(tmp_path / "camera.y4m")
    options = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    try:
        (line,) = engine.notices()
        url = line.removeprefix("the page is at ").split()[0]
        with browser(tmp_path / "profile", *options, f"--use-file-for-fake-video-capture={film}") as tab:
            tab.call("Page.navigate", url=f"{url}/?plain=1" if plain else url)
            tab.wait_for("window.streamkp?.connection === 'live'")
            tab.evaluate("document.getElementById('camera').click()")
            tab.wait_for("streamkp.camera.state !== 'off' && streamkp.camera.state !== 'starting'")
            state = tab.evaluate("({...streamkp.camera, said: document.getElementById('banner').textContent})")
            assert state["state"] == "sending", state
            assert state["via"] == ("jpeg" if plain else "webrtc")
            tab.wait_for("streamkp.stream === 'phone' && streamkp.frames > 15 && streamkp.previews > 5")
            width = tab.evaluate("streamkp.lastMessage.width")
            assert width == 640
            tab.wait_for("document.getElementById('camera').textContent === 'Stop my camera'")
            picture = tab.screenshot()
            left, top, wide, high = tab.evaluate(
                "(({x, y, width, height}) => [x, y, width, height])"
                "(document.querySelector('.tile canvas').getBoundingClientRect())"
            )
            row = round(top + high / 2)
            for share, bar in zip((-0.3, 0, 0.3), BARS, strict=True):
                seen = picture[row, round(left + wide / 2 + share * min(wide, high * 4 / 3))]
                assert np.abs(seen.astype(int) - bar).max() < 45, (seen, bar)
            tab.evaluate("document.getElementById('camera').click()")
            tab.wait_for("streamkp.camera.state === 'off'")
            before = tab.evaluate("streamkp.lastMessage?.epoch ?? 0")
            tab.evaluate("document.getElementById('camera').click()")
            tab.wait_for(f"streamkp.camera.state === 'sending' && streamkp.lastMessage?.epoch > {before}")
    finally:
        engine.stop()
        engine.wait()


def test_video_over_webrtc_goes_with_its_messages(tmp_path: Path) -> None:
    pytest.importorskip("aiortc")
    clip = write_clip(tmp_path / "clip.mp4", frames=90)
    graph = Graph()
    for name in ("a", "b", "c", "d"):
        graph.stream(name, str(clip), loop=True, live=True, realtime=True)
    engine = Engine(graph.add("decode").add("publish", "publish-webrtc", port=0).validate(), keep_alive=True)
    engine.start()
    try:
        (line,) = engine.notices()
        with browser(tmp_path / "profile") as tab:
            tab.call("Page.navigate", url=line.removeprefix("the page is at ").split()[0])
            tab.wait_for(
                "window.streamkp && Object.values(streamkp.vias).filter((via) => via === 'webrtc').length === 4"
            )
            before = tab.evaluate("streamkp.pictures")
            tab.wait_for("Object.entries(streamkp.pictures)"
                         f".every(([name, count]) => count > {json.dumps(before)}[name] + 10)"
                         " && Object.values(streamkp.vias).every((via) => via === 'webrtc')")  # fmt: skip
            behind = tab.evaluate("streamkp.lastMessage.seq - streamkp.shown")
            assert 0 <= behind < 60, "the picture has the number of a frame of late"
    finally:
        engine.stop()
        engine.wait()


def test_a_camera_adds_a_stream_where_none_waits_for_it(tmp_path: Path) -> None:
    graph = Graph().stream("clip", str(write_clip(tmp_path / "clip.mp4")), loop=True, live=True, realtime=True)
    engine = Engine(graph.add("decode").add("publish", "publish-websocket", port=0).validate(), keep_alive=True)
    engine.start()
    options = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    try:
        (line,) = engine.notices()
        with browser(tmp_path / "profile", *options) as tab:
            tab.call("Page.navigate", url=f"{line.removeprefix('the page is at ').split()[0]}/?plain=1")
            tab.wait_for("window.streamkp?.streams.length === 1")
            tab.key("c")
            tab.wait_for("streamkp.streams.length === 2 && Object.values(streamkp.pictures).every((n) => n > 3)")
            assert tab.evaluate("streamkp.camera.state") == "sending"
            tab.wait_for("streamkp.stream.startsWith('camera-')")
    finally:
        engine.stop()
        engine.wait()
