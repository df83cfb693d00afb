"""Which models there are, and how one is opened by name or from a file of one's own.

A model is one row of `streamkp/hub/catalog.toml` (`ModelSpec` in `streamkp.hub.catalog` says what its fields mean), or
one `Model` that another package adds through the entry point group `streamkp.models`. Its `family` is a module with
everything between an image and a result:

    recognise(file: ModelFile) -> ModelSpec | None
        What a file of one's own is, if it is of this family, by its shapes or its keys; None if it is not.
    open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> PersonDetector | PoseEstimator
        Makes it ready. `options.run` goes to `streamkp.runtimes.base.open_network`.

Adding a model of a known family is one row; adding a family is one module and one row. The family of a lifter has
`window`, `open_live` and `open_sequence` in place of `open_model`, see `streamkp.models.lift.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog, store
from streamkp.hub.catalog import Model, ModelSpec
from streamkp.packet import AnyImage, Detections, DevicePicture, FloatArray, Image, Packet
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Device, Precision, RunOptions, Runtime, Threads

if TYPE_CHECKING:
    from torch import Tensor

    from streamkp.models.detect.palm import PalmDetector
    from streamkp.models.gestures import GestureNetwork
    from streamkp.runtimes.openvino import Signature

DETECTION = ("person-detection",)
KEYPOINTS = ("body-2d-keypoints", "human-wholebody-keypoint", "hand-2d-keypoints", "face-2d-keypoints")
HANDS = ("hand-detection",)
GESTURES = ("hand-gestures",)
LIFTING = ("body-3d-keypoints",)

_OPENVINO_FILES = (".onnx", ".tflite", ".xml")
_WHAT = {
    DETECTION: "person detector",
    KEYPOINTS: "2D pose network",
    HANDS: "hand detector",
    GESTURES: "gesture network",
    LIFTING: "lifter",
}


class OnDevice(Protocol):
    """What a detector or estimator has too if it reads images in the memory of its device."""

    def to_device(self, image: AnyImage) -> DevicePicture:
        """The image where the network is; uploads what is not there yet."""


def picture_for(model: object, packet: Packet) -> Image | None:
    """The picture of a packet for a detector or an estimator: on the host, or for `OnDevice` on its device.

    What had to be uploaded stays with the packet, for those who come after.
    """
    if packet.picture is None or not hasattr(model, "to_device"):
        return packet.image
    packet.picture = cast(OnDevice, model).to_device(packet.picture)
    return cast(Image, packet.picture)  # such a model takes it where others take an image


class PersonDetector(Protocol):
    """Finds people in images. Used by one thread at a time.

    One that works on several images of a call as a whole, which a GPU does well, says so by an attribute `at_once`:
    how many images it is to get in one call at most, or None for any number. The others get one at a time, so that
    what it finds does not depend on which frames are ready together.
    """

    name: str
    score: float  # least score of a person, 0..1; may be set between two calls

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first. Raises `ModelError` if the network gives NaN."""

    def close(self) -> None:
        """Let go of the network."""


class PoseEstimator(Protocol):
    """Finds the joints of one person per region. Used by one thread at a time.

    An estimator whose poses are the same to the last bit, whatever else is estimated in the same call, may say so by
    an attribute `batch_independent` that is true: frames of several files then share batches. One that works on so many
    crops at a time, and not on a batch as a whole, may say so by `at_once`; one that can work in the background has
    a method `start`, see the function of that name.
    """

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


def start(
    estimator: PoseEstimator, crops: Sequence[tuple[Image, Region]], *, crowded: bool
) -> Callable[[], list[Pose]]:
    """`estimate` in the background where the estimator can, otherwise at once; what is returned gives the poses.

    `crowded`: what was started before is not done yet.
    """
    if not crops:
        return list
    if (begin := getattr(estimator, "start", None)) is not None:
        started: Callable[[], list[Pose]] = begin(crops, crowded=crowded)
        return started
    poses = estimator.estimate(crops)
    return lambda: poses


@dataclass(frozen=True)
class ModelOptions:
    """How a model is opened.

    Attributes:
        run: runtime, device, threads, precision.
        score: of a detector: least score of a person, 0..1.
        flip: of a heatmap network: average over each crop and its mirror image.
    """

    run: RunOptions = field(default_factory=RunOptions)
    score: float = 0.4
    flip: bool = False

    def refuse_flip(self, name: str) -> None:
        """Raises `UsageError` if `flip` is set; for families that have no heatmaps."""
        if self.flip:
            raise UsageError(f"{name} is not a heatmap network: leave out flip")


