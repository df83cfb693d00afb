"""Where each stream stands, and since when: one board that the engine owns, sources write to and sinks watch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from streamkp.graph.clock import Clock

State = Literal["connecting", "live", "stalled", "reconnecting", "paused", "failed", "ended"]
"""What a stream can be.

* connecting: nothing has come yet, and nothing has failed.
* live: frames come.
* stalled: the source is connected, or the file is open, but no frame has come for too long.
* reconnecting: a connection failed or was lost; it is tried again, for as long as the options say.
* paused: somebody wanted it to rest; `resume` has it go on.
* failed: given up.
* ended: at its proper end, or stopped.
"""
PictureFlag = Literal["frozen", "dark"]
STATES: Final[tuple[State, ...]] = ("connecting", "live", "stalled", "reconnecting", "paused", "failed", "ended")
FINAL: Final[Collection[State]] = ("failed", "ended")


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a stream: `since` (Unix ns) is when it came into this state, `reason` is for people."""

    state: State
    reason: str | None
    since: int
    epoch: int = 0
    picture: PictureFlag | None = None

    @property
    def final(self) -> bool:
        """Nothing more will come."""
        return self.state in FINAL

    def as_json(self) -> dict[str, Any]:
        """The entry of `/stats`, and the fields of a status message."""
        return asdict(self)


Listener = Callable[[str, Status | None], None]
"""Called with a stream's id and its new status, or None where the stream has been removed."""


class StatusBoard:
    """The status of each stream. Any thread may read and write; listeners hear of each change, in order.

    A listener is called in the thread that made the change and must return at once.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._lock = threading.RLock()  # a listener may read
        self._now: dict[str, Status] = {}
        self._listeners: list[Listener] = []

    def begin(self, stream: str) -> None:
        """A stream starts: whatever one of the same name came to is forgotten."""
        self._change(stream, Status("connecting", None, self._clock.now()))

    def set(
        self,
        stream: str,
        state: State,
        reason: str | None = None,
        *,
        epoch: int | None = None,
        only_from: Collection[State] | None = None,
    ) -> bool:
        """Say where a stream stands. After `failed` and `ended` nothing changes any more.

        Returns whether it was in another state before.

        Args:
            stream: its id.
            state: the new state; `since` stays where it was in this state already.
            reason: why, for people.
            epoch: of the newest frame; None: as before.
            only_from: do nothing unless the stream is in one of these states.
        """
        with self._lock:
            before = self._now.get(stream)
            if before is not None and before.final:
                return False
            if only_from is not None and (before is None or before.state not in only_from):
                return False
            same = before is not None and before.state == state
            self._change(
                stream,
                Status(
                    state,
                    reason,
                    before.since if before is not None and same else self._clock.now(),
                    epoch if epoch is not None else before.epoch if before is not None else 0,
                    before.picture if before is not None and state == "live" else None,
                ),
            )
            return not same

    def flag(self, stream: str, picture: PictureFlag | None) -> None:
        """Say what is wrong with the pictures of a stream that is live; None: nothing."""
        with self._lock:
            before = self._now.get(stream)
            if before is not None and not before.final:
                self._change(stream, replace(before, picture=picture))

    def forget(self, stream: str) -> None:
        """The stream has been removed."""
        with self._lock:
            if self._now.pop(stream, None) is not None:
                for listener in list(self._listeners):
                    listener(stream, None)

    def get(self, stream: str) -> Status | None:
        """The status of a stream; None where there is none of that name."""
        return self._now.get(stream)

    def all(self) -> dict[str, Status]:
        """The status of every stream."""
        with self._lock:
            return dict(self._now)

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every status there is, and then with each change.

        Returns the function that ends it: after it has returned, the listener is not called again.
        """
        with self._lock:
            self._listeners.append(listener)
            for stream, status in self._now.items():
                listener(stream, status)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end

    def _change(self, stream: str, status: Status) -> None:
        with self._lock:
            if self._now.get(stream) == status:
                return
            self._now[stream] = status
            for listener in list(self._listeners):
                listener(stream, status)
