"""`streamkp view`: the page of a running graph in the browser."""

from __future__ import annotations

import json
import re
import webbrowser
from collections.abc import Sequence
from typing import Annotated
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import ProxyHandler, build_opener

import typer

from streamkp.cli.run import run
from streamkp.errors import SourceError
from streamkp.graph.engine import Engine

FIRST_PORT, PORTS = 8765, 10  # where a page is looked for
SECONDS = 2.0  # that a server may take to answer


def view(
    where: Annotated[
        str | None, typer.Argument(help="Address of a running page, or a graph to start; none: what runs here.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", "-s", help="Sources of the graph to start, as of `streamkp run`.")
    ] = None,
    only_print: Annotated[bool, typer.Option("--print", help="Print the address, open nothing.")] = False,
) -> None:
    """Open the page of a running graph, or start a graph and open its page."""
    if where is None and not source:
        show(running(range(FIRST_PORT, FIRST_PORT + PORTS)), only_print)
    elif where is not None and "://" in where:
        if not has_page(where):
            raise SourceError(f"no page of streamkp answers at {where}; does it run there, and with publish-websocket?")
        show(where, only_print)
    else:
        run(where or "demo", source=source, page=lambda engine: show(page_of(engine), only_print))


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
    except (HTTPError, OSError, ValueError):
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
