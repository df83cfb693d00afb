from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.vision.color import as_bgr

BGR = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)


def test_what_is_right_already_is_not_copied() -> None:
    assert as_bgr(BGR) is BGR


@pytest.mark.parametrize("grey", [BGR[:, :, 0], BGR[:, :, :1]])
def test_grey_becomes_three_equal_channels(grey: np.ndarray) -> None:
    out = as_bgr(grey)
    assert (out == BGR[:, :, :1]).all()
    assert out.flags.c_contiguous


def test_alpha_is_left_out() -> None:
    out = as_bgr(np.dstack([BGR, np.zeros((4, 5), np.uint8)]))
    assert (out == BGR).all()
    assert out.flags.c_contiguous


@pytest.mark.parametrize(
    "other",
    [BGR / 255, (BGR / 255).astype(np.float32), BGR.astype(np.uint16) * 257, BGR[:, ::-1][:, ::-1]],
    ids=["float64", "float32", "uint16", "view"],
)
def test_other_ranges_come_to_bytes(other: np.ndarray) -> None:
    out = as_bgr(other)
    assert out.dtype == np.uint8
    assert (out == BGR).all()
    assert out.flags.c_contiguous


def test_a_mask_is_black_and_white() -> None:
    assert as_bgr(BGR[:, :, 0] > 100).max() == 255


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (BGR.astype(np.float32), r"values in 0\.\.1; this one has .*astype\('uint8'\)"),
        (np.full((4, 4), np.nan), "nan"),
        (np.full((4, 4), -0.1), "-0.1"),
        (BGR.astype(np.int64), "not int64"),
        (BGR.transpose(2, 0, 1), "channels come last"),
        (np.zeros((4, 4, 2), np.uint8), r"not \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.zeros(4, np.uint8), r"not \(4,\)"),
        ("image.jpg", "not str"),
    ],
)
def test_what_is_no_image_is_refused_in_words(image: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        as_bgr(image)
