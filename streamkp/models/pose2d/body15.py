"""ModelScope's 15-point body network (`hrnet-body15`): crop, letterbox, heatmaps, and back to the image.

Follows modelscope's body_2d_keypoints pipeline, without its limit to the first person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamkp import skeletons
from streamkp.hub.catalog import ModelSpec
from streamkp.models import zoo
from streamkp.models.pose2d.heatmap import HeatmapDecoder
from streamkp.models.pose2d.topdown import IMAGENET, Back, Crop, Crops, TopDownEstimator
from streamkp.models.registry import ModelFile, ModelOptions
from streamkp.packet import FloatArray
from streamkp.poses import Region
from streamkp.runtimes.base import open_network
from streamkp.vision.heatmap import Floats, neighbourhood, peaks

INPUT = 128
SKELETON = "body15"
_MARGIN = 0.05


def recognise(file: ModelFile) -> ModelSpec | None:
    """See `streamkp.models.registry`: the keys and shapes of a checkpoint are those of the network."""
    return file.fitting(__name__)


def open_model(name: str, spec: ModelSpec, path: Path, options: ModelOptions) -> TopDownEstimator:
    """See `streamkp.models.registry`."""
    source = zoo.source(name, spec, path, {"image": (3, INPUT, INPUT)}, ("heatmaps",), pixels=IMAGENET)
    mirror = skeletons.get(SKELETON).mirror if options.flip else None
    reader = HeatmapDecoder(open_network(source, options.run), decode, mirror)
    return TopDownEstimator(name, SKELETON, Body15Framing(), reader)


class Body15Framing:
    """ModelScope's: the box a little enlarged, cut at the edges of the image, letterboxed. A region is a plain box."""

    def region(self, box: FloatArray) -> Region:
        """See `Framing`."""
        x, y, w, h = (float(v) for v in box)
        return np.array((x + w / 2, y + h / 2, w, h, 0), np.float32)

    def cut(self, crops: Sequence[Crop]) -> tuple[Crops, Back]:
        """See `Framing`."""
        done = [
            crop(image, [(cx - w / 2, cy - h / 2, w, h)])
            for image, (cx, cy, w, h, _) in ((image, region.tolist()) for image, region in crops)
        ]
        placements = [placement for _, placement in done]

        def back(points: NDArray[Any]) -> NDArray[Any]:
            return np.concatenate([to_image(p[None], at) for p, at in zip(points, placements, strict=True)])

        return np.concatenate([pixels for pixels, _ in done]), back


@dataclass(frozen=True)
class Placement:
    """Where N crops came from: `boxes` (N, 4) left, top, right, bottom in the image, enlarged and clipped;
    `scale` (N,) canvas per image pixel; `offset` (N, 2) of the crop on the canvas."""

    boxes: NDArray[np.float32]
    scale: NDArray[np.float64]
    offset: NDArray[np.int64]


def crop(image: NDArray[np.uint8], boxes: ArrayLike) -> tuple[NDArray[np.uint8], Placement]:
    """Letterboxed BGR crops (N, 128, 128, 3) of boxes (N, 4) x, y, w, h, and where they came from.

    Each box grows by 5 % of its size on every side and is clipped to the image; of a box outside the image the
    nearest pixel is left. The crop fills the canvas on its longer side, centred, black around.
    """
    corners = _clipped(np.asarray(boxes, np.float32).reshape(-1, 4), image.shape[1], image.shape[0])
    canvases = np.zeros((len(corners), INPUT, INPUT, 3), np.uint8)
    scale = np.empty(len(corners))
    offset = np.empty((len(corners), 2), np.int64)
    for i, (left, top, right, bottom) in enumerate(corners.astype(int)):
        part = image[top:bottom, left:right]
        height, width = part.shape[:2]
        scale[i] = min(INPUT / height, INPUT / width)
        size = max(int(scale[i] * width), 1), max(int(scale[i] * height), 1)
        x, y = offset[i] = INPUT // 2 - size[0] // 2, INPUT // 2 - size[1] // 2
        canvases[i, y : y + size[1], x : x + size[0]] = cv2.resize(part, size)
    return canvases, Placement(corners, scale, offset)


def decode(heatmaps: Floats) -> tuple[Floats, Floats]:
    """Points (N, 15, 2) in pixels of the 128x128 canvas and scores (N, 15), from heatmaps (N, 15, 32, 32).

    The maximum moves a quarter of a heatmap pixel towards the larger neighbour on both axes, unless it is on the
    border.
    """
    points, scores = peaks(heatmaps)
    last = np.array(heatmaps.shape[:-3:-1]) - 1
    around = neighbourhood(heatmaps, points, 1)
    shift = 0.25 * np.sign(around[..., [1, 2], [2, 1]] - around[..., [1, 0], [0, 1]])
    shift *= ((points > 0) & (points < last)).all(axis=-1, keepdims=True)
    decoded: Floats = (points + shift) * np.float32(INPUT / heatmaps.shape[-1])
    return decoded, scores


def to_image(points: NDArray[Any], placement: Placement) -> NDArray[np.float64]:
    """Canvas points (N, K, 2) to image pixels."""
    on_crop = (points - placement.offset[:, None]) / placement.scale[:, None, None]
    moved: NDArray[np.float64] = on_crop + placement.boxes[:, None, :2]
    return moved


def _clipped(boxes: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Corners of the enlarged boxes inside the image; at least one whole pixel of each."""
    if not np.isfinite(boxes).all():
        raise ValueError(f"boxes must be finite numbers, got {boxes.tolist()}")
    low, size = boxes[:, :2], boxes[:, 2:]
    limit = np.array([width, height], np.float32)
    corners = np.concatenate([low - size * _MARGIN, low + size * (1 + _MARGIN)], axis=-1)
    corners[:, :2] = np.clip(corners[:, :2], 0, limit - 1)
    corners[:, 2:] = np.clip(corners[:, 2:], np.floor(corners[:, :2]) + 1, limit)
    return corners
