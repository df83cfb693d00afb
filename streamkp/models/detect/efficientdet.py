"""EfficientDet-Lite0: several people, small and quantised (Google, Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence

from streamkp.packet import Detections, Image
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Pixels, Signature
from streamkp.vision import efficientdet
from streamkp.vision.letterbox import boxes_to_source, letterbox_corner

_SCORES, _CODES = "StatefulPartitionedCall:1", "StatefulPartitionedCall:0"
_OVERLAP = 0.5


class EfficientDetDetector:
    """People among the 90 classes of EfficientDet-Lite."""

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file is this network."""
        (_, size, *_), *_ = signature.inputs.values()
        return len(shape := signature.outputs.get(_CODES, ())) == 3 and shape[1:] == efficientdet.anchors(size).shape

    def __init__(self, name: str, model: OpenVinoModel, *, threads: int, precision: str, score: float) -> None:
        self.name = name
        self._score = score
        self._network = OpenVinoNetwork(
            model,
            outputs=(_SCORES, _CODES),
            channels={_SCORES: efficientdet.PERSON},
            threads=threads,
            precision=precision,
            pixels=Pixels(rgb=True),
        )

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        pixels = self._network.input(1)[0]
        scale = letterbox_corner(image, pixels, fill=0)
        scores, codes = self._network.run(1)
        boxes, best = efficientdet.decode_people(codes[0], scores[0, :, 0], pixels.shape[0], self._score, _OVERLAP)
        return Detections(boxes_to_source(boxes, scale, image), best)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()
