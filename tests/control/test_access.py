"""Requests that are malformed on purpose, sent byte by byte."""

from __future__ import annotations

import socket
import unittest.mock
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from streamkp.control.access import Access
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


@pytest.mark.parametrize("given", [b"", b"Bearer", b"Bearer ", b"Bearer \xff\xfe", b"\xff", b"Be(arer x"])
@pytest.mark.parametrize("token", [None, "0123456789abcdef"])
def test_a_malformed_authorization_is_a_bad_request(given: bytes, token: str | None) -> None:
    with ControlServer(FixedEngine(), ControlSpec(port=0, token=token)) as control:
        assert status(control.url, b"Host: localhost", b"Authorization: " + given) == 400


@pytest.mark.parametrize("given", [b"Basic eDp5", b"Bearer " + b"x" * 5000, b"Bearer 0123456789abcde"])
def test_another_token_is_refused(given: bytes) -> None:
    with ControlServer(FixedEngine(), ControlSpec(port=0, token="0123456789abcdef")) as control:
        assert status(control.url, b"Host: localhost", b"Authorization: " + given) == 401
        assert status(control.url, b"Host: localhost", b"Authorization: bearer 0123456789abcdef") == 200


def request(method: str, remote: str, host: str = "localhost") -> web.Request:
    transport = unittest.mock.Mock()
    transport.get_extra_info.side_effect = lambda name, default=None: (remote, 1) if name == "peername" else default
    return make_mocked_request(method, "/api/v1/streams", headers={"Host": host}, transport=transport)


def test_without_a_token_only_this_machine_may_change_anything() -> None:
    open_access = Access(local=False)
    open_access.check(request("GET", "192.0.2.7", "192.0.2.1"))
    open_access.check(request("POST", "127.0.0.1"))
    open_access.check(request("DELETE", "::1"))
    for method in ("POST", "PATCH", "DELETE", "PUT"):
        with pytest.raises(web.HTTPForbidden):
            open_access.check(request(method, "192.0.2.7", "192.0.2.1"))
