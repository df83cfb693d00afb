"""Networks, their weights, and what runs them.

`create` and `load` give networks in torch (`streamkp[torch]`). The other names are for authors of a model of their own,
which docs/adding-models.md shows.
"""

from streamkp.hub.catalog import File, Model, ModelSpec
from streamkp.models.registry import ModelFile, ModelOptions, PersonDetector, PoseEstimator
from streamkp.models.zoo import create, load
from streamkp.poses import Pose
from streamkp.runtimes.base import Network, NetworkSource, Pixels, RunOptions, TorchModule, open_network
from streamkp.vision.crop import crop, points_to_source

__all__ = [
    "File",
    "Model",
    "ModelFile",
    "ModelOptions",
    "ModelSpec",
    "Network",
    "NetworkSource",
    "PersonDetector",
    "Pixels",
    "Pose",
    "PoseEstimator",
    "RunOptions",
    "TorchModule",
    "create",
    "crop",
    "load",
    "open_network",
    "points_to_source",
]
