"""Top-down 2D keypoints: what networks that see one person's crop have in common.

A `Framing` says which part of the image a network sees, a `JointDecoder` where the joints are in it; the estimator is
the two of them together. The families (`heatmap`, `rtmpose`, `body15`) make them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Pixels
from streamkp.vision import affine
from streamkp.vision.warp import warp

Crop = tuple[Image, Region]
Crops = NDArray[np.uint8]  # (N, H, W, 3) BGR
Back = Callable[[NDArray[Any]], NDArray[Any]]  # points (N, K, 2) in crop pixels to image pixels

IMAGENET = Pixels(rgb=True, mean=affine.IMAGENET_MEAN, scale=affine.IMAGENET_STD)

_SEEN = 0.2  # score from which a joint counts for the next region
_EXPANSION = 1.25  # of the box around the joints: rtmlib's PoseTracker and MMDeploy's use the same
_SLACK = 1.25  # how much larger than needed a region may stay before it shrinks
_BODY = {"wholebody133": slice(0, 17)}  # the joints that tell whether somebody is there
_TELLING = 2 / 3  # quantile of the joint scores that is the presence: a third of the joints must reach it


class Framing(Protocol):
    """From boxes to crops, and back."""

    def region(self, box: FloatArray) -> Region:
        """The region for a box (4,): x, y, w, h in source pixels. Raises ValueError where it is not finite."""

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        """The crops, and how points in them go back to their images. Raises ValueError where one is not finite."""


class JointDecoder(Protocol):
    """Runs the network on crops and decodes its outputs."""

    def read(self, crops: Crops) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, K, 2) in crop pixels, scores (N, K). Raises `ModelError` if the network gives NaN."""

    def close(self) -> None:
        """Let go of the network."""


class AffineFraming:
    """MMPose's: the padded box in the network's aspect ratio, black outside the image. `size` is (width, height)."""

    def __init__(self, size: affine.Size) -> None:
        self._size = size

    def region(self, box: FloatArray) -> Region:
        """See `Framing`."""
        centre, size = affine.crop_region(box, self._size)
        return np.array((*centre[0], *size[0], 0), np.float32)

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        """See `Framing`."""
        regions = np.stack([region for _, region in crops]).astype(np.float64)
        matrices = affine.crop_matrix(regions[:, :2], regions[:, 2:4], self._size, np.rad2deg(regions[:, 4]))
        pixels = np.empty((len(crops), self._size[1], self._size[0], 3), np.uint8)
        for (image, _), matrix, out in zip(crops, matrices, pixels, strict=True):
            warp(image, matrix, out)
        inverse = affine.invert(matrices)
        return pixels, lambda points: affine.transform(inverse, points)


class TopDownEstimator:
    """Joints of one skeleton by one network. The score of a joint is the network's own, kept within 0..1."""

    def __init__(self, name: str, skeleton: str, framing: Framing, reader: JointDecoder) -> None:
        self.name = name
        self.skeleton = skeleton
        self._framing = framing
        self._reader = reader
        self._telling = _BODY.get(skeleton, slice(None))

    def region_from_box(self, box: FloatArray) -> Region:
        """The region for a person's box (4,): x, y, w, h in source pixels."""
        return self._framing.region(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for the box of person `i`."""
        return self._framing.region(detections.boxes[i])

    def estimate(self, crops: Sequence[Crop]) -> list[Pose]:
        """The pose in each region, in order. `presence` is the score that a third of the body's joints reach."""
        if not crops:
            return []
        pixels, back = self._framing.cut(crops)
        in_crop, scores = self._reader.read(pixels)
        scores = np.clip(scores, 0, 1)
        points = np.concatenate([back(in_crop), scores[..., None]], axis=-1).astype(np.float32)
        presence = np.quantile(scores[:, self._telling], _TELLING, axis=1)
        return [
            Pose(points[i], float(presence[i]), self._next(points[i], region)) for i, (_, region) in enumerate(crops)
        ]

    def _next(self, points: FloatArray, region: Region) -> Region:
        """Around the joints that are seen. It grows at once, and shrinks only when it is far too large.

        Were it to follow every joint that wavers, what the network sees would change its size with every frame.
        """
        fresh = self._framing.region(_expanded_box(points))
        fresh[2:4] *= np.clip((region[2:4] / fresh[2:4]).min(), 1, _SLACK)
        return fresh

    def close(self) -> None:
        """Let go of the network."""
        self._reader.close()


def _expanded_box(points: FloatArray) -> FloatArray:
    """The box (4,) around the joints that are seen, or around all when fewer than a third are, enlarged."""
    seen = points[points[:, 2] >= _SEEN]
    if 3 * len(seen) < len(points):
        seen = points
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    size = np.maximum(high - low, 1) * np.float32(_EXPANSION)
    return np.concatenate([(low + high - size) / 2, size])
