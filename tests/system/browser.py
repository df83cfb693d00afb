"""A headless browser, driven over the DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.sync.client import connect

WIDTH, HEIGHT = 1280, 720


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

    def resize(
        self, width: int, height: int, *, mobile: bool = False, theme: str = "dark", still: bool = False
    ) -> None:
        """Another size of window, as a person with that theme has it; `still`: who wants reduced motion."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def key(self, key: str) -> None:
        """Press and release a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def save_screenshot(self, path: Path) -> None:
        """The page as PNG or JPEG, by the suffix."""
        kind = "jpeg" if path.suffix == ".jpg" else "png"
        data = self.call("Page.captureScreenshot", format=kind, **({"quality": 85} if kind == "jpeg" else {}))["data"]
        path.write_bytes(base64.b64decode(data))

    def screenshot(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if "STREAMKP_SCREENSHOTS" in os.environ:
            name = os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].split()[0]
            Path(os.environ["STREAMKP_SCREENSHOTS"], f"{name}.png").write_bytes(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        return image.astype(np.uint8, copy=False)


@contextmanager
def browser(profile: Path, *options: str) -> Iterator[Tab]:
    """A browser with one page; `options` are of its command line. Skips where there is none, but not in CI."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium; CI must not skip this")
        pytest.skip("needs Chromium")
    usual = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader",
             "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={profile}",
             f"--window-size={WIDTH},{HEIGHT}", "--no-first-run", "--disable-background-networking",
             "--no-proxy-server"]  # fmt: skip
    # The address of the DevTools is the first thing that it says.
    process = subprocess.Popen([program, *usual, *options, "about:blank"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = next(line.split(":")[2].split("/")[0] for line in process.stderr if "DevTools listening" in line)
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        pages = json.load(opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30))
        page = Tab(next(p["webSocketDebuggerUrl"] for p in pages if p["type"] == "page"))
        page.call("Page.enable")
        page.resize(WIDTH, HEIGHT)
        yield page
    finally:
        process.terminate()
        process.wait(timeout=30)
