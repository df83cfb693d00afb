"""Notices stages that do not come back from one packet and streams that stall; shows what the threads are doing."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from streamkp.graph.clock import Clock
from streamkp.graph.runner import StageRunner
from streamkp.graph.source_runner import SourceRunner

STUCK: Final = 30.0  # seconds with one packet: no network or disk takes that long
_LOOK: Final = 0.5  # seconds between two looks
log = logging.getLogger("streamkp.engine")


class Watchdog:
    """A thread that looks after stages and streams. It ends with `end`, or after the last runner.

    Each stage that gets stuck is logged, once each time; a stream without frames is marked as stalled.
    """

    def __init__(
        self,
        runners: Sequence[StageRunner],
        threads: Sequence[threading.Thread],
        clock: Clock,
        feeds: Callable[[], Iterable[SourceRunner]] = tuple,
    ) -> None:
        self._runners = runners
        self._threads = tuple(threads)
        self._feeds = feeds
        self._clock = clock
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streamkp-watchdog", daemon=True)
        self._told: set[tuple[str, int]] = set()

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def end(self) -> None:
        """Stop looking, and wait for the thread."""
        self._over.set()
        self._thread.join()

    def stuck(self) -> list[str]:
        """The stages that have worked on one packet for longer than `STUCK` seconds, in words."""
        return [text for _, text in self._stuck()]

    def look(self) -> None:
        """Log the stages that have got stuck since the last look, and mark the streams that stall."""
        for feed in self._feeds():
            feed.look()
        now = self._stuck()
        for key, text in now:
            if key not in self._told:
                log.error("%s", text)
        self._told = {key for key, _ in now}

    def _stuck(self) -> list[tuple[tuple[str, int], str]]:
        now, found = self._clock.monotonic(), []
        for runner in self._runners:
            if runner.stage.may_wait:
                continue
            for since, packet in list(runner.working.values()):
                if (seconds := (now - since) / 1e9) > STUCK:
                    text = f"stage {runner.name} is stuck on frame {packet.seq} of stream {packet.stream}"
                    found.append(((runner.name, since), f"{text} for {seconds:.0f} s"))
        return found

    def _run(self) -> None:
        while not self._over.wait(_LOOK) and any(thread.is_alive() for thread in self._threads):
            self.look()


def stacks(threads: Iterable[threading.Thread]) -> str:
    """Where each of these threads is, as Python sees it; one inside a library's C code shows the call into it."""
    frames = sys._current_frames()
    parts = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        where = "".join(traceback.format_stack(frame)) if frame is not None else "  (no Python frame)\n"
        parts.append(f"thread {thread.name}:\n{where}")
    return "".join(parts)
