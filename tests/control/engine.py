"""An engine whose figures are known."""

from __future__ import annotations

from typing import Any

from streamkp.graph.status import State, Status


class FixedEngine:
    """What the HTTP routes ask of an engine, with fixed answers."""

    def __init__(self, well: bool = True, **states: State) -> None:
        self.well = well
        self._statuses = {stream: Status(state, None, 1) for stream, state in states.items()}

    def stats(self) -> dict[str, Any]:
        return {"fps": 30}

    def prometheus(self) -> bytes:
        return b"streamkp_frames 1\n"

    def stuck(self) -> list[str]:
        return []

    def healthy(self) -> bool:
        return self.well

    def statuses(self) -> dict[str, Status]:
        return self._statuses

    def ready(self) -> bool:
        return self.well
