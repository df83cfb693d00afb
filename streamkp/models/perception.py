"""From an image to people: what a person detector and a 2D pose network must offer, and how to open one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from streamkp.errors import ModelError
from streamkp.hub import store
from streamkp.models.detect.efficientdet import EfficientDetDetector
from streamkp.models.detect.rtmdet import RtmDetector
from streamkp.models.detect.yolox import YoloxDetector
from streamkp.models.pose2d.blazepose import BlazePoseDetector, BlazePoseEstimator
from streamkp.models.pose2d.recipes import open_simcc, open_torch, recipe_of
from streamkp.models.pose2d.topdown import SimccReader
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.image_networks import Device, Runtime
from streamkp.runtimes.openvino import OpenVinoModel, Signature

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


_DETECTORS = (EfficientDetDetector, BlazePoseDetector, YoloxDetector, RtmDetector)
_OPENVINO_FILES = (".onnx", ".tflite", ".xml")


def open_detector(model: str, *, threads: int, precision: str = "f32", score: float = 0.4) -> PersonDetector:
    """A person detector by catalog name or file, on `threads` CPU threads.

    The shapes in the file say which detector it is, so that a file of one's own works like a catalog name.
    `score` is the least score of a person. Raises `ModelError` if the model is unknown, cannot be fetched, or is
    not a person detector.
    """
    read = OpenVinoModel(store.path(model))
    for family in _DETECTORS:
        if family.fits(read.signature):
            return family(model, read, threads=threads, precision=precision, score=score)
    raise _misfit(model, read.signature, "person detector (EfficientDet-Lite, BlazePose detector, YOLOX, RTMDet)")


def open_estimator(
    model: str,
    *,
    threads: int,
    precision: str = "f32",
    batch: int = 4,
    device: Device = "auto",
    runtime: Runtime = "auto",
    checkpoint: str | None = None,
    flip: bool = False,
) -> PoseEstimator:
    """A 2D pose network by catalog name or file.

    A file of one's own is recognised by its shapes (ONNX, TFLite) or by the keys of its weights (torch checkpoint,
    safetensors). `checkpoint` is a file with weights for a torch network named in `model`. Networks in torch run on
    `device` by `runtime`; "auto" is the GPU where torch has one, else OpenVINO; ONNX and TFLite files run on the CPU
    by OpenVINO. CPUs use `threads` threads. OpenVINO runs up to `batch` crops at once; more are done in turns.
    `flip` averages what a heatmap network says of a crop and of its mirror image: slower, a little more accurate.

    Raises `ModelError` if the model is unknown, cannot be fetched, is not a 2D pose network, or cannot run like that.
    """
    recipe = recipe_of(model)
    if checkpoint is not None and recipe is None:
        raise ModelError(f"checkpoint goes with a torch network of the catalog, such as hrnet-w32-coco17; not {model}")
    path = store.path(model) if checkpoint is None else _file(checkpoint)
    if recipe is not None or path.suffix not in _OPENVINO_FILES:
        return open_torch(
            model,
            path,
            recipe,
            device=device,
            runtime=runtime,
            threads=threads,
            precision=precision,
            batch=batch,
            flip=flip,
        )
    if device == "cuda" or runtime == "torch":
        raise ModelError(f"{model} is run by OpenVINO on the CPU: leave out device and runtime")
    if flip:
        raise ModelError(f"{model} is not a heatmap network: leave out flip")
    read = OpenVinoModel(path)
    if BlazePoseEstimator.fits(read.signature):
        return BlazePoseEstimator(model, read, threads=threads, precision=precision, batch=batch)
    if SimccReader.fits(read.signature):
        return open_simcc(model, read, threads=threads, precision=precision, batch=batch)
    raise _misfit(model, read.signature, "2D pose network (BlazePose landmarks, RTMPose)")


def _file(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no checkpoint file {checkpoint}")
    return path


def _misfit(model: str, signature: Signature, wanted: str) -> ModelError:
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in signature.outputs.items())
    return ModelError(f"{model} is not a {wanted}: its outputs are {shapes}")
