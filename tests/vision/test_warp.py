from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamkp.vision.warp import warp

SMALL = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def turned(x: float, y: float, scale: float = 0.7) -> np.ndarray:
    """A matrix that brings (x, y) to the middle of 32 x 24."""
    matrix = cv2.getRotationMatrix2D((x, y), 20, scale)
    matrix[:, 2] += (16 - x, 12 - y)
    return np.asarray(matrix)


def test_an_image_of_usual_size_is_warped_by_opencv() -> None:
    out = np.empty((24, 32, 3), np.uint8)
    warp(SMALL, turned(30, 20), out)
    assert (out == cv2.warpAffine(SMALL, turned(30, 20), (32, 24))).all()


@pytest.mark.parametrize("at", [0, 20_000, 39_920])
def test_a_part_of_a_huge_image_is_as_if_it_were_alone(at: int) -> None:
    huge = np.zeros((60, 40_000, 3), np.uint8)
    huge[:, at : at + 80] = SMALL
    out, alone = np.empty((24, 32, 3), np.uint8), np.empty((24, 32, 3), np.uint8)
    for x, y in ((40, 30), (5, 5), (75, 50)):
        warp(huge, turned(at + x, y), out)
        warp(SMALL, turned(x, y), alone)
        assert np.abs(out.astype(int) - alone).max() <= 2  # OpenCV rounds positions to 1/32 pixel


def test_the_whole_of_a_huge_image_and_nothing_of_it() -> None:
    huge = np.zeros((20, 70_000, 3), np.uint8)
    huge[:, 35_000:] = 200
    out = np.empty((8, 700, 3), np.uint8)
    warp(huge, np.array([[0.01, 0, 0], [0, 0.4, 0]]), out)
    assert out[:, :345].max() == 0
    assert out[:, 355:].min() == 200
    warp(huge, np.array([[1.0, 0, -1e6], [0, 1.0, -1e6]]), out)
    assert out.max() == 0


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.2, 0.0, -300.0], [0.0, 0.2, 5.0]],  # beside the image
        [[0.2, 0.0, 300.0], [0.0, 0.2, -500.0]],
        [[40.0, 0.0, -700.0], [0.0, 40.0, -900.0]],  # within one pixel or two
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],  # all of it one pixel
        [[1.0, 0.0, np.inf], [0.0, 1.0, 0.0]],
        [[1e200, 1e200, 0.0], [-1e200, 1e200, 0.0]],
    ],
)
def test_any_matrix_that_opencv_takes_gives_what_opencv_gives(matrix: list[list[float]]) -> None:
    out = np.empty((24, 32, 3), np.uint8)
    warp(SMALL, np.array(matrix), out)
    assert (out == cv2.warpAffine(SMALL, np.array(matrix), (32, 24))).all()


def test_a_view_of_another_image_is_warped_as_its_copy_is() -> None:
    view = SMALL[5:50:2, 70:10:-1, ::-1]
    out = np.empty((24, 32, 3), np.uint8)
    warp(view, turned(30, 10), out)
    assert (out == cv2.warpAffine(view.copy(), turned(30, 10), (32, 24))).all()
