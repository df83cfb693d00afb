"""RTMPose: keypoints as two 1D distributions per joint (OpenMMLab, Apache-2.0).

Sources: Jiang et al. 2023, "RTMPose"; Li et al., ECCV 2022, "SimCC". The ONNX files of the RTMPose project take `input`
(N, 3, 256, 192) and give `simcc_x` (N, K, 384) and `simcc_y` (N, K, 512): two bins per pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.hub.catalog import ModelSpec
from streamkp.models.pose2d.topdown import IMAGENET, AffineFraming, Crops, TopDownEstimator
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.runtimes.base import Network, NetworkSource, open_network
from streamkp.runtimes.openvino import Signature

SPLIT = 2.0
_SKELETONS = {len(skeletons.get(name).joints): name for name in ("coco17", "wholebody133", "hand21")}


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: two outputs with distributions over x and y.

    Raises `ModelError` if it finds joints of no skeleton known here.
    """
    if file.signature is None or (outputs := _outputs(file.signature)) is None:
        return None
    joints = file.signature.outputs[outputs[0]][1]
    if joints not in _SKELETONS:
        known = ", ".join(f"{count} ({name})" for count, name in _SKELETONS.items())
        raise ModelError(f"{file.name} finds {joints} joints; the layouts known for RTMPose have {known}")
    return ModelSpec(task="body-2d-keypoints", family=__name__, skeleton=_SKELETONS[joints])


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> TopDownEstimator:
    """See `streamkp.models.registry`. Raises `ModelError` if the file is not such a network."""
    options.refuse_flip(name)
    signature = ModelFile(name, path).signature
    outputs = None if signature is None else _outputs(signature)
    if outputs is None or spec.skeleton is None:
        raise ModelError(f"{path} is not an RTMPose network")
    network = open_network(NetworkSource(name, file=path, outputs=outputs, pixels=IMAGENET), options.run)
    ((_, port),) = network.inputs.items()
    _, height, width, _ = port.shape
    return TopDownEstimator(name, spec.skeleton, AffineFraming((width, height)), SimccDecoder(network, width))


class SimccDecoder:
    """A SimCC network for crops of a width in pixels; its outputs are the distributions over x and over y."""

    def __init__(self, network: Network, width: int) -> None:
        self._network = network
        ((self._input, _),) = network.inputs.items()
        self._x, self._y = network.outputs
        self._split = network.outputs[self._x].shape[2] / width

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `JointDecoder`."""
        found = self._network({self._input: crops})
        return decode(found[self._x], found[self._y], self._split)

    def close(self) -> None:
        """See `JointDecoder`."""
        self._network.close()


def decode(
    simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32], split: float = SPLIT
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (N, K, 2) in crop pixels and scores (N, K), from the distributions (N, K, W split) and (N, K, H split).

    The score is the lower of the two maxima; a joint with none above zero lies at (-1, -1) / split, outside the crop.
    Raises ValueError when a maximum is NaN.
    """
    scores = np.minimum(simcc_x.max(axis=-1), simcc_y.max(axis=-1))
    if np.isnan(scores).any():
        raise ValueError("the network gave distributions with NaN: its weights or its input are not finite")
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1)
    points = (bins / split).astype(np.float32)
    points[scores <= 0] = -1 / split
    return points, scores


def _outputs(signature: Signature) -> tuple[str, str] | None:
    """The names of the distributions over x and over y, by their shapes; None if these are not SimCC's."""
    shapes = list(signature.inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3 or min(shapes[0][2:]) < 1:
        return None
    height, width = shapes[0][2:]
    outputs = {name: shape for name, shape in signature.outputs.items() if len(shape) == 3 and min(shape[1:]) > 0}
    if len(outputs) != 2 or len(signature.outputs) != 2:
        return None
    first, second = outputs
    if height == width and second == "simcc_x":  # squares look alike
        first, second = second, first
    for x, y in ((first, second), (second, first)):
        (_, joints, across), (_, joints_y, down) = outputs[x], outputs[y]
        if joints == joints_y and across * height == down * width and across % width == 0:
            return x, y
    return None
