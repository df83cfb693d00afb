"""Heatmap decoding and encoding against MMPose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.vision import heatmap
from tests.reference.gaussian_targets import gaussian_targets

CASES = {"body": (192, 256), "wholebody": (288, 384), "hand": (256, 256)}
DECODERS = [heatmap.decode_quarter, heatmap.decode_dark]
Decoder = Callable[..., Any]


@pytest.fixture(scope="module")
def reference(golden: Path) -> Any:
    return np.load(golden / "heatmap_decode" / "io.npz")


@pytest.mark.parametrize("case", CASES)
def test_decoding_is_the_reference(reference: Any, case: str) -> None:
    maps = reference[f"{case}_heatmaps"].astype(np.float32)[None]
    before = maps.copy()
    points, scores = heatmap.decode_quarter(maps, CASES[case])
    np.testing.assert_array_equal(points, reference[f"{case}_quarter"])
    np.testing.assert_array_equal(scores, reference[f"{case}_scores"])
    points, _ = heatmap.decode_dark(maps, CASES[case])
    np.testing.assert_allclose(points, reference[f"{case}_dark"], atol=1e-4)
    np.testing.assert_array_equal(maps, before)


def test_dark_with_the_kernel_of_easycv(reference: Any) -> None:
    maps = reference["wholebody_heatmaps"].astype(np.float32)[None]
    points, _ = heatmap.decode_dark(maps, CASES["wholebody"], blur_kernel=17)
    np.testing.assert_allclose(points, reference["wholebody_dark_k17"], atol=1e-3)


@pytest.mark.parametrize("unbiased", [False, True])
def test_targets_are_the_reference(reference: Any, unbiased: bool) -> None:
    points = reference["body_encode_keypoints"][:, :6]
    targets = gaussian_targets(points, (192, 256), (48, 64), unbiased=unbiased)
    name = "body_encode_unbiased" if unbiased else "body_encode_plain"
    np.testing.assert_allclose(targets[0], reference[name], atol=1e-6)


@pytest.mark.parametrize("decode", DECODERS)
def test_a_batch_is_its_crops(decode: Decoder) -> None:
    maps = np.random.default_rng(0).random((4, 5, 64, 48)).astype(np.float32)
    points, scores = decode(maps, (192, 256))
    for i in range(4):
        one, score = decode(maps[i : i + 1], (192, 256))
        np.testing.assert_allclose(points[i], one[0], atol=1e-5)
        np.testing.assert_array_equal(scores[i], score[0])
    empty, none = decode(maps[:0], (192, 256))
    assert empty.shape == (0, 5, 2)
    assert none.shape == (0, 5)


def test_dark_finds_the_joint_between_pixels() -> None:
    truth = np.random.default_rng(1).uniform(40, 150, (3, 7, 2)).astype(np.float32)
    maps = gaussian_targets(truth, (192, 256), (48, 64), unbiased=True)
    points, scores = heatmap.decode_dark(maps, (192, 256))
    assert np.abs(points - truth).max() < 0.05
    assert scores.min() > 0.9


@pytest.mark.parametrize("decode", DECODERS)
def test_a_joint_that_is_not_there_lies_outside(decode: Decoder) -> None:
    points, scores = decode(np.zeros((1, 2, 64, 48), np.float32), (192, 256))
    assert (points < 0).all()
    assert (scores == 0).all()


@pytest.mark.parametrize("decode", DECODERS)
def test_nan_is_an_error(decode: Decoder) -> None:
    maps = np.zeros((1, 2, 64, 48), np.float32)
    maps[0, 1, 3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        decode(maps, (192, 256))
