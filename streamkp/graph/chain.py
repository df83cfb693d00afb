"""A stage that runs in the thread of the one before it, where a channel would be between the two otherwise."""

from __future__ import annotations

from typing import Protocol

from streamkp.packet import Packet


class Follower(Protocol):
    """What a chain drives: the runner of a stage without a thread of its own."""

    def take(self, packet: Packet) -> None:
        """Work on a packet and send it on."""

    def end(self, stream: str) -> None:
        """A stream has ended."""

    def finish(self) -> None:
        """Nothing more will come: close the stage."""


class Chain:
    """The end of an edge that works on what is put into it at once. It is called by one thread."""

    def __init__(self) -> None:
        self.follower: Follower

    def put(self, key: str, packet: Packet) -> None:
        """Run the stage on a packet, and those after it."""
        self.follower.take(packet)

    def end(self, key: str) -> None:
        """Tell the stage, and those after it, that a stream has ended."""
        self.follower.end(key)

    def close(self) -> None:
        """Close the stage, and those after it."""
        self.follower.finish()
