"""Whose motion is handed on: one person of one stream."""

from __future__ import annotations

from streamkp.plugin import Packet, Person


class Performer:
    """Keeps to one person with `kinematics` as long as the track lives; then, and at first, takes the largest."""

    def __init__(self, stream: str | None) -> None:
        """`stream`: only people of this one; None: of the first stream that shows somebody."""
        self._only = stream
        self._stream = stream
        self._track: int | None = None

    def choose(self, packet: Packet) -> Person | None:
        """The person in this packet, None if it shows them not, or is of another stream."""
        if self._stream not in (None, packet.stream):
            return None
        people = [person for person in packet.persons if "kinematics" in person.extra]
        for person in people:
            if person.track == self._track:
                return person
        if not people or (self._track is not None and self._track in packet.tracks):
            return None
        person = max(people, key=lambda p: float(p.box[2] * p.box[3]))
        self._stream, self._track = packet.stream, person.track
        return person

    def stream_ended(self, stream: str) -> None:
        """Be ready for another stream, unless one was named."""
        if stream == self._stream:
            self._stream, self._track = self._only, None
