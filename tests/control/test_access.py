"""Requests that are malformed on purpose, sent byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from streamkp.control.run_server import ControlServer
from streamkp.graph.spec import ControlSpec
from tests.control.engine import FixedEngine


@pytest.fixture
def url() -> Iterator[str]:
    with ControlServer(FixedEngine(), ControlSpec(port=0)) as control:
        yield control.url


def status(url: str, *headers: bytes) -> int:
    """The status of `GET /stats` with exactly these header lines."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as raw:
        raw.sendall(b"\r\n".join([b"GET /stats HTTP/1.1", *headers, b"Connection: close", b"", b""]))
        answer = raw.makefile("rb").readline()
    return int(answer.split()[1])


@pytest.mark.parametrize("host", [b"[::1", b"localhost:99999", b"localhost:port", b"a/b", b"", b"\xff\xfe"])
def test_a_malformed_host_is_a_bad_request(url: str, host: bytes) -> None:
    assert status(url, b"Host: " + host) in (400, 403)


@pytest.mark.parametrize("origin", [b"http://[::1", b"http://localhost:99999", b"x", b"http://"])
def test_a_malformed_origin_is_a_bad_request(url: str, origin: bytes) -> None:
    assert status(url, b"Host: localhost", b"Origin: " + origin) == 400


def test_without_a_host_header(url: str) -> None:
    assert status(url) == 400


@pytest.mark.parametrize("given", [b"Bearer", b"Bearer \xff\xfe", b"Basic eDp5", b"\xff", b"Bearer " + b"x" * 5000])
def test_a_malformed_authorization_is_refused(given: bytes) -> None:
    with ControlServer(FixedEngine(), ControlSpec(port=0, token="0123456789abcdef")) as control:
        assert status(control.url, b"Host: localhost", b"Authorization: " + given) == 401
        assert status(control.url, b"Host: localhost", b"Authorization: Bearer 0123456789abcdef") == 200
