"""Person detectors in torch: letterbox, network and the choice of candidates on the device, many frames at once.

The few candidates of each frame come back in one copy; decoding and suppression are those of the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from streamkp.models.detect import blazepose, efficientdet
from streamkp.models.networks.tflite import TFLiteNetwork
from streamkp.packet import AnyImage, Detections, FloatArray
from streamkp.runtimes.base import NetworkSource, RunOptions, TorchModule
from streamkp.runtimes.torch_network import Launched, TorchNetwork
from streamkp.vision.device_image import DeviceImage, Uploader, crop_affine, letterbox, region_matrices

_OVERLAP = 0.5
_CANDIDATES = 256
_NO_PERSON = -80.0  # a logit


class _Best(nn.Module):
    """The best candidates of each frame: rows (N, C, V), scores (N, C) and which anchors they are (N, C), float32."""

    outputs = ("rows", "scores", "anchors")

    def __init__(self, network: TFLiteNetwork, scale: float, shift: float) -> None:
        super().__init__()
        self.network, self._scale, self._shift = network, scale, shift

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """`pixels` is uint8 (N, S, S, 3) RGB."""
        dtype = next(self.network.parameters()).dtype
        scores, rows = self.network(pixels.to(dtype) * self._scale + self._shift)
        best, anchors = scores[..., 0].float().topk(min(_CANDIDATES, scores.shape[1]))
        return rows.float().gather(1, anchors[..., None].expand(-1, -1, rows.shape[2])), best, anchors


class EfficientDet:
    """Several people, small and quantised; see `streamkp.models.detect.efficientdet`."""

    def __init__(self, path: Path, score: float) -> None:
        scores, codes = "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"
        network = TFLiteNetwork(path, outputs=(scores, codes), channels={scores: efficientdet.PERSON})
        self.module = _Best(network, 1.0, 0.0)
        self.size = network.input_shape[1]
        self.score = score

    def fill(self, images: Sequence[DeviceImage], pixels: Tensor) -> FloatArray:
        """Letterbox the frames into the network's input; returns the scales."""
        return letterbox(images, pixels).astype(np.float32)

    def decode(
        self, rows: FloatArray, scores: FloatArray, anchors: FloatArray, scale: float, image: DeviceImage
    ) -> Detections:
        """People of one frame."""
        count = len(efficientdet.anchors(self.size))
        codes, of_all = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
        where = anchors.astype(np.intp)
        codes[where], of_all[where] = rows, scores
        boxes, best = efficientdet.decode_people(codes, of_all, self.size, self.score, _OVERLAP)
        edge = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        corners: FloatArray = np.clip(boxes / np.float32(scale), 0, edge)
        corners[:, 2:] -= corners[:, :2]
        return Detections(corners, best)


class BlazePoseDetector:
    """The main person of an image, with alignment points; see `streamkp.models.detect.blazepose`."""

    def __init__(self, path: Path, score: float) -> None:
        network = TFLiteNetwork(path, outputs=("Identity_1", "Identity"))
        self.module = _Best(network, 1 / 127.5, -1.0)
        self.size = network.input_shape[1]
        self.score = score

    def fill(self, images: Sequence[DeviceImage], pixels: Tensor) -> FloatArray:
        """The whole frames in the middle of the network's input; returns the sides of the squares around them."""
        sides = np.array([max(image.shape[:2]) for image in images], np.float32)
        middles = np.array([image.shape[1::-1] for image in images], np.float32) / 2
        squares = np.column_stack([middles, sides, sides, np.zeros_like(sides)])
        matrices = region_matrices(squares, self.size, self.size)
        crop_affine(images, range(len(images)), matrices, pixels, black_outside=True)
        return sides

    def decode(
        self, rows: FloatArray, scores: FloatArray, anchors: FloatArray, scale: float, image: DeviceImage
    ) -> Detections:
        """People of one frame."""
        height, width = image.shape[:2]
        count = len(blazepose.anchors())
        raw, logits = np.zeros((count, 12), np.float32), np.full(count, _NO_PERSON, np.float32)
        where = anchors.astype(np.intp)
        raw[where], logits[where] = rows, scores
        _, points, best = blazepose.decode(raw, logits, self.score)
        middle = np.array((width / 2, height / 2), np.float32)
        found = ((points - 0.5) * np.float32(scale) + middle).astype(np.float32)
        return Detections(blazepose.body_boxes(found, width, height), best, found)


@dataclass
class Begun:
    """Detections on their way."""

    family: EfficientDet | BlazePoseDetector
    frames: Sequence[DeviceImage]
    scales: FloatArray
    pending: Launched

    def result(self) -> list[Detections]:
        """The people of each frame, best first; waits. Raises `ModelError` if the network gave NaN."""
        out = self.pending.result()
        return [
            self.family.decode(out["rows"][i], out["scores"][i], out["anchors"][i], float(self.scales[i]), frame)
            for i, frame in enumerate(self.frames)
        ]


class DetectorOnDevice:
    """A `PersonDetector` whose images may be on the device already."""

    at_once = None

    def __init__(
        self,
        name: str,
        family: EfficientDet | BlazePoseDetector,
        options: RunOptions | None = None,
        device: str = "cuda",
        **settings: bool,
    ) -> None:
        """`settings` are those of `TorchNetwork`, whose errors are raised."""
        self.name, self._family = name, family
        self._uploader = Uploader(device)
        shape = {"pixels": (family.size, family.size, 3)}
        module = TorchModule(lambda: family.module, shape, family.module.outputs, str, uint8=frozenset(shape))
        self.network = TorchNetwork(NetworkSource(name, module=module), options or RunOptions(), device, **settings)

    @property
    def score(self) -> float:
        """Least score of a person, 0..1."""
        return self._family.score

    @score.setter
    def score(self, score: float) -> None:
        self._family.score = score

    def to_device(self, image: AnyImage) -> DeviceImage:
        """The image where the network is; uploads what is not there yet."""
        return self._uploader.device_image(image)

    def detect(self, images: Sequence[AnyImage]) -> list[Detections]:
        """The people of each image, best first."""
        frames = [self.to_device(image) for image in images]
        found: list[Detections] = []
        while len(found) < len(frames):
            count = self.network.most(len(frames) - len(found))
            try:
                found += self.begin(frames[len(found) : len(found) + count]).result()
            except torch.OutOfMemoryError:
                self.network.shrink(count)
        return found

    def begin(self, frames: Sequence[DeviceImage]) -> Begun:
        """Start on at most the largest batch of frames; the results are asked for later."""
        pixels = self.network.buffers(len(frames))["pixels"]
        with self.network.stream(), torch.no_grad():
            scales = self._family.fill(frames, pixels)
        return Begun(self._family, frames, scales, self.network.launch(len(frames)))

    def close(self) -> None:
        """Let go of the network."""
        self.network.close()
