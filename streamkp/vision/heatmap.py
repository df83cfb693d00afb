"""Keypoints from heatmaps, and heatmaps from keypoints; batched over crops.

Heatmaps are float32 (N, K, H, W): N crops, K joints. Decoded points are float32 (N, K, 2), x and y in pixels of the
crop that the network saw, whose size is given as (width, height); scores are float32 (N, K), the value of the
maximum. The conventions are those of MMPose 1.x: a joint whose maximum is not positive was not found, and lies at
heatmap position (-1, -1), outside the crop. ValueError is raised when a maximum is NaN.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[Any]
Size = tuple[int, int]


def peaks(heatmaps: Floats) -> tuple[Floats, Floats]:
    """Position (N, K, 2) of the first maximum of every heatmap in row-major order, in heatmap pixels, and its value."""
    n, k, height, width = heatmaps.shape
    flat = heatmaps.reshape(n, k, height * width)
    at = flat.argmax(axis=-1)
    scores = np.take_along_axis(flat, at[..., None], axis=-1)[..., 0]
    if np.isnan(scores).any():
        raise ValueError("the network gave heatmaps with NaN: its weights or its input are not finite")
    points = np.stack([at % width, at // width], axis=-1).astype(np.float32)
    return points, scores


def neighbourhood(maps: Floats, points: Floats, radius: int) -> Array:
    """The (2 radius + 1) squared values around each point, (N, K, rows, columns); the border is repeated."""
    n, k, height, width = maps.shape
    offsets = np.arange(-radius, radius + 1)
    columns = np.clip(points[..., 0, None].astype(np.intp) + offsets, 0, width - 1)
    rows = np.clip(points[..., 1, None].astype(np.intp) + offsets, 0, height - 1)
    crop, joint = np.arange(n)[:, None, None, None], np.arange(k)[None, :, None, None]
    around: Array = maps[crop, joint, rows[..., :, None], columns[..., None, :]]
    return around


def _found_peaks(heatmaps: Floats) -> tuple[Floats, Floats]:
    points, scores = peaks(heatmaps)
    points[scores <= 0] = -1
    return points, scores


def decode_quarter(heatmaps: Floats, input_size: Size) -> tuple[Floats, Floats]:
    """The maximum moved a quarter of a heatmap pixel towards the larger neighbour on each axis.

    No move towards equal neighbours, nor along an axis on which the maximum is in the first two columns (rows) or
    the last.
    """
    points, scores = _found_peaks(heatmaps)
    height, width = heatmaps.shape[-2:]
    x, y = points[..., 0], points[..., 1]
    around = neighbourhood(heatmaps, points, 1)
    shift = 0.25 * np.sign(around[..., [1, 2], [2, 1]] - around[..., [1, 0], [0, 1]])
    shift[..., 0] *= (x > 1) & (x < width - 1) & (y > 0)
    shift[..., 1] *= (y > 1) & (y < height - 1) & (x > 0)
    decoded: Floats = (points + shift) * _scale(heatmaps, input_size)
    return decoded, scores


def decode_dark(heatmaps: Floats, input_size: Size, blur_kernel: int = 11) -> tuple[Floats, Floats]:
    """One Newton step on the logarithm of the blurred heatmap (DARK, Zhang et al., CVPR 2020).

    `blur_kernel` is the width of the Gaussian in heatmap pixels, odd; MMPose uses 11 throughout, EasyCV 17 for whole
    bodies. No step within two pixels of the border, nor where the surface is flat.
    """
    points, scores = _found_peaks(heatmaps)
    height, width = heatmaps.shape[-2:]
    x, y = points[..., 0], points[..., 1]
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    s: Array = np.log(np.maximum(neighbourhood(_blur(heatmaps, blur_kernel), points, 2), 1e-10))
    dx = 0.5 * (s[..., 2, 3] - s[..., 2, 1])
    dy = 0.5 * (s[..., 3, 2] - s[..., 1, 2])
    dxx = 0.25 * (s[..., 2, 4] - 2 * s[..., 2, 2] + s[..., 2, 0])
    dyy = 0.25 * (s[..., 4, 2] - 2 * s[..., 2, 2] + s[..., 0, 2])
    dxy = 0.25 * (s[..., 3, 3] - s[..., 1, 3] - s[..., 3, 1] + s[..., 1, 1])
    step = _newton(dx, dy, dxx, dxy, dyy)
    decoded: Floats = (points + step * inside[..., None]) * _scale(heatmaps, input_size)
    return decoded, scores


def flip_average(heatmaps: Floats, of_mirrored: Floats, mirror: tuple[int, ...]) -> Floats:
    """Mean of the heatmaps of a crop and of its mirror image.

    Those of the mirror image are flipped back, left and right joints swapped (`Skeleton.mirror`), and moved one
    pixel to the right (the first column stays): the network's strides are not symmetric.
    """
    back = of_mirrored[:, list(mirror), :, ::-1]
    shifted = np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
    average: Floats = (heatmaps + shifted) * np.float32(0.5)
    return average


def _scale(heatmaps: Floats, input_size: Size) -> Array:
    height, width = heatmaps.shape[-2:]
    return np.array(input_size, np.float32) / np.array([width, height], np.float32)


def _blur(heatmaps: Floats, kernel: int) -> Floats:
    """Gaussian blur with zeros outside; every map keeps its maximum."""
    n, k, height, width = heatmaps.shape
    if n == 0:
        return heatmaps
    border = kernel // 2
    # One tall image with zeros between the maps: one call for all of them.
    tall = np.zeros((n * k, height + 2 * border, width + 2 * border), np.float32)
    tall[:, border : border + height, border : border + width] = heatmaps.reshape(n * k, height, width)
    blurred = cv2.GaussianBlur(tall.reshape(-1, tall.shape[-1]), (kernel, kernel), 0).reshape(tall.shape)
    inner: Array = blurred[:, border : border + height, border : border + width].reshape(heatmaps.shape)
    before, after = heatmaps.max(axis=(-2, -1)), inner.max(axis=(-2, -1))
    gain = np.divide(before, after, out=np.ones_like(before), where=after != 0)
    inner *= gain[..., None, None]
    return inner


def _newton(dx: Array, dy: Array, dxx: Array, dxy: Array, dyy: Array) -> Array:
    """Minus the inverse Hessian times the gradient, (..., 2); zero where the Hessian is singular."""
    determinant = dxx * dyy - dxy**2
    singular = determinant == 0
    step: Array = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1)
    step /= np.where(singular, 1, determinant)[..., None]
    step[singular] = 0
    return step
