"""The dashboard and the alerts against a real Prometheus, and what systemd is told, of a real run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.sources.videos import MakeClip
from tests.system.conftest import Start
from tests.test_deployment import DASHBOARD, DOCKER

pytestmark = [pytest.mark.system, pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs sockets of UNIX")]
PATIENCE = 60.0
GRAPH = """\
version: 1
stages:
  decode:  {use: decode}
  publish: {use: publish-websocket, port: %d}
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def run(
    start: Start, make_clip: MakeClip, tmp_path: Path
) -> Iterator[tuple[subprocess.Popen[str], int, socket.socket]]:
    """A run on a camera that repeats a clip, under what it takes for systemd."""
    port, address = _free_port(), str(tmp_path / "notify")
    graph = tmp_path / "graph.yaml"
    graph.write_text(GRAPH % port + f'streams:\n  cam: {{uri: "{make_clip(frames=30)}", loop: true, realtime: true}}\n')
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(PATIENCE)
        process = start("run", graph, env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
        assert systemd.recv(100) == b"READY=1"
        yield process, port, systemd


@pytest.fixture
def prometheus(tmp_path: Path, run: Any) -> Iterator[str]:
    """A Prometheus that reads that run every second, with the rules of docker/."""
    program = shutil.which("prometheus")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no prometheus; see .ci/apt-packages.txt")
        pytest.skip("needs prometheus")
    config = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{run[1]}"]
    shutil.copy(DOCKER / "prometheus/rules.yml", tmp_path / "rules.yml")
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = _free_port()
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log,
        )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE)


def _ask(prometheus: str, what: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
        return json.load(answer)["data"]


def test_no_query_of_the_dashboard_is_empty(prometheus: str) -> None:
    queries = {
        target["expr"].replace("$stream", ".*").replace("$__rate_interval", "10s")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    assert len(queries) > 12
    empty, deadline = set(queries), time.monotonic() + PATIENCE
    while empty and time.monotonic() < deadline:
        with suppress(OSError):  # it is starting
            empty = {query for query in empty if not _real(_ask(prometheus, "query", query=query)["result"])}
        time.sleep(0.5)
    assert empty == set()
    rules = [rule for group in _ask(prometheus, "rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def _real(result: list[Any]) -> bool:
    return bool(result) and all(row["value"][1] != "NaN" for row in result)


def test_what_systemd_is_told(run: tuple[subprocess.Popen[str], int, socket.socket]) -> None:
    process, _, systemd = run
    told = [systemd.recv(200) for _ in range(6)]
    assert told.count(b"WATCHDOG=1") >= 3
    assert b"STATUS=1 live" in told
    process.send_signal(signal.SIGTERM)
    while systemd.recv(200) != b"STOPPING=1":
        pass
    assert process.wait(PATIENCE) == 0
