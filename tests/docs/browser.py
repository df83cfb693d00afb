"""A page in a real browser: its own script must find that it works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest
from websockets.sync.client import connect


def open_page(file: Path, seconds: float = 60.0) -> None:
    """Open a file; returns when it shows a number, as the clients of the documentation do once messages arrive."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium; CI must not skip this")
        pytest.skip("needs Chromium")
    with tempfile.TemporaryDirectory() as profile:
        browser = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-proxy-server",
             "--disable-background-networking", file.as_uri()],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert browser.stderr is not None
            port = next(line.split(":")[2].split("/")[0] for line in browser.stderr if "DevTools listening" in line)
            threading.Thread(target=browser.stderr.read, daemon=True).start()
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            tabs = json.load(opener.open(f"http://127.0.0.1:{port}/json/list", timeout=30))
            url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
            with connect(url, max_size=None, proxy=None) as socket:
                script = (
                    "new Promise((done) => { const look = () => document.body && /\\d/.test(document.body.innerText) ? "
                    "done(document.body.innerText) : setTimeout(look, 20); look(); })"
                )
                answer = {}
                for number in range(1, 6):  # the tab may leave its first, empty page meanwhile, and the script with it
                    parameters = {"expression": script, "awaitPromise": True}
                    socket.send(json.dumps({"id": number, "method": "Runtime.evaluate", "params": parameters}))
                    answer = json.loads(socket.recv(timeout=seconds))
                    if "exceptionDetails" not in answer.get("result", {"exceptionDetails": None}):
                        return
                pytest.fail(f"{file}: {answer}")
        finally:
            browser.terminate()
            browser.wait(timeout=30)
