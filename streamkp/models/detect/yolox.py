"""YOLOX with raw heads, any size (Megvii, Apache-2.0).

Source: Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from streamkp.hub.catalog import ModelSpec
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import Detections, FloatArray, Image
from streamkp.runtimes.base import Network, NetworkSource, Pixels, open_network
from streamkp.vision.letterbox import boxes_to_source, letterbox_corner
from streamkp.vision.nms import nms

PERSON = 0
_STRIDES = (8, 16, 32)
_CANDIDATES = 300
_OVERLAP = 0.5
_GREY = 114  # what YOLOX was trained with around the image


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: one output has a row for every cell of the grids."""
    if file.signature is None:
        return None
    shape, *others = file.signature.inputs.values()
    if others or len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
        return None
    rows = len(grid(*shape[2:]))
    if not any(len(out) == 3 and out[1] == rows and out[2] > 5 for out in file.signature.outputs.values()):
        return None
    return ModelSpec(task="person-detection", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> YoloxDetector:
    """See `streamkp.models.registry`."""
    source = NetworkSource(name, file=path, pixels=Pixels(rgb=False))
    return YoloxDetector(name, open_network(source, options.run), options.score)


class YoloxDetector:
    """People among the classes of YOLOX."""

    def __init__(self, name: str, network: Network, score: float) -> None:
        self.name = name
        self._network = network
        self.score = score
        ((self._input, port),) = network.inputs.items()
        _, self._height, self._width, _ = port.shape

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        if not images:
            return []
        pixels = np.empty((len(images), self._height, self._width, 3), np.uint8)
        scales = [letterbox_corner(image, out, fill=_GREY) for image, out in zip(images, pixels, strict=True)]
        (heads,) = self._network({self._input: pixels}).values()
        found = []
        for image, scale, raw in zip(images, scales, heads, strict=True):
            boxes, scores = decode_people(raw, self._height, self._width, self.score, _OVERLAP)
            found.append(Detections(boxes_to_source(boxes, scale, image), scores))
        return found

    @property
    def at_once(self) -> int | None:
        """See `PersonDetector`: on a GPU ONNX Runtime works on a batch as a whole, unless the file is for one image."""
        return None if self._network.device == "cuda" and self._network.buckets is None else 1

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


@cache
def grid(height: int, width: int) -> FloatArray:
    """Cell x, y and stride of every row of the heads (A, 3), in order; 3549 for 416 x 416."""
    levels = []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride].reshape(2, -1)
        levels.append(np.stack((x, y, np.full_like(x, stride)), axis=1))
    result = np.concatenate(levels).astype(np.float32)
    result.flags.writeable = False
    return result


def decode_people(
    raw: FloatArray, height: int, width: int, min_score: float, overlap: float
) -> tuple[FloatArray, FloatArray]:
    """People in one image: boxes x0, y0, x1, y1 in input pixels (N, 4) and scores (N,), best first.

    `raw` is (A, 5 + classes): x, y, log w, log h relative to cell and stride, then the probabilities of an object
    and of each class.
    """
    scores = raw[:, 4] * raw[:, 5 + PERSON]
    found = np.flatnonzero(scores >= min_score)
    if len(found) > _CANDIDATES:
        found = found[np.argsort(-scores[found], kind="stable")[:_CANDIDATES]]
    cells = grid(height, width)[found]
    stride = cells[:, 2:]
    centre = (raw[found, :2] + cells[:, :2]) * stride
    half = np.exp(np.minimum(raw[found, 2:4], 8)) * stride / 2
    boxes = np.concatenate((centre - half, centre + half), axis=1, dtype=np.float32)
    kept = nms(boxes, scores[found], overlap)
    return boxes[kept], scores[found][kept]
