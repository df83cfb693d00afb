"""EfficientDet-Lite: several people, small and quantised (Google, Apache-2.0).

Source: Tan et al. 2020, "EfficientDet: Scalable and Efficient Object Detection", and the constants of its Lite
variants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from streamkp.hub.catalog import ModelSpec
from streamkp.models.registry import ModelFile, ModelOptions, PersonDetector
from streamkp.packet import Detections, FloatArray, Image
from streamkp.runtimes.base import Network, NetworkSource, Pixels, choose, open_network
from streamkp.runtimes.torch import require_torch
from streamkp.vision.letterbox import boxes_to_source, letterbox_corner
from streamkp.vision.nms import nms

PERSON = 0
_LEVELS = range(3, 8)
_OCTAVES = (0, 1, 2)
_ASPECTS = (1.0, 2.0, 0.5)  # width over height
_SCALE = 3.0
_CANDIDATES = 300
_OVERLAP = 0.5
_SCORES, _CODES = "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the codes have the shape of the anchors."""
    if file.signature is None:
        return None
    shapes = list(file.signature.inputs.values())
    codes = file.signature.outputs.get(_CODES, ())
    if len(shapes) != 1 or len(shapes[0]) != 4 or len(codes) != 3 or codes[1:] != anchors(shapes[0][1]).shape:
        return None
    return ModelSpec(task="person-detection", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> PersonDetector:
    """See `streamkp.models.registry`. In torch the image is prepared on the device, too."""
    source = NetworkSource(
        name,
        file=path,
        outputs=(_SCORES, _CODES),
        channels={_SCORES: PERSON},
        pixels=Pixels(rgb=True),
        own_torch=path.suffix == ".tflite",
    )
    runtime, device = choose(source, options.run)
    if runtime == "torch":
        require_torch(name)
        from streamkp.models.detect import device as on_device

        family = on_device.EfficientDet(path, options.score)
        return on_device.DetectorOnDevice(name, family, options.run, device)
    return EfficientDetDetector(name, open_network(source, options.run), options.score)


class EfficientDetDetector:
    """People among the 90 classes of EfficientDet-Lite."""

    def __init__(self, name: str, network: Network, score: float) -> None:
        self.name = name
        self._network = network
        self.score = score
        ((self._input, port),) = network.inputs.items()
        self._size = port.shape[1]

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        if not images:
            return []
        pixels = np.empty((len(images), self._size, self._size, 3), np.uint8)
        scales = [letterbox_corner(image, out, fill=0) for image, out in zip(images, pixels, strict=True)]
        outputs = self._network({self._input: pixels})
        found = []
        for image, scale, codes, scores in zip(images, scales, outputs[_CODES], outputs[_SCORES][..., 0], strict=True):
            boxes, best = decode_people(codes, scores, self._size, self.score, _OVERLAP)
            found.append(Detections(boxes_to_source(boxes, scale, image), best))
        return found

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


@cache
def anchors(size: int) -> FloatArray:
    """Anchors cx, cy, w, h (A, 4) in pixels of a `size` x `size` input; 19206 for 320."""
    levels = []
    for level in _LEVELS:
        stride = 2**level
        cells = -(-size // stride)
        y, x = ((np.mgrid[:cells, :cells] + 0.5) * stride).reshape(2, -1, 1)
        side = np.array([_SCALE * stride * 2 ** (octave / 3) for octave in _OCTAVES for _ in _ASPECTS])
        root = np.sqrt(np.array(_ASPECTS * len(_OCTAVES)))
        shape = np.broadcast_arrays(x, y, side * root, side / root)
        levels.append(np.stack(shape, axis=-1).reshape(-1, 4))
    result = np.concatenate(levels).astype(np.float32)
    result.flags.writeable = False
    return result


def decode_people(
    codes: FloatArray, scores: FloatArray, size: int, min_score: float, overlap: float
) -> tuple[FloatArray, FloatArray]:
    """People in one image: boxes x0, y0, x1, y1 in input pixels (N, 4) and scores (N,), best first.

    `codes` is (A, 4): y, x, h, w relative to the anchors; `scores` (A,) is the probability of a person.
    """
    found = np.flatnonzero(scores >= min_score)
    if len(found) > _CANDIDATES:
        found = found[np.argsort(-scores[found], kind="stable")[:_CANDIDATES]]
    cx, cy, w, h = anchors(size)[found].T
    y, x, log_h, log_w = codes[found].T
    x, y = cx + x * w, cy + y * h
    # A box is never much larger than the input; the limit keeps a wild code from overflowing.
    half_w, half_h = w * np.exp(np.minimum(log_w, 5)) / 2, h * np.exp(np.minimum(log_h, 5)) / 2
    boxes = np.stack((x - half_w, y - half_h, x + half_w, y + half_h), axis=1)
    kept = nms(boxes, scores[found], overlap)
    return boxes[kept], scores[found][kept]
