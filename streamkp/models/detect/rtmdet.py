"""Person detectors of the RTMPose project, with non-maximum suppression inside: RTMDet and YOLOX (Apache-2.0).

Source: Lyu et al. 2022, "RTMDet: An Empirical Study of Designing Real-Time Object Detectors". The ONNX files take
`input` (N, 3, H, W) and give `dets` (N, D, 5): left, top, right, bottom and score in input pixels, and `labels`
(N, D) with class 0 for people; unused rows are zero. The YOLOX that the project exports does the same, but takes
pixels as they are, 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.hub.catalog import ModelSpec
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import Detections, Image
from streamkp.runtimes.base import Network, NetworkSource, Pixels, open_network

MEAN = (103.53, 116.28, 123.675)  # BGR: this network sees BGR
STD = (57.375, 57.12, 58.395)
PERSON = 0
_GREY = 114
_BOXES, _LABELS = "dets", "labels"


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the outputs are named `dets` and `labels`."""
    if file.signature is None:
        return None
    shape, *_ = file.signature.inputs.values()
    fixed = len(shape) == 4 and shape[1] == 3 and min(shape[2:]) > 0
    boxes = file.signature.outputs.get(_BOXES, ())
    if not fixed or len(boxes) != 3 or boxes[2] not in (5, -1) or _LABELS not in file.signature.outputs:
        return None
    return ModelSpec(task="person-detection", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> RtmDetector:
    """See `streamkp.models.registry`."""
    # Both have the same inputs and outputs. YOLOX begins by slicing the image, RTMDet with a convolution.
    signature = ModelFile(name, path).signature
    normalised = signature is not None and "Convolution" in signature.first_operations
    pixels = Pixels(rgb=False, mean=MEAN, scale=STD) if normalised else Pixels(rgb=False)
    source = NetworkSource(name, file=path, outputs=(_BOXES, _LABELS), pixels=pixels)
    return RtmDetector(name, open_network(source, options.run), options.score)


class RtmDetector:
    """People among the classes of an exported detector."""

    def __init__(self, name: str, network: Network, score: float) -> None:
        self.name = name
        self._network = network
        self.score = score
        ((self._input, port),) = network.inputs.items()
        _, self._height, self._width, _ = port.shape

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        pixels, scale = fit(image, self._width, self._height)
        outputs = self._network({self._input: pixels[None]})
        boxes, scores = people(outputs[_BOXES][0], outputs[_LABELS][0], scale, self.score)
        best = np.argsort(-scores, kind="stable")
        return Detections(boxes[best], scores[best])

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


def fit(image: Image, width: int, height: int) -> tuple[Image, float]:
    """The image scaled to fit `width` x `height` pixels at the top left, grey around, and the scale."""
    canvas = np.full((height, width, 3), _GREY, np.uint8)
    scale = min(width / image.shape[1], height / image.shape[0])
    size = max(int(image.shape[1] * scale), 1), max(int(image.shape[0] * scale), 1)
    canvas[: size[1], : size[0]] = cv2.resize(image, size)
    return canvas, scale


def people(
    dets: NDArray[np.float32], labels: NDArray[np.int64], scale: float, min_score: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (P, 4) x, y, w, h in image pixels and scores (P,) of the people in `dets` (D, 5) with `labels` (D,)."""
    kept = dets[(labels == PERSON) & (dets[:, 4] > min_score)]
    corners = kept[:, :4] / np.float32(scale)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1), kept[:, 4]
