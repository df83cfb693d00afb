"""106 points of a face and the angles of the head, from the region of one face (EasyCV, ModelScope; Apache-2.0).

Follows EasyCV's face pipeline: the eyes are made level, the enlarged box is cropped and stretched to 96x96, and each
further pass crops around the points of the last one. All coordinates are image pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.hub.catalog import ModelSpec
from streamkp.models import zoo
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region
from streamkp.runtimes.base import Network, Pixels, open_network
from streamkp.vision.affine import invert
from streamkp.vision.warp import warp

INPUT = 96
PIXELS = Pixels(rgb=False, mean=(0.4076 * 255, 0.458 * 255, 0.485 * 255), scale=255.0)
_ENLARGE = 0.1
_LARGEST = 1024  # side in pixels of a region that is turned at its own size
_EYES = (74, 83)  # centres of the image-left and the image-right eye


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the keys and shapes of a checkpoint are those of the network."""
    return file.fitting(__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> Face106Estimator:
    """See `streamkp.models.registry`."""
    options.refuse_flip(name)
    source = zoo.source(name, spec, path, {"image": (3, INPUT, INPUT)}, ("points", "angles"), pixels=PIXELS)
    return Face106Estimator(name, open_network(source, options.run))


@dataclass(slots=True)
class FacePose(Pose):
    """`angles` is float32 (3,): pitch, roll and yaw in radians, of the head in its crop, as the network gives them.

    `turn` is the angle in radians by which that crop was turned against the image (see `streamkp.poses`).
    """

    angles: FloatArray = field(default_factory=lambda: np.zeros(3, np.float32))
    turn: float = 0.0


class Face106Estimator:
    """EasyCV's face alignment network. It does not say whether there is a face: every score is 1.

    The reference looks seven times, each time around the points found before; here it looks once at what it is
    given, and `next_region` is where it would look next.
    """

    skeleton = "face106"

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self._network = network

    def region_from_box(self, box: FloatArray) -> Region:
        """The box (4,) x, y, w, h of a face, a tenth larger on every side."""
        return enlarged_region(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        """The region for box `i`."""
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        """The face in each region, in order, as `FacePose`."""
        return list(self.faces(crops))

    def faces(self, crops: Sequence[tuple[Image, Region]]) -> list[FacePose]:
        """The face in each region, in order."""
        if not crops:
            return []
        pixels = np.empty((len(crops), INPUT, INPUT, 3), np.uint8)
        for (image, region), out in zip(crops, pixels, strict=True):
            crop_upright(image, region, out)
        found = self._network({"image": pixels})
        in_crop, angles = found["points"], found["angles"]
        return [
            self._face(points, turned, region)
            for points, turned, (_, region) in zip(in_crop, angles, crops, strict=True)
        ]

    @staticmethod
    def _face(in_crop: FloatArray, angles: FloatArray, region: Region) -> FacePose:
        points = np.ones((len(in_crop), 3), np.float32)
        points[:, :2] = upright_to_image(in_crop, region)
        return FacePose(points, 1.0, upright_region(in_crop, region), angles=angles.copy(), turn=float(region[4]))

    @property
    def batch_independent(self) -> bool:
        """See `PoseEstimator`."""
        return self._network.buckets == (1,)

    def close(self) -> None:
        """Let go of the network."""
        self._network.close()


def enlarged_region(box: NDArray[np.float32]) -> Region:
    """The region of a box (4,) x, y, w, h, a tenth larger on every side, at least a pixel in size."""
    x, y, w, h = (float(v) for v in box)
    grown = 1 + 2 * _ENLARGE
    return np.array((x + w / 2, y + h / 2, max(w * grown, 1), max(h * grown, 1), 0), np.float32)


def upright_region(points: NDArray[np.float32], region: Region) -> Region:
    """Where to look next: around the 106 points (106, 2) in pixels of an upright crop of `region`, the eyes level.

    The same enlargement as in the reference, without its whole pixels and its stop at the edge of the image.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    eyes = points[_EYES, :] * region[2:4]
    turn = np.arctan2(*(eyes[1] - eyes[0])[::-1])
    centre = upright_to_image(((low + high) / 2)[None], region)[0]
    size = (1 + _ENLARGE) * (high - low) * region[2:4] / INPUT
    return np.array((*centre, *np.maximum(size, 1), region[4] + turn), np.float32)


def crop_upright(image: NDArray[np.uint8], region: Region, out: NDArray[np.uint8]) -> None:
    """Fill `out` (96, 96, 3) with a turned region of the image, stretched, black outside the image.

    As in the reference the image is turned at its own size first and then scaled; for a region of whole pixels that
    is not turned the result is that of `crop`.
    """
    size = np.clip(np.rint(region[2:4]), 1, _LARGEST).astype(int)
    turned = np.empty((size[1], size[0], 3), np.uint8)
    warp(image, invert(_to_image(region, *size)[None])[0], turned)
    cv2.resize(turned, (INPUT, INPUT), dst=out)


def upright_to_image(points: NDArray[Any], region: Region) -> NDArray[np.float64]:
    """Points (K, 2) in pixels of an upright crop to pixels of the image."""
    matrix = _to_image(region, INPUT, INPUT)
    moved: NDArray[np.float64] = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def _to_image(region: Region, width: int, height: int) -> NDArray[np.float64]:
    """The matrix (2, 3) from a crop of the region, of that size in pixels, to the image."""
    cx, cy, w, h, angle = (float(v) for v in region)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([w / width, h / height])
    return np.column_stack([linear, np.array([cx, cy]) - linear @ (width / 2, height / 2)])
