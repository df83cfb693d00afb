"""Reconnects to a live source when it is lost, with growing pauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.container import VideoReader
from streamkp.sources.network import AccessRefused
from streamkp.sources.timeline import NANO, Picture, Timeline

FIRST_WAIT = 0.5  # seconds; doubles with each attempt that brings no frame
REFUSED_WAIT = 30.0  # least, after a wrong password: some cameras lock out who tries too often
JITTER = 0.2  # share by which a pause may be longer, so that cameras behind one switch are not called all at once


class NotLive(Exception):
    """What was connected to turned out to have an end."""

    def __init__(self, reader: VideoReader) -> None:
        super().__init__()
        self.reader = reader


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
        NotLive: from `connect`.
    """
    wait, lost_at, lost = FIRST_WAIT, stream.clock.monotonic(), False
    while not stream.stopping:
        try:
            for picture in connect():
                packet = timeline.packet(picture)
                if lost:
                    stream.log.warning(
                        "%s is back after %.0f s", stream.label, (stream.clock.monotonic() - lost_at) / NANO
                    )
                wait, lost = FIRST_WAIT, False
                yield packet
                lost_at = stream.clock.monotonic()
                if stream.stopping:
                    return
            return
        except SourceError as error:
            failure = error
        except (StreamkpError, NotLive):
            raise
        except Exception as error:  # whatever a camera sends, it is the camera that failed
            stream.log.debug("%s: the connection failed", stream.label, exc_info=True)
            failure = SourceError(f"{stream.label}: the connection failed ({type(error).__name__})")
        if stream.stopping:
            return
        if not timeline.frames and not wait_for_source:
            raise failure
        failure.__traceback__ = failure.__context__ = None  # they hold the connection, which is to be freed now
        pause = max(wait, REFUSED_WAIT) if isinstance(failure, AccessRefused) else wait
        pause *= 1 + JITTER * random.random()
        gone = (stream.clock.monotonic() - lost_at) / NANO
        if give_up_after is not None and gone + pause > give_up_after:
            raise SourceError(f"{failure}; gave up {gone:.0f} s after the last frame")
        stream.log.warning("%s; trying again in %.1f s", failure, pause)
        stream.set_status("reconnecting", str(failure))
        timeline.restart()
        lost = True
        if stream.wait(pause):
            return
        wait = min(2 * wait, max_wait)
