"""`streamkp view`: the page of a running graph in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from streamkp.cli.page import has_page, running, show
from streamkp.cli.run import run
from streamkp.errors import SourceError

FIRST_PORT, PORTS = 8765, 10  # where a page is looked for


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
        run(where or "demo", source=source, page="print" if only_print else "open")
