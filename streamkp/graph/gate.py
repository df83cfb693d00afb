"""What lets a stream's results out, where several engines have the same stream at different times."""

from __future__ import annotations

from typing import Protocol


class Gate(Protocol):
    """Asked by an engine about its streams (`ThreadEngine(gate=...)`), from the engine's threads."""

    def opens(self, stream: str, epoch: int) -> bool:
        """Before the first packet of an epoch goes into the graph; may wait. False ends the stream."""

    def lets_out(self, stream: str) -> bool:
        """Before a sink takes a packet of the stream; must not wait. False drops the packet."""

    def gone(self, stream: str) -> None:
        """The stream has ended, and every stage has seen its end."""
