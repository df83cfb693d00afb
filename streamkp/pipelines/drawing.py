"""The video of a clip whose results are known: the clip is read a second time and drawn on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamkp.errors import SourceError, UsageError
from streamkp.graph import outputs
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage, StageContext
from streamkp.packet import Packet
from streamkp.pipelines.footage import Footage, MediaInput
from streamkp.sinks.render import Render


class _Recall(MapStage):
    """Gives every frame the people that were found in it: the packets bound to it, by `seq`."""

    def process(self, packet: Packet) -> Packet:
        packet.persons = self.context.bound[packet.seq].persons
        return packet


def check(clip: MediaInput, path: Path) -> None:
    """Raise `UsageError` where a video cannot be written to `path`, before the work that it should show."""
    source = Footage.file_of(clip.uri) if clip.pictures is None else None
    if source is not None:
        outputs.refuse_inputs("output_video", [path], {"the input": source})
    if clip.uri == "capture" and path.is_file():
        raise UsageError(
            f"{path} exists, and a cv2.VideoCapture does not say which file it reads: choose another output_video"
        )
    Render(Render.Options(path=path, overwrite=True), StageContext("output_video")).open()


def draw(clip: MediaInput, packets: list[Packet], path: Path, view: Mapping[str, Any]) -> None:
    """Write a video of the clip with what `packets` (one for each frame) hold; `view` are options of `render`.

    Raises:
        OutputError: the video cannot be written.
        UsageError: the path is not that of a video, or its folder does not exist.
        SourceError: the clip cannot be read again.
    """
    graph = Graph().stream("clip", clip.uri).add("decode", Footage)
    graph.add("recall", _Recall).add("render", path=str(path), overwrite=True, **view)
    engine = ThreadEngine(graph.validate(), bound={"decode": {"clip": clip}, "recall": packets})
    with engine:
        engine.wait()
    errors = [error for error in engine.errors if clip.incomplete is None or not isinstance(error, SourceError)]
    if errors:
        raise errors[0]
