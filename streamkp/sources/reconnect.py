"""Keeps a live source alive: when it is lost, try again, each time a little later."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.timeline import Picture, Timeline

FIRST_WAIT = 0.5  # seconds; doubles with each attempt that brings no frame


def keep_connected(
    stream: StreamContext,
    timeline: Timeline,
    connect: Callable[[], Iterator[Picture]],
    *,
    max_wait: float,
    give_up_after: float | None,
    wait_for_source: bool,
) -> Iterator[Packet]:
    """The packets of one connection after the other, each in an epoch of its own.

    `connect` makes a connection and yields its pictures; it raises `SourceError` when the connection cannot be made
    or is lost, and returns only when the source has come to its proper end.

    Raises:
        SourceError: the first connection fails (unless `wait_for_source`), or no frame came for `give_up_after` s.
    """
    wait, lost_at = FIRST_WAIT, stream.clock.monotonic()
    while not stream.stopping:
        try:
            for picture in connect():
                wait = FIRST_WAIT
                yield timeline.packet(picture)
                lost_at = stream.clock.monotonic()
                if stream.stopping:
                    return
            return
        except SourceError as error:
            if not timeline.frames and not wait_for_source:
                raise
            gone = (stream.clock.monotonic() - lost_at) / 1e9
            if give_up_after is not None and gone + wait > give_up_after:
                raise SourceError(f"{error}; gave up {gone:.0f} s after the last frame") from None
            reason = str(error)
        if stream.stopping:
            return
        stream.log.warning("%s; trying again in %.1f s", reason, wait)
        stream.set_status("reconnecting")
        timeline.restart()
        if stream.wait(wait):
            return
        wait = min(2 * wait, max_wait)
