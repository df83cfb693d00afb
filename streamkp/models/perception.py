"""From an image to people: what a person detector and a 2D pose network must offer, and how to open one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from streamkp.errors import ModelError
from streamkp.models import hub
from streamkp.models.blazepose import BlazePoseDetector, BlazePoseEstimator
from streamkp.models.efficientdet import EfficientDetDetector
from streamkp.models.runtime_openvino import OpenVinoModel, Signature
from streamkp.models.yolox import YoloxDetector
from streamkp.packet import Detections, FloatArray, Image
from streamkp.vision.pose import Pose, Region

__all__ = ["PersonDetector", "Pose", "PoseEstimator", "Region", "open_detector", "open_estimator"]


class PersonDetector(Protocol):
    """Finds people in images. Used by one thread at a time."""

    name: str

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first. Raises `ModelError` if the network gives NaN."""

    def close(self) -> None:
        """Let go of the network."""


class PoseEstimator(Protocol):
    """Finds the joints of one person per region. Used by one thread at a time."""

    name: str
    skeleton: str

    def region_from_box(self, box: FloatArray) -> Region:
        """The region to look at for a person's box (4,): x, y, w, h in source pixels."""

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for person `i` of a detection; better than the box where the detector gives anchors."""

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The pose in each region, in order; any number of crops. Raises `ModelError` if the network gives NaN."""

    def close(self) -> None:
        """Let go of the network."""


_DETECTORS = (EfficientDetDetector, BlazePoseDetector, YoloxDetector)
_ESTIMATORS = (BlazePoseEstimator,)


def open_detector(model: str, *, threads: int, precision: str = "f32", score: float = 0.4) -> PersonDetector:
    """A person detector by catalog name or file, on `threads` CPU threads.

    The shapes in the file say which detector it is, so that a file of one's own works like a catalog name.
    `score` is the least score of a person. Raises `ModelError` if the model is unknown, cannot be fetched, or is
    not a person detector.
    """
    read = OpenVinoModel(hub.path(model))
    for family in _DETECTORS:
        if family.fits(read.signature):
            return family(model, read, threads=threads, precision=precision, score=score)
    raise _misfit(model, read.signature, "person detector (EfficientDet-Lite, BlazePose detector, YOLOX)")


def open_estimator(model: str, *, threads: int, precision: str = "f32", batch: int = 4) -> PoseEstimator:
    """A 2D pose network by catalog name or file, on `threads` CPU threads.

    It runs up to `batch` crops at once; more are done in turns. Raises `ModelError` if the model is unknown, cannot
    be fetched, or is not a 2D pose network.
    """
    read = OpenVinoModel(hub.path(model))
    for family in _ESTIMATORS:
        if family.fits(read.signature):
            return family(model, read, threads=threads, precision=precision, batch=batch)
    raise _misfit(model, read.signature, "2D pose network (BlazePose landmarks)")


def _misfit(model: str, signature: Signature, wanted: str) -> ModelError:
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in signature.outputs.items())
    return ModelError(f"{model} is not a {wanted}: its outputs are {shapes}")
