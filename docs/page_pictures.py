"""Makes the pictures of the page: docs/page.jpg, docs/page.webp (animated) and, with an avatar, docs/avatar.jpg.

    .venv/bin/python docs/page_pictures.py [--avatar me.vrm] [--source sample:walk]

The graph works on the clip frame by frame; the page, in a headless Chromium, is given each result and pictured once it
has drawn it. So the pictures are the same on a slow machine; figures of speed, which would be wrong, are hidden.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

import streamkp
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StageContext
from streamkp.packet import Packet
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.system.browser import Tab, browser

DOCS = Path(__file__).resolve().parent
WIDE, HIGH = 1280, 720
EVERY = 3  # frames of the clip between two of the animation
SHRUNK = 880, 495
MOST = 3_000_000  # bytes of the animation
HIDE = """
    const style = new CSSStyleSheet();
    style.replaceSync(".figures, header dl { visibility: hidden }");
    document.adoptedStyleSheets = [style];
"""


async def results(source: str) -> list[Packet]:
    """Every frame of the clip with what the demo graph and the stage of the tutorial say of it."""
    graph = Graph.from_yaml("demo")
    tutorial = (DOCS / "tutorial.md").read_text()
    code = re.search(r"```python\n(# step-counter/step_counter/stage\.py\n.*?)```", tutorial, re.DOTALL)
    assert code is not None
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder, "stage.py")
        stage.write_text(code[1])
        graph.add("steps", f"{stage}:StepCounter")
        return [packet async for packet in streamkp.stream(source, graph=graph)]


class Presenter:
    """Gives the page one result after the other, and each again until the next, so that it never looks like a stall."""

    def __init__(self, tab: Tab, sink: PublishWebsocket) -> None:
        self._tab, self._sink = tab, sink
        self._packet: Packet | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat)
        self._thread.start()

    def show(self, packet: Packet) -> None:
        """Return once the page has drawn this result with its own picture."""
        packet.captured_at = time.time_ns()
        with self._lock:
            self._sink.process(packet)
            self._packet = packet.fork()
            self._packet.events.clear()  # an event happens once
        self._tab.wait_for(f"streamkp.shown === {packet.seq} && streamkp.lastMessage?.seq === {packet.seq}")
        self._tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def end(self) -> None:
        """Repeat no more."""
        self._over.set()
        self._thread.join()

    def _repeat(self) -> None:
        while not self._over.wait(0.2):
            with self._lock:
                if self._packet is not None:
                    self._sink.process(self._packet)


def picture(tab: Tab) -> np.ndarray:
    """What the page shows, BGR."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        tab.save_screenshot(Path(file.name))
        image = cv2.imread(file.name)
    assert image is not None
    return image


def save_animation(frames: list[np.ndarray], path: Path, fps: float) -> None:
    """As WebP that repeats, in the best quality that is small enough."""
    from PIL import Image

    small = [cv2.resize(frame, SHRUNK, interpolation=cv2.INTER_AREA) for frame in frames]
    images = [Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)) for frame in small]
    for quality in (80, 70, 60, 50, 40, 30):
        data = io.BytesIO()
        images[0].save(
            data, "WEBP", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0, quality=quality,
            method=4,
        )  # fmt: skip
        if len(data.getvalue()) < MOST:
            break
    path.write_bytes(data.getvalue())


def main() -> None:
    """Make the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--avatar", type=Path)
    arguments.add_argument("--source", default="sample:walk")
    given = arguments.parse_args()
    packets = asyncio.run(results(given.source))
    stream = packets[0].stream
    options = PublishWebsocket.Options(port=0, preview_fps=120, avatar=given.avatar)
    sink = PublishWebsocket(options, StageContext("publish"))
    sink.open()
    sink.context.streams.set(stream, "live")
    frames: list[np.ndarray] = []
    presenter: Presenter | None = None
    try:
        with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
            tab.resize(WIDE, HIGH)
            tab.call("Page.navigate", url=sink.url)
            tab.wait_for("window.streamkp?.connection === 'live'")
            tab.evaluate(HIDE)
            presenter = Presenter(tab, sink)
            plot = "step_counter.spread"
            tab.evaluate(
                f"const s = document.getElementById('signal'); s.append(new Option('{plot}')); s.value = '{plot}'; null"
            )
            if given.avatar is not None:
                tab.wait_for("document.getElementById('dress').textContent === 'Stick figure'")
            for number, packet in enumerate(packets):
                presenter.show(packet)
                if given.avatar is not None:
                    if packet.persons and number > len(packets) * 0.4:
                        tab.key("a")  # stands still
                        tab.wait_for("streamkp.avatarBones > 0")
                        for later in packets[number + 1 : number + 4]:
                            presenter.show(later)
                        cv2.imwrite(str(DOCS / "avatar.jpg"), picture(tab), [cv2.IMWRITE_JPEG_QUALITY, 88])
                        return
                elif number % EVERY == 0 and packet.persons:
                    frames.append(picture(tab))
    finally:
        if presenter is not None:
            presenter.end()
        sink.close()
    cv2.imwrite(str(DOCS / "page.jpg"), frames[len(frames) // 2], [cv2.IMWRITE_JPEG_QUALITY, 88])
    save_animation(frames, DOCS / "page.webp", 30 / EVERY)


if __name__ == "__main__":
    main()
