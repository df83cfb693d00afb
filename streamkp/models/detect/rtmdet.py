"""Person detectors of the RTMPose project, with non-maximum suppression inside: RTMDet and YOLOX (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamkp.packet import Detections, Image
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Signature
from streamkp.vision import rtmdet

_BOXES, _LABELS = "dets", "labels"


class RtmDetector:
    """People among the classes of an exported detector."""

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file is such a network."""
        shape, *_ = signature.inputs.values()
        fixed = len(shape) == 4 and shape[1] == 3 and min(shape[2:]) > 0
        dets = signature.outputs.get(_BOXES, ())
        return fixed and len(dets) == 3 and dets[2] in (5, -1) and _LABELS in signature.outputs

    def __init__(self, name: str, model: OpenVinoModel, *, threads: int, precision: str, score: float) -> None:
        self.name = name
        self._score = score
        # Both have the same inputs and outputs. YOLOX begins by slicing the image, RTMDet with a convolution.
        self._normalise = "Convolution" in model.first_operations()
        self._network = OpenVinoNetwork(model, outputs=(_BOXES, _LABELS), threads=threads, precision=precision)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        pixels = self._network.input(1)
        size = pixels.shape[3], pixels.shape[2]
        prepared, scales = rtmdet.prepare([image], size, normalise=self._normalise)
        np.copyto(pixels, prepared)
        dets, labels = self._network.run(1)
        ((boxes, scores),) = rtmdet.people(dets, labels, scales, self._score)
        best = np.argsort(-scores, kind="stable")
        return Detections(boxes[best], scores[best])

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()
