"""Results in Python, as they come: `async for result in streamkp.stream("0")`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from streamkp.graph.channel import Channel, Closed, End
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import Sink, StageOptions
from streamkp.packet import Packet

DEPTH = 4  # results that may wait for the caller


class HandOver(Sink):
    """Gives results to a caller in another thread, who takes them in its own time."""

    class Options(StageOptions):
        """`channel`: where the caller takes them from."""

        channel: Any

    options: Options

    def process(self, packet: Packet) -> None:
        """Wait for the caller with files; forget the oldest result with cameras."""
        try:
            self.options.channel.put(packet.stream, packet)
        except Closed:
            return  # the caller has left

    def close(self) -> None:
        """Tell the caller that this was all."""
        self.options.channel.close()


async def stream(*uris: str, graph: str | Path | Graph = "demo") -> AsyncIterator[Packet]:
    """Run a graph on one or more videos and yield its result for every frame.

    Args:
        uris: files, cameras (`"0"`, `"rtsp://..."`) or samples (`"sample:walk"`).
        graph: a graph file, the name of a ready-made graph, or a `Graph`; its sinks are left out.

    Yields:
        `Packet`: 2D keypoints in source pixels, 3D in metres; the image is the source frame (do not write to it).

    Raises:
        StreamkpError: the graph is wrong, or (after everything that could be read was yielded) a source failed.

    Example:
        >>> async for result in streamkp.stream("squat.mp4"):      # doctest: +SKIP
        ...     print(result.seq, [person.track for person in result.persons])
    """
    plan = graph if isinstance(graph, Graph) else Graph.from_yaml(graph)
    names = {f"stream{n}": uri for n, uri in enumerate(uris)}
    channel: Channel[Packet] = Channel(DEPTH, lambda key: "drop-oldest" if engine.is_live(key) else "block")
    plan.without_sinks().only_streams(names).add("hand-over", HandOver, channel=channel)
    engine = Engine(plan.validate())
    await asyncio.to_thread(engine.start)
    try:
        while True:
            try:
                _, item = await asyncio.to_thread(channel.get)
            except Closed:
                break
            if not isinstance(item, End):
                yield item
    finally:
        channel.abort()
        engine.stop()
        try:
            await asyncio.shield(asyncio.to_thread(engine.wait))
        except asyncio.CancelledError:
            engine.wait()  # cancelled again while ending: no thread may outlive us
            raise
    if engine.errors:
        raise engine.errors[0]
