from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkp.cli import main as cli
from streamkp.cli import page as pages
from streamkp.cli import view as views
from streamkp.graph.stage import StageContext
from streamkp.sinks.publish_websocket import PublishWebsocket
from tests.sources.videos import write_clip


@pytest.fixture
def sink() -> Iterator[PublishWebsocket]:
    sink = PublishWebsocket(PublishWebsocket.Options(port=0), StageContext("publish"))
    sink.open()
    yield sink
    sink.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened in the browser."""
    found: list[str] = []
    monkeypatch.setattr(pages.webbrowser, "open", lambda address: found.append(address) or True)
    return found


def _program(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["streamkp", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_running_page_is_found_and_opened(
    sink: PublishWebsocket, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "FIRST_PORT", sink.port)
    monkeypatch.setattr(views, "PORTS", 1)
    assert _program(monkeypatch, "view") == 0
    assert opened == [sink.url]
    assert _program(monkeypatch, "view", sink.url) == 0
    assert opened == [sink.url, sink.url]


def test_where_there_is_no_browser_the_address_is_printed(
    sink: PublishWebsocket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages.webbrowser, "open", lambda _: False)
    assert _program(monkeypatch, "view", sink.url) == 0
    assert capsys.readouterr().out == f"{sink.url}\n"


def test_what_does_not_run_is_said(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as held:  # a port that nobody serves
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        monkeypatch.setattr(views, "FIRST_PORT", port)
        monkeypatch.setattr(views, "PORTS", 1)
        assert _program(monkeypatch, "view") == 3
        assert "streamkp view demo" in capsys.readouterr().err
        assert _program(monkeypatch, "view", f"http://127.0.0.1:{port}") == 3
    assert opened == []


def test_a_graph_is_started_and_its_page_opened_with_its_token(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4")
    (tmp_path / "plain.yaml").write_text(
        "version: 1\nstages:\n  decode: {use: decode}\n  publish: {use: publish-websocket, port: 0, token: s3cret}\n"
    )
    assert _program(monkeypatch, "view", "plain.yaml", "--source", str(clip)) == 0
    (address,) = opened
    assert address.startswith("http://127.0.0.1:")
    assert address.endswith("/?token=s3cret")
