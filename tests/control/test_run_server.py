"""The control server on its own, and in a run whose sinks serve no HTTP."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from streamkp.control.run_server import ControlServer
from streamkp.errors import OutputError, UsageError
from streamkp.graph.spec import ControlSpec
from streamkp.graph.validation import GraphError, validate
from tests.control.engine import FixedEngine

STAGES = {"decode": {"use": "decode"}, "record": {"use": "record", "path": "out.jsonl"}}


def get(url: str) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("well", [True, False])
def test_figures(well: bool) -> None:
    before = set(threading.enumerate())
    with ControlServer(FixedEngine(well), ControlSpec(port=0)) as control:
        assert get(f"{control.url}/healthz")[0] == (200 if well else 503)
        assert get(f"{control.url}/readyz")[0] == (200 if well else 503)
        assert json.loads(get(f"{control.url}/stats")[1]) == {"fps": 30}
        assert get(f"{control.url}/metrics") == (200, b"streamkp_frames 1\n")
        assert get(f"{control.url}/nothing")[0] == 404
    assert set(threading.enumerate()) == before


def test_without_a_port_the_next_free_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("streamkp.control.run_server.DEFAULT_PORT", port)
        with ControlServer(FixedEngine(), ControlSpec()) as control:
            assert int(control.url.rpartition(":")[2]) > port


def test_a_port_that_was_asked_for_is_that_port_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=rf"control: cannot listen on 127.0.0.1 port {port}.*in use"):
            ControlServer(FixedEngine(), ControlSpec(port=port)).start()


@pytest.mark.parametrize(("options", "message"), [({}, "set `token`"), ({"token": "short"}, "at least 16")])
def test_wider_than_this_machine(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ControlServer(FixedEngine(), ControlSpec(host="0.0.0.0", port=0, **options)).start()


def test_the_key_of_a_graph_file(tmp_path: Path) -> None:
    def control(value: Any) -> Any:
        return validate({"stages": STAGES, "control": value}, base=tmp_path).control

    assert control(None) is None
    assert control(False) == control("off") == "off"
    assert control({"port": 0}).port == 0
    with pytest.raises(GraphError, match=r"control\.prot: unknown option; did you mean port\?"):
        control({"prot": 1})