class ModelFile:
    """A file of the user's, read as far as the families ask. Raises `ModelError` if it is no model at all."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    @cached_property
    def signature(self) -> Signature | None:
        """Shapes of inputs and outputs; None if it is not a file for OpenVINO (ONNX, TFLite)."""
        if self.path.suffix not in _OPENVINO_FILES:
            return None
        from streamkp.runtimes.openvino import read_signature

        return read_signature(self.path)

    @cached_property
    def weights(self) -> dict[str, Tensor] | None:
        """The state dict; None if it is not a torch checkpoint."""
        if self.path.suffix in _OPENVINO_FILES:
            return None
        from streamkp.models import checkpoint, zoo

        zoo.require_torch(self.name)
        return checkpoint.read(self.path)

    def fitting(self, family: str) -> ModelSpec | None:
        """The first row of a family whose torch network has exactly the keys and shapes of these weights."""
        from streamkp.models import zoo

        if self.weights is None:
            return None
        return next((row for row in torch_models() if row.family == family and zoo.fits(row, self.weights)), None)


def rows(tasks: Sequence[str] = (*DETECTION, *KEYPOINTS, *HANDS, *GESTURES, *LIFTING)) -> list[Model]:
    """The rows of some tasks, in the order of the catalog."""
    return [row for row in catalog.table().model if row.task in tasks]


def find(name: str) -> Model | None:
    """The row of a name or alias, None if there is none."""
    return next((row for row in catalog.table().model if name == row.name or name in row.aliases), None)


def torch_models() -> list[Model]:
    """One row for each torch network of the catalog, those first whose own weights are torch checkpoints."""
    able = sorted((row for row in rows() if row.network), key=lambda row: row.runtime != "torch")
    distinct: dict[tuple[str | None, str], Model] = {}
    for row in able:
        distinct.setdefault((row.network, repr(sorted(row.arguments.items()))), row)
    return list(distinct.values())


def open_detector(
    model: str,
    *,
    threads: Threads = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    runtime: Runtime = "auto",
    score: float = 0.4,
) -> PersonDetector:
    """A person detector by catalog name or file.

    The shapes in the file say which detector it is, so that a file of one's own works like a catalog name. `score`
    is the least score of a person, 0..1; the other options are those of `RunOptions`.

    Raises:
        UsageError: the options contradict each other or the model.
        ModelError: the model is unknown, cannot be fetched, is not a person detector, or cannot run here.
    """
    options = ModelOptions(RunOptions(device, runtime, threads, precision), score=score)
    return cast(PersonDetector, _open(model, DETECTION, options, None))


def open_estimator(
    model: str,
    *,
    threads: Threads = "auto",
    precision: Precision = "f32",
    device: Device = "auto",
    runtime: Runtime = "auto",
    checkpoint: str | None = None,
    flip: bool = False,
) -> PoseEstimator:
    """A 2D pose network by catalog name or file.

    A file of one's own is recognised by its shapes (ONNX, TFLite) or by the keys of its weights (torch checkpoint,
    safetensors). `checkpoint` is a file with weights for the torch network named in `model`. `flip` averages what a
    heatmap network says of a crop and of its mirror image: slower, a little more accurate. The other options are
    those of `RunOptions`.

    Raises:
        UsageError: the options contradict each other or the model.
        ModelError: the model is unknown, cannot be fetched, is not a 2D pose network, or cannot run here.
    """
    options = ModelOptions(RunOptions(device, runtime, threads, precision), flip=flip)
    return cast(PoseEstimator, _open(model, KEYPOINTS, options, checkpoint))


def open_hand_detector(model: str, *, threads: Threads = 1, score: float = 0.5) -> PalmDetector:
    """A detector of hands by catalog name or file; it runs on the CPU. `score` is the least score of one, 0..1.

    Raises:
        ModelError: the model is unknown, cannot be fetched, or is not a detector of hands.
    """
    options = ModelOptions(RunOptions("cpu", "auto", threads), score=score)
    return cast("PalmDetector", _open(model, HANDS, options, None))


def open_gestures(model: str, *, threads: Threads = 1, precision: Precision = "f32") -> GestureNetwork:
    """A gesture network by catalog name or file; it runs on the CPU.

    Raises:
        ModelError: the model is unknown, cannot be fetched, or is not a gesture network.
    """
    options = ModelOptions(RunOptions("cpu", "auto", threads, precision))
    return cast("GestureNetwork", _open(model, GESTURES, options, None))


def check(model: str, tasks: Sequence[str]) -> None:
    """Raise a `ModelError` if `model` is neither a file nor a row for one of the tasks; fetches nothing."""
    row = find(model)
    if row is None:
        store.check(model)
    elif row.task not in tasks:
        raise _misfit(model, tuple(tasks), f"it is for {row.task}")


def family_of(spec: ModelSpec) -> Any:
    """The module that opens a model. Raises `ModelError` if it cannot be imported."""
    try:
        return import_module(spec.family)
    except ImportError as error:
        raise ModelError(f"{spec.family}, which opens the model, cannot be imported: {error}") from error


def _open(model: str, tasks: tuple[str, ...], options: ModelOptions, checkpoint: str | None) -> object:
    row: ModelSpec | None = find(model)
    if checkpoint is not None and (row is None or row.network is None):
        raise UsageError(f"checkpoint goes with a torch network of the catalog, such as hrnet-w32-coco17; not {model}")
    if row is not None and row.task not in tasks:
        raise _misfit(model, tasks, f"it is for {row.task}")
    path = store.path(model) if checkpoint is None else _file(checkpoint)
    spec = row or _recognised(ModelFile(model, path), tasks)
    return family_of(spec).open_model(model, spec, path, options)


def _recognised(file: ModelFile, tasks: tuple[str, ...]) -> ModelSpec:
    for name in dict.fromkeys(row.family for row in rows(tasks)):
        family = import_module(name)
        if (spec := family.recognise(file)) is not None:
            return cast(ModelSpec, spec)
    if file.signature is not None:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in file.signature.outputs.items())
        raise _misfit(file.name, tasks, f"its outputs are {shapes}")
    from streamkp.models import zoo

    assert file.weights is not None
    other = [row.name for row in torch_models() if zoo.fits(row, file.weights)]
    raise _misfit(
        file.name, tasks, f"it belongs to {other[0]}" if other else "its keys belong to no network known here"
    )


def _misfit(model: str, tasks: tuple[str, ...], why: str) -> ModelError:
    known = dict.fromkeys(row.family.rpartition(".")[2] for row in rows(tasks))
    return ModelError(f"{model} is not a {_WHAT[tasks]}: {why}; the families known are {', '.join(known)}")


def _file(checkpoint: str) -> Path:
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise ModelError(f"there is no checkpoint file {checkpoint}")
    return path
