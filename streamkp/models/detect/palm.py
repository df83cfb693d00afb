"""MediaPipe's palm detector: the hands in an image, by the palm and seven points of it.

Network: Google MediaPipe, `hand_detector.tflite`, Apache-2.0. Sources: Zhang et al. 2020, "MediaPipe Hands: On-device
Real-time Hand Tracking", and the constants of MediaPipe's hand_detector graph. Agreement with MediaPipe is tested.
"""

from __future__ import annotations

from functools import cache
from math import cos, sin
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit

from streamkp.hub.catalog import ModelSpec
from streamkp.models.detect.ssd_anchors import square_anchors
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import FloatArray, Image
from streamkp.poses import Region
from streamkp.runtimes.base import Network, NetworkSource, Pixels, open_network
from streamkp.vision.crop import crop
from streamkp.vision.nms import weighted_nms

_BOXES, _SCORES = "Identity", "Identity_1"
_SIZE = 192
_STRIDES = (8, 16, 16, 16)
_VALUES = 18  # of an anchor: the box, and seven points
_OVERLAP = 0.3
_WRIST, _MIDDLE = 0, 2  # points of the palm: it goes from the one to the other
_SCALE, _SHIFT = 2.6, -0.5  # of the palm's box: how much the region of the hand is larger, and moved up along it


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: one row of the output for every anchor."""
    if file.signature is None or file.signature.outputs.get(_BOXES) != (1, len(anchors()), _VALUES):
        return None
    return ModelSpec(task="hand-detection", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> PalmDetector:
    """See `streamkp.models.registry`."""
    source = NetworkSource(name, file=path, outputs=(_BOXES, _SCORES), pixels=Pixels(rgb=True, scale=255.0))
    return PalmDetector(name, open_network(source, options.run), options.score)


class PalmDetector:
    """Where hands are in an image, for a network that finds their joints."""

    def __init__(self, name: str, network: Network, score: float) -> None:
        """`score` is the least score of a palm, 0..1."""
        self.name = name
        self._network = network
        self._score = score
        ((self._input, _),) = network.inputs.items()

    def hands(self, image: Image) -> list[Region]:
        """The squares around the hands of an image, fingers up, best first. Raises `ModelError` on NaN."""
        height, width = image.shape[:2]
        side = max(width, height)
        whole = np.array((width / 2, height / 2, side, side, 0), np.float32)
        pixels = np.empty((1, _SIZE, _SIZE, 3), np.uint8)
        crop(image, whole, pixels[0], cv2.BORDER_CONSTANT)
        outputs = self._network({self._input: pixels})
        boxes, points = decode(outputs[_BOXES][0], outputs[_SCORES][0, :, 0], self._score)
        back = np.float32(side)
        corner = whole[:2] - back / 2
        return [
            region_of_palm(box * back + np.tile(corner, 2), at * back + corner)
            for box, at in zip(boxes, points, strict=True)
        ]

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


@cache
def anchors() -> FloatArray:
    """Anchor centres x, y (2016, 2) in units of the input's size; all have the size of the input."""
    return square_anchors(_SIZE, _STRIDES)


def decode(raw: FloatArray, logits: FloatArray, min_score: float) -> tuple[FloatArray, FloatArray]:
    """Palms in the network's outputs (2016, 18) and (2016,), best first.

    Returns boxes x0, y0, x1, y1 (N, 4) and seven points (N, 7, 2), in units of the input's size. What overlaps is
    averaged, weighted by score, as in MediaPipe.
    """
    scores = expit(logits)
    found = scores >= min_score
    values = raw[found] / np.float32(_SIZE)
    centres = anchors()[found]
    middle, half = values[:, :2] + centres, values[:, 2:4] / 2
    boxes = np.concatenate((middle - half, middle + half), axis=1, dtype=np.float32)
    points = values[:, 4:].reshape(-1, 7, 2) + centres[:, None]
    merged, _ = weighted_nms(boxes, scores[found], np.concatenate((boxes, points.reshape(-1, 14)), axis=1), _OVERLAP)
    return merged[:, :4], merged[:, 4:].reshape(-1, 7, 2)


def region_of_palm(box: FloatArray, points: FloatArray) -> Region:
    """The square around a hand from the palm's box x0, y0, x1, y1 and its points (7, 2), all in pixels."""
    along = points[_MIDDLE] - points[_WRIST]
    angle = float(np.arctan2(along[0], -along[1]))
    width, height = (float(v) for v in box[2:] - box[:2])
    x, y = (float(v) for v in (box[:2] + box[2:]) / 2)
    shift = _SHIFT * height
    side = max(_SCALE * max(width, height), 1.0)
    return np.array((x - shift * sin(angle), y + shift * cos(angle), side, side, angle), np.float32)
