"""The page of a running graph: where it is, and opening it in the user's browser."""

from __future__ import annotations

import json
import re
import webbrowser
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

import typer

from streamkp.errors import SourceError
from streamkp.graph.engine import Engine

SECONDS = 2.0  # that a server may take to answer


def show(address: str, only_print: bool = False) -> None:
    """Open an address in the user's browser; print it where there is none."""
    if only_print or not webbrowser.open(address):
        typer.echo(address)


def running(ports: Sequence[int]) -> str:
    """The address of the first page on this machine.

    Raises:
        SourceError: none of the ports has one.
    """
    for port in ports:
        address = f"http://127.0.0.1:{port}"
        if has_page(address):
            return address
    raise SourceError(
        f"nothing that has a page runs on this machine at the ports {ports[0]} to {ports[-1]}; "
        "give its address, or start a graph with: streamkp view demo"
    )


def has_page(address: str) -> bool:
    """Whether streamkp's page is at that address."""
    parts = urlsplit(address)
    found = urlunsplit((parts.scheme, parts.netloc, "/skeletons.json", parts.query, ""))
    try:
        # No proxy: the page is on this machine or near it.
        with build_opener(ProxyHandler({})).open(found, timeout=SECONDS) as answer:
            return "h36m17" in json.load(answer)
    except (OSError, ValueError):
        return False


def page_of(engine: Engine) -> str:
    """The address of a running graph's own page, with its token.

    Raises:
        SourceError: the graph has none.
    """
    for line in engine.notices():
        if (found := re.search(r"the page is at (https?://\S+)", line)) is not None:
            tokens = [t for stage in engine.spec.stages if (t := getattr(stage.options, "token", None)) is not None]
            return found[1] + (f"/?token={tokens[0].get_secret_value()}" if tokens else "")
    raise SourceError("this graph has no page: add a stage publish-websocket")
