"""YOLOX with raw heads, any size (Megvii, Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence

from streamkp.packet import Detections, Image
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Pixels, Signature
from streamkp.vision import yolox
from streamkp.vision.letterbox import boxes_to_source, letterbox_corner

_GREY = 114  # what YOLOX was trained with around the image
_OVERLAP = 0.5


class YoloxDetector:
    """People among the classes of YOLOX."""

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file is this network."""
        shape, *_ = signature.inputs.values()
        if len(shape) != 4 or shape[1] != 3 or min(shape) < 1:
            return False
        rows = len(yolox.grid(*shape[2:]))
        return any(len(out) == 3 and out[1] == rows and out[2] > 5 for out in signature.outputs.values())

    def __init__(self, name: str, model: OpenVinoModel, *, threads: int, precision: str, score: float) -> None:
        self.name = name
        self._score = score
        self._network = OpenVinoNetwork(
            model,
            outputs=tuple(model.signature.outputs),
            threads=threads,
            precision=precision,
            pixels=Pixels(rgb=False),
        )

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        pixels = self._network.input(1)[0]
        height, width = pixels.shape[:2]
        scale = letterbox_corner(image, pixels, fill=_GREY)
        (raw,) = self._network.run(1)
        boxes, scores = yolox.decode_people(raw[0], height, width, self._score, _OVERLAP)
        return Detections(boxes_to_source(boxes, scale, image), scores)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()
