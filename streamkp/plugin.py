"""What an author of stages, sinks and sources imports: base classes, what flows through a graph, joint layouts, errors.

    from streamkp.plugin import MapStage, Packet, StageOptions, skeleton

A class that derives from `MapStage`, `BatchStage`, `Sink`, `MessageSink` or `Source` is named in a graph file as
`path/to/file.py:ClassName`, or by name when its package lists it under the entry point group `streamkp.stages`.
`streamkp.testing` drives such a class by hand. `LoopThread` runs asyncio code for a stage that speaks to the network.
"""

from collections.abc import Iterator
from pathlib import Path

from streamkp.errors import ModelError, OutputError, SourceError, StreamkpError, UsageError
from streamkp.graph.clock import Clock
from streamkp.graph.loop_thread import LoopThread
from streamkp.graph.stage import (
    LIVE,
    BatchStage,
    Begun,
    MapStage,
    PerStream,
    PerTrack,
    Sink,
    Source,
    Stage,
    StageContext,
    StageOptions,
    StreamContext,
)
from streamkp.graph.status import Status
from streamkp.packet import (
    Annotation,
    Detections,
    Extremities,
    Keypoints2D,
    Keypoints3D,
    LabelAnnotation,
    LineAnnotation,
    Packet,
    Person,
    PoseWindow,
    WindowRequest,
)
from streamkp.sinks.message_sink import MessageSink
from streamkp.sinks.paths import FreshFile, refuse_existing
from streamkp.skeletons import SKELETONS, Skeleton, convert
from streamkp.skeletons import get as skeleton
from streamkp.wire import Message

__all__ = [
    "LIVE",
    "SKELETONS",
    "Annotation",
    "BatchStage",
    "Begun",
    "Clock",
    "Detections",
    "Extremities",
    "FreshFile",
    "Keypoints2D",
    "Keypoints3D",
    "LabelAnnotation",
    "LineAnnotation",
    "LoopThread",
    "MapStage",
    "Message",
    "MessageSink",
    "ModelError",
    "OutputError",
    "Packet",
    "PerStream",
    "PerTrack",
    "Person",
    "PoseWindow",
    "Sink",
    "Skeleton",
    "Source",
    "SourceError",
    "Stage",
    "StageContext",
    "StageOptions",
    "Status",
    "StreamContext",
    "StreamkpError",
    "UsageError",
    "WindowRequest",
    "convert",
    "recording",
    "refuse_existing",
    "skeleton",
]


def recording(path: Path) -> Iterator[Packet]:
    """The packets of a recording of `record` (JSON Lines, plain or gzip), one by one and without images.

    Raises:
        SourceError: it cannot be read, or is no recording of one stream.
    """
    from streamkp.sources import replay

    return replay.packets(replay.Recording(path))
