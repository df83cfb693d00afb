"""Before and after RTMDet (Lyu et al. 2022), as exported with its non-maximum suppression inside.

The ONNX files of the RTMPose project take `input` (N, 3, H, W) and give `dets` (N, D, 5), left, top, right, bottom and
score in input pixels, and `labels` (N, D) with class 0 for people; unused rows are zero. So does the YOLOX that the
project exports, but for pixels as they are, 0..255.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from streamkp.vision.affine import Size, network_input

MEAN = (103.53, 116.28, 123.675)  # BGR: this network sees BGR
STD = (57.375, 57.12, 58.395)
PAD = 114
PERSON = 0


def prepare(
    images: list[NDArray[np.uint8]], input_size: Size = (640, 640), *, normalise: bool = True
) -> tuple[NDArray[np.float32], list[float]]:
    """Network input (N, 3, H, W) for N BGR images of any sizes, and the scale of each.

    Each image is scaled to fit `input_size` (width, height) at the top left, grey around. RTMDet wants its pixels
    normalised, YOLOX as they are.
    """
    width, height = input_size
    canvases = np.full((len(images), height, width, 3), PAD, np.uint8)
    scales = []
    for canvas, image in zip(canvases, images, strict=True):
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(int(image.shape[1] * scale), 1), max(int(image.shape[0] * scale), 1)
        canvas[: size[1], : size[0]] = cv2.resize(image, size)
        scales.append(scale)
    mean, std = (MEAN, STD) if normalise else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return network_input(canvases, mean, std, rgb=False), scales


def people(
    dets: NDArray[np.float32], labels: NDArray[np.int64], scales: list[float], min_score: float = 0.3
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each image the boxes (P, 4) x, y, w, h in its pixels and scores (P,) of the people in it."""
    found = []
    for rows, classes, scale in zip(dets, labels, scales, strict=True):
        kept = rows[(classes == PERSON) & (rows[:, 4] > min_score)]
        corners = kept[:, :4] / np.float32(scale)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)
        found.append((boxes, kept[:, 4]))
    return found
