"""streamkp: live video into human keypoints, 2D and 3D, for many cameras at once.

    import streamkp

    async for result in streamkp.stream("walking.mp4"):
        for person in result.persons:
            print(result.seq, person.track, person.keypoints_2d.points)

    body3d = streamkp.pipeline("body-3d-keypoints")
    poses = body3d("walking.mp4")["keypoints"]

What is named here is the public interface; everything else may change.
"""

from typing import TYPE_CHECKING, Any

from streamkp.errors import ModelError, OutputError, SourceError, StreamkpError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.live import stream
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person
from streamkp.version import __version__

if TYPE_CHECKING:
    from streamkp.notebook import show
    from streamkp.pipelines import pipeline

__all__ = [
    "Engine",
    "Graph",
    "Intrinsics",
    "Keypoints2D",
    "Keypoints3D",
    "ModelError",
    "OutputError",
    "Packet",
    "Person",
    "SourceError",
    "StreamkpError",
    "UsageError",
    "__version__",
    "pipeline",
    "show",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name == "pipeline":  # and with it the models, which `import streamkp` does without
        from streamkp.pipelines import pipeline

        return pipeline
    if name == "show":
        from streamkp.notebook import show

        return show
    raise AttributeError(f"module 'streamkp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
