"""How far a download is: a bar on a terminal, one line elsewhere. Always on stderr, so that stdout stays data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

# Called with the bytes so far and the bytes in all, where known.
Advance = Callable[[int, int | None], None]
# Opened with what is being fetched, for as long as it takes.
Reporter = Callable[[str], AbstractContextManager[Advance]]


@contextmanager
def on_stderr(what: str) -> Iterator[Advance]:
    """Show a bar if stderr is a terminal, otherwise say once what is being fetched."""
    if not sys.stderr.isatty():
        print(f"fetching {what}", file=sys.stderr, flush=True)
        yield _ignore
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def silent(what: str) -> Iterator[Advance]:
    """Show nothing."""
    yield _ignore


def _ignore(done: int, total: int | None) -> None:
    pass
