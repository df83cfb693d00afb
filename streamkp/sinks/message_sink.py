"""The base of sinks that publish the message of every frame."""

from __future__ import annotations

from streamkp import wire
from streamkp.graph.stage import Sink, StageContext, StageOptions
from streamkp.packet import Packet


class MessageSink(Sink):
    """Makes the message of each packet and hands it to `send`; counts the frames that never came.

    Examples:
        >>> class Print(MessageSink):
        ...     def send(self, message):
        ...         print(message["stream"], len(message["persons"]))
    """

    def __init__(self, options: StageOptions, context: StageContext) -> None:
        super().__init__(options, context)
        self._drops = wire.DropCounter()

    def send(self, message: wire.Message) -> None:
        """Publish one message (see `streamkp.wire`), points as float32 arrays. A `StreamkpError` ends the sink."""
        raise NotImplementedError

    def wanted(self, packet: Packet) -> bool:
        """Whether anybody would take this packet's message; without takers it is not made."""
        return True

    def process(self, packet: Packet) -> None:
        dropped = self._drops.count(packet)
        if self.wanted(packet):
            self.send(wire.message(packet, self.context.clock.now(), dropped))

    def stream_ended(self, stream: str) -> None:
        self._drops.forget(stream)
