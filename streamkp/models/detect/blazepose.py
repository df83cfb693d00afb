"""BlazePose's detector: the main person of an image, by four alignment points.

Network: Google MediaPipe, `pose_detection.tflite`, Apache-2.0. Sources: Bazarevsky et al. 2020, "BlazePose: On-device
Real-time Body Pose tracking", and the constants of MediaPipe's pose_detection_cpu graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit

from streamkp.hub.catalog import ModelSpec
from streamkp.models.detect.ssd_anchors import square_anchors
from streamkp.models.registry import ModelFile, ModelOptions, PersonDetector
from streamkp.packet import Detections, FloatArray, Image
from streamkp.runtimes.base import Network, NetworkSource, Pixels, choose, open_network
from streamkp.runtimes.torch import require_torch
from streamkp.vision.crop import crop
from streamkp.vision.nms import weighted_nms

_BOXES, _SCORES = "Identity", "Identity_1"
_SIZE = 224
_STRIDES = (8, 16, 32, 32, 32)
_OVERLAP = 0.3


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: one row of the output for every anchor."""
    if file.signature is None or file.signature.outputs.get(_BOXES) != (1, len(anchors()), 12):
        return None
    return ModelSpec(task="person-detection", family=__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> PersonDetector:
    """See `streamkp.models.registry`. In torch the image is prepared on the device, too."""
    pixels = Pixels(rgb=True, mean=127.5, scale=127.5)
    source = NetworkSource(
        name, file=path, outputs=(_BOXES, _SCORES), pixels=pixels, own_torch=path.suffix == ".tflite"
    )
    runtime, device = choose(source, options.run)
    if runtime == "torch":
        require_torch(name)
        from streamkp.models.detect import device as on_device

        family = on_device.BlazePoseDetector(path, options.score)
        return on_device.DetectorOnDevice(name, family, options.run, device)
    return BlazePoseDetector(name, open_network(source, options.run), options.score)


class BlazePoseDetector:
    """The main person of an image. `Detections.anchors` are its four alignment points."""

    def __init__(self, name: str, network: Network, score: float) -> None:
        self.name = name
        self._network = network
        self.score = score
        ((self._input, _),) = network.inputs.items()

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first; boxes are estimated from the alignment points."""
        if not images:
            return []
        pixels = np.empty((len(images), _SIZE, _SIZE, 3), np.uint8)
        for image, out in zip(images, pixels, strict=True):
            crop(image, _whole(image), out, cv2.BORDER_CONSTANT)
        outputs = self._network({self._input: pixels})
        return [
            self._people(image, raw, logits)
            for image, raw, logits in zip(images, outputs[_BOXES], outputs[_SCORES][..., 0], strict=True)
        ]

    def _people(self, image: Image, raw: FloatArray, logits: FloatArray) -> Detections:
        whole = _whole(image)
        _, points, scores = decode(raw, logits, self.score)
        found = ((points - 0.5) * whole[2] + whole[:2]).astype(np.float32)
        return Detections(body_boxes(found, image.shape[1], image.shape[0]), scores, found)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


def _whole(image: Image) -> FloatArray:
    """The square region around the whole image."""
    height, width = image.shape[:2]
    side = max(width, height)
    return np.array((width / 2, height / 2, side, side, 0), np.float32)


@cache
def anchors() -> FloatArray:
    """Anchor centres x, y (2254, 2) in units of the input's size; all have the size of the input."""
    return square_anchors(_SIZE, _STRIDES)


def decode(raw: FloatArray, logits: FloatArray, min_score: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """People in the detector's outputs (2254, 12) and (2254,).

    Returns boxes x0, y0, x1, y1 of the heads (N, 4), the four alignment points (N, 4, 2), both in units of the
    input's size, and scores (N,). What overlaps is averaged, weighted by score, as in MediaPipe.
    """
    scores = expit(logits)
    found = scores >= min_score
    values = raw[found] / np.float32(_SIZE)
    centres = anchors()[found]
    middle, half = values[:, :2] + centres, values[:, 2:4] / 2
    boxes = np.concatenate((middle - half, middle + half), axis=1, dtype=np.float32)
    points = values[:, 4:].reshape(-1, 4, 2) + centres[:, None]
    merged, best = weighted_nms(boxes, scores[found], np.concatenate((boxes, points.reshape(-1, 8)), axis=1), _OVERLAP)
    return merged[:, :4], merged[:, 4:].reshape(-1, 4, 2), best


def body_boxes(anchors: FloatArray, width: int, height: int) -> FloatArray:
    """Estimated boxes of whole people x, y, w, h (N, 4), in the image, from alignment points (N, 4, 2) in pixels.

    The detector itself only boxes the head. A person is taken to be half as wide as long, lying along the line
    from the middle of the hips to the top of the body's circle.
    """
    hip, up = anchors[:, 0], anchors[:, 1] - anchors[:, 0]
    half = np.abs(up) + np.abs(up[:, ::-1]) / 2
    edge = np.array((width, height), np.float32)
    low, high = np.clip(hip - half, 0, edge), np.clip(hip + half, 0, edge)
    return np.concatenate((low, high - low), axis=1).astype(np.float32)
