"""Speaks to the control server of a run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote, urlsplit

from streamkp.control.access import is_loopback
from streamkp.control.api import PREFIX
from streamkp.errors import StreamkpError, UsageError
from streamkp.uris import mask_address

PORTS: Final = (8765, 8766, 8767)  # of publish-websocket and of the control server, and the next one
MAX_ANSWER: Final = 16 << 20
TIMEOUT: Final = 10.0


class Unreachable(StreamkpError):
    """Nobody answers there."""


class Client:
    """The control API of one run.

    Args:
        url: where its server is, such as `http://127.0.0.1:8766`.
        token: the secret that the server wants, if any.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets, or the port
            usable = False
        if not usable or parts.hostname is None:
            raise UsageError(f"{mask_address(url)} is no address of a control server, such as http://127.0.0.1:8766")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._token = token
        here = urllib.request.ProxyHandler({}) if is_loopback(parts.hostname) else urllib.request.ProxyHandler()
        self._opener = urllib.request.build_opener(here, _NoRedirect())

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to one request, as plain data.

        Raises:
            Unreachable: nobody answers, or somebody who is no streamkp.
            UsageError: the server refuses; the message is its own.
        """
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        shown = mask_address(self.url)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read(MAX_ANSWER))
        except urllib.error.HTTPError as error:
            raise _refusal(error, shown) from None
        except ValueError:
            raise Unreachable(f"what answers at {shown} is no control server of streamkp") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            why = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
            raise Unreachable(f"no control server at {shown}: {why}") from None

    def stats(self) -> dict[str, Any]:
        """The figures of `/stats`."""
        found: dict[str, Any] = self("GET", "/stats")
        return found

    def api(self, method: str, *path: str, body: Any = None) -> Any:
        """As `__call__`, below `/api/v1`; each part of the path is quoted."""
        return self(method, "/".join([PREFIX, *(quote(part, safe="") for part in path)]), body)


def find(token: str | None = None, ports: Iterable[int] = PORTS) -> Client:
    """The run on this machine, where there is one.

    Raises:
        UsageError: there are several on the usual ports, or the one there refuses.
        Unreachable: there is none.
    """
    found: list[Client] = []
    refused: UsageError | None = None
    for port in ports:
        client = Client(f"http://127.0.0.1:{port}", token)
        try:
            client.api("GET", "graph")
        except Unreachable:
            continue
        except UsageError as error:
            refused = error
            continue
        found.append(client)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several runs: say which with --url ({', '.join(each.url for each in found)})")
    if refused is not None:
        raise refused
    raise Unreachable(
        "no run was found on this machine's usual ports; say where it is with --url (it says so when it starts)"
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the server that was named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _refusal(error: urllib.error.HTTPError, shown: str) -> StreamkpError:
    try:
        text = json.loads(error.read(MAX_ANSWER))["error"]
    except (ValueError, KeyError, TypeError, OSError):
        text = ""
    if error.code == 401:
        return UsageError(f"{shown} needs its token, or another one: --token, or the variable STREAMKP_TOKEN")
    if not isinstance(text, str) or not text:
        return Unreachable(f"what answers at {shown} is no control server of streamkp (HTTP status {error.code})")
    return UsageError(text)
