"""An engine whose figures are known."""

from __future__ import annotations

from typing import Any


class FixedEngine:
    """What the HTTP routes ask of an engine, with fixed answers."""

    def __init__(self, well: bool = True, failed: dict[str, str] | None = None) -> None:
        self.well = well
        self._failed = failed or {}  # streams, each with its reason

    def stats(self) -> dict[str, Any]:
        return {"fps": 30}

    def prometheus(self) -> bytes:
        return b"streamkp_frames 1\n"

    def stuck(self) -> list[str]:
        return []

    def healthy(self) -> bool:
        return self.well

    def failed_streams(self) -> dict[str, str]:
        return self._failed

    def ready(self) -> bool:
        return self.well
