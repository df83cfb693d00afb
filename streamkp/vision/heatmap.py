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


def decode_udp(heatmaps: Floats, input_size: Size, blur_kernel: int = 11) -> tuple[Floats, Floats]:
    """Like DARK with one-pixel differences, for networks trained with UDP (Huang et al., CVPR 2020).

    The heatmap's corner pixels are the crop's corners, so the scale is input / (heatmap - 1).
    """
    points, scores = _found_peaks(heatmaps)
    s: Array = np.log(np.clip(neighbourhood(_blur(heatmaps, blur_kernel), points, 1), 1e-3, 50))
    centre, left, right, up, down = s[..., 1, 1], s[..., 1, 0], s[..., 1, 2], s[..., 0, 1], s[..., 2, 1]
    dxy = 0.5 * (s[..., 2, 2] - right - down + 2 * centre - left - up + s[..., 0, 0])
    eps = np.finfo(np.float32).eps
    dxx = right - 2 * centre + left + eps
    dyy = down - 2 * centre + up + eps
    step = _newton(0.5 * (right - left), 0.5 * (down - up), dxx, dxy, dyy)
    height, width = heatmaps.shape[-2:]
    scale: Array = np.array(input_size, np.float32) / np.array([width - 1, height - 1], np.float32)
    decoded: Floats = (points + step * (scores > 0)[..., None]) * scale
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


def gaussian_targets(
    points: Floats, input_size: Size, heatmap_size: Size, sigma: float = 2.0, unbiased: bool = False
) -> Floats:
    """Training heatmaps (N, K, H, W), 1 at the joint, from points (N, K, 2) in crop pixels.

    The Gaussian sits on the nearest heatmap pixel and ends 3 `sigma` away from it on each axis; `unbiased` (DARK)
    puts it on the joint itself and does not end it. A joint further than 3 sigma outside gives zeros.
    """
    width, height = heatmap_size
    centre: Array = points * (np.array(heatmap_size, np.float32) / np.array(input_size, np.float32))
    if not unbiased:
        centre = np.trunc(centre + 0.5)
    reach = 3 * sigma
    low, high = centre - reach, centre + reach + 1
    visible: Array = np.all((low < heatmap_size) & (high >= 0), axis=-1)
    dx = np.arange(width, dtype=np.float32) - centre[..., 0, None]
    dy = np.arange(height, dtype=np.float32) - centre[..., 1, None]
    columns, rows = np.exp(-(dx**2) / (2 * sigma**2)), np.exp(-(dy**2) / (2 * sigma**2))
    if not unbiased:
        columns, rows = columns * (np.abs(dx) <= reach), rows * (np.abs(dy) <= reach)
    targets: Floats = (rows[..., :, None] * columns[..., None, :] * visible[..., None, None]).astype(np.float32)
    return targets


def _scale(heatmaps: Floats, input_size: Size) -> Array:
    height, width = heatmaps.shape[-2:]
    return np.array(input_size, np.float32) / np.array([width, height], np.float32)


def _blur(heatmaps: Floats, kernel: int) -> Floats:
    """Gaussian blur with zeros outside; every map keeps its maximum."""
    n, k, height, width = heatmaps.shape
    if n == 0:
        return heatmaps
    border = kernel // 2
    # One tall picture with zeros between the maps: one call for all of them.
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
