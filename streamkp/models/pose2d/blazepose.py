"""BlazePose: one person's 33 joints in the image and in space, and the detector that goes with it.

Networks: Google MediaPipe, `pose_detection.tflite` and `pose_landmark_{lite,full,heavy}.tflite`, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.openvino import OpenVinoModel, OpenVinoNetwork, Pixels, Signature
from streamkp.vision import blazepose
from streamkp.vision.crop import crop

_LANDMARKS, _PRESENCE, _HEATMAPS, _WORLD = "Identity", "Identity_1", "Identity_3", "Identity_4"
_BOXES, _SCORES = "Identity", "Identity_1"


class BlazePoseDetector:
    """The main person of an image. `Detections.anchors` are its four alignment points."""

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file is this network."""
        return signature.outputs.get(_BOXES) == (1, len(blazepose.detector_anchors()), 12)

    def __init__(self, name: str, model: OpenVinoModel, *, threads: int, precision: str, score: float) -> None:
        self.name = name
        self._score = score
        self._network = OpenVinoNetwork(
            model,
            outputs=(_BOXES, _SCORES),
            threads=threads,
            precision=precision,
            pixels=Pixels(rgb=True, mean=127.5, scale=127.5),
        )

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """The people of each image, best first; boxes are estimated from the alignment points."""
        return [self._detect(image) for image in images]

    def _detect(self, image: Image) -> Detections:
        height, width = image.shape[:2]
        side = max(width, height)
        whole = np.array((width / 2, height / 2, side, side, 0), np.float32)
        crop(image, whole, self._network.input(1)[0], cv2.BORDER_CONSTANT)
        raw, logits = self._network.run(1)
        _, points, scores = blazepose.decode_detections(raw[0], logits[0, :, 0], self._score)
        anchors = ((points - 0.5) * side + whole[:2]).astype(np.float32)
        return Detections(blazepose.body_boxes(anchors, width, height), scores, anchors)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


class BlazePoseEstimator:
    """33 joints per region, in the image and in space."""

    skeleton = "blazepose33"

    @staticmethod
    def fits(signature: Signature) -> bool:
        """Whether a model file is this network (any of its sizes)."""
        shapes = signature.outputs
        return shapes.get(_LANDMARKS) == (1, 195) and shapes.get(_WORLD) == (1, 117) and _HEATMAPS in shapes

    def __init__(self, name: str, model: OpenVinoModel, *, threads: int, precision: str, batch: int) -> None:
        self.name = name
        self._network = OpenVinoNetwork(
            model,
            outputs=(_LANDMARKS, _PRESENCE, _HEATMAPS, _WORLD),
            threads=threads,
            precision=precision,
            pixels=Pixels(rgb=True, scale=255.0),
            max_batch=batch,
        )

    def region_from_box(self, box: FloatArray) -> Region:
        """The upright square around the box (4,): x, y, w, h; a second pass with `next_region` is more accurate."""
        return blazepose.region_from_box(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for person `i`: from the alignment points where the detector gives them, else from the box."""
        if detections.anchors is None:
            return blazepose.region_from_box(detections.boxes[i])
        return blazepose.region_from_points(*detections.anchors[i, :2])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The pose in each region, in order. A joint's score is its visibility."""
        poses: list[Pose] = []
        while len(poses) < len(crops):
            batch = self._network.bucket(len(crops) - len(poses))
            poses += self._estimate(crops[len(poses) : len(poses) + batch])
        return poses

    def _estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        batch = len(crops)
        pixels = self._network.input(batch)
        for (image, region), out in zip(crops, pixels, strict=True):
            crop(image, region, out)
        landmarks, presence, heatmaps, world = self._network.run(batch)
        regions = np.stack([region for _, region in crops])
        points = blazepose.decode_landmarks(landmarks, heatmaps, regions, pixels.shape[1])
        in_space = blazepose.decode_world(world, regions)
        return [
            Pose(
                points=points[i, : blazepose.JOINTS],
                presence=float(presence[i, 0]),
                next_region=blazepose.region_from_points(*points[i, blazepose.JOINTS :, :2]),
                world=in_space[i],
            )
            for i in range(batch)
        ]

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()
