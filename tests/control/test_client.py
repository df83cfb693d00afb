"""`streamkp ctl` and the client behind it, against servers of all kinds."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.control.client import Client, Unreachable, find
from streamkp.control.run_server import ControlServer
from streamkp.errors import StreamkpError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.spec import ControlSpec
from streamkp.graph.validation import validate
from streamkp.testing import Collect, Collected, Scripted, count_to

TOKEN = "0123456789abcdef"


def serving(token: str | None = None) -> Iterator[str]:
    stages = {
        "source": {"use": Scripted, "scripts": {"cam": count_to(5)}},
        "collect": {"use": Collect, "into": Collected()},
    }
    engine = Engine(validate({"streams": {"cam": {"uri": "test:cam"}}, "stages": stages}), keep_alive=True)
    with engine, ControlServer(engine, ControlSpec(port=0, token=token)) as control:
        yield control.url


@pytest.fixture
def url() -> Iterator[str]:
    yield from serving()


@pytest.fixture
def guarded() -> Iterator[str]:
    yield from serving(TOKEN)


@pytest.fixture
def stranger() -> Iterator[str]:
    """A web server that is no streamkp, and wants to send the token elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/stats":
                self.send_response(302)
                self.send_header("Location", "http://127.0.0.1:1/")
            else:
                self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ctl(*arguments: str, **env: str) -> tuple[int, str]:
    """The exit code of the program, and what it said."""
    done = CliRunner().invoke(app, ["ctl", *arguments], env={"COLUMNS": "80"} | env)
    if isinstance(done.exception, StreamkpError):
        return done.exception.exit_code, str(done.exception)
    return done.exit_code, done.output


def test_the_run_on_this_machine_is_found(url: str, stranger: str) -> None:
    assert find(ports=[free_port(), port(stranger), port(url)]).url == url
    with pytest.raises(Unreachable, match="no run was found"):
        find(ports=[free_port(), port(stranger)])
    with pytest.raises(UsageError, match="there are several runs: say which with --url"):
        find(ports=[port(url), port(url)])


def test_a_token_that_is_missing_is_said(guarded: str) -> None:
    with pytest.raises(UsageError, match="needs its token"):
        find(ports=[port(guarded)])
    assert find(TOKEN, ports=[port(guarded)]).stats()["state"] == "running"
    code, said = ctl("status", "--url", guarded, STREAMKP_TOKEN="wrong")
    assert (code, "needs its token" in said) == (2, True)
    assert ctl("status", "--url", guarded, STREAMKP_TOKEN=TOKEN)[0] == 0


def test_nobody_is_there(stranger: str) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        Client(f"http://127.0.0.1:{free_port()}").stats()
    with pytest.raises(Unreachable, match="is no control server of streamkp"):
        Client(stranger).api("GET", "graph")
    with pytest.raises(Unreachable, match="HTTP status 302"):  # and the token was not sent on
        Client(stranger, TOKEN).stats()
    assert ctl("status", "--url", stranger)[0] == 1


@pytest.mark.parametrize(
    "wrong", ["ftp://x", "http://", "http:///x", "http://[::1", "http://h:99999", "http://u:[s3cret]@h"]
)
def test_an_address_that_is_none(wrong: str) -> None:
    with pytest.raises(UsageError, match="is no address of a control server"):
        Client(wrong)


def test_the_commands(url: str) -> None:
    assert ctl("status", "--url", url.removeprefix("http://"))[0] == 0
    assert json.loads(ctl("status", "--url", url, "--json")[1])["graph"]["stages"][0]["name"] == "source"
    assert ctl("pause", "none", "--url", url) == (2, "there is no stream named none")
    assert ctl("pause", "cam", "--url", url)[0] in (0, 2)  # it may have ended
    assert ctl("add", "x", "rtsp://${NO_SUCH_THING}@h/", "--url", url)[0] == 2
    code, said = ctl("add", "x", "rtsp://u:secret@h/", "-o", "max_fps=fast", "--url", url)
    assert (code, said) == (2, "max_fps: Input should be a valid number")
    assert ctl("add", "the door", "y", "--url", url) == (
        2, "name: up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
    )  # fmt: skip
    assert ctl("add", "x", "y", "-o", "max_fps", "--url", url)[1].startswith("max_fps: write it as --option")
    assert ctl("set", "every=5", "--url", url)[1].startswith("every=5: write it as STAGE.OPTION=VALUE")
    assert ctl("set", "none.every=5", "--url", url)[1] == "there is no stage named none; there are source, collect"
    assert ctl("top", "--once", "--url", url)[0] == 0


def test_what_a_stream_says_does_not_steer_the_terminal(url: str) -> None:
    Client(url).api("POST", "streams", body={"name": "cam2", "uri": "test:\u202ehidden"})
    assert "\u202e" not in ctl("status", "--url", url)[1]
