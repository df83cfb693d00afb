"""Crops and the way back, against MMPose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.vision import affine
from tests.reference.network_input import network_input

SIZES = [(192, 256), (288, 384), (256, 256)]
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def reference(golden: Path) -> Any:
    return np.load(golden / "affine_crop" / "io.npz")


def _xywh(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=-1)


@pytest.mark.parametrize("i", range(3))
def test_matrices_are_the_reference(reference: Any, i: int) -> None:
    size = SIZES[i]
    centre, extent = affine.crop_region(_xywh(reference["boxes_xyxy"]), size)
    np.testing.assert_allclose(centre, reference["center"][i], rtol=1e-6)
    np.testing.assert_allclose(extent, reference["scale_fixed"][i], rtol=1e-5)
    warp = affine.crop_matrix(centre, extent, size)
    # The reference finds its matrices from three points in float32.
    np.testing.assert_allclose(warp, reference["warp"][i], rtol=1e-6, atol=2e-5)
    np.testing.assert_allclose(affine.invert(warp), reference["warp_inv"][i], rtol=1e-6, atol=2e-5)
    angle = reference["rotation_deg"]
    turned = affine.crop_matrix(centre, extent, size, angle)
    np.testing.assert_allclose(turned, reference["warp_rot"][i], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("i", range(3))
def test_points_there_and_back(reference: Any, i: int) -> None:
    size = SIZES[i]
    centre, extent = affine.crop_region(_xywh(reference["boxes_xyxy"]), size)
    points = np.broadcast_to(reference["points"], (5, 8, 2))
    warp = affine.crop_matrix(centre, extent, size)
    inside = affine.transform(warp, points)
    np.testing.assert_allclose(inside, reference["points_fwd"][i], rtol=1e-5, atol=2e-3)
    back = affine.transform(affine.invert(warp), reference["points_fwd"][i])
    np.testing.assert_allclose(back, reference["points_back"][i], atol=2e-3)
    np.testing.assert_allclose(affine.transform(affine.invert(warp), inside), points, atol=1e-6)


def test_crops_are_the_reference(reference: Any) -> None:
    crops = affine.crop(reference["image"], reference["warp"][0, :2], SIZES[0])
    np.testing.assert_array_equal(crops, reference["crop_192x256"])
    # The float crop interpolates exactly; uint8 in steps of 1/32 pixel.
    difference = np.abs(crops[0].astype(float) - reference["crop_192x256_f16"])
    assert difference.mean() < 0.5
    assert difference.max() < 8
    turned = affine.crop(reference["image"], reference["warp_rot"][2, 1:2], SIZES[2])
    np.testing.assert_array_equal(turned[0], reference["crop_256x256_rot"])


finite = st.floats(-1e4, 1e4)


@given(st.tuples(finite, finite, st.floats(0, 1e4), st.floats(0, 1e4)), st.sampled_from(SIZES), st.floats(-180, 180))
def test_inverse_undoes_any_crop(box: tuple[float, ...], size: tuple[int, int], angle: float) -> None:
    centre, extent = affine.crop_region([box], size)
    assert extent.min() >= 1
    assert extent[0, 0] / extent[0, 1] == pytest.approx(size[0] / size[1])
    matrix = affine.crop_matrix(centre, extent, size, angle)
    points = np.array([[[0, 0], [size[0], 0], [size[0] / 2, size[1]]]])
    there = affine.transform(affine.invert(matrix), points)
    np.testing.assert_allclose(affine.transform(matrix, there), points, atol=1e-3)


def test_box_outside_the_image_is_black() -> None:
    centre, size = affine.crop_region([[500, 500, 20, 40], [-300, 0, 10, 10]], (48, 64))
    assert not affine.crop(IMAGE, affine.crop_matrix(centre, size, (48, 64)), (48, 64)).any()


def test_one_pixel_box_and_no_box() -> None:
    centre, size = affine.crop_region([[30, 40, 1, 1], [30, 40, 0, 0]], (48, 64))
    crops = affine.crop(IMAGE, affine.crop_matrix(centre, size, (48, 64)), (48, 64))
    assert crops.shape == (2, 64, 48, 3)
    assert crops[0].any()
    centre, size = affine.crop_region(np.zeros((0, 4)), (48, 64))
    crops = affine.crop(IMAGE, affine.crop_matrix(centre, size, (48, 64)), (48, 64))
    assert network_input(crops).shape == (0, 3, 64, 48)


def test_image_of_twenty_thousand_pixels_a_side() -> None:
    image = np.zeros((40, 20_000, 3), np.uint8)
    image[:, 19_000:] = 200
    centre, size = affine.crop_region([[19_400, 10, 15, 20]], (48, 64))
    assert (affine.crop(image, affine.crop_matrix(centre, size, (48, 64)), (48, 64))[0, 32] == 200).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_box_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        affine.crop_region([[0, 0, 10, 10], [bad, 0, 10, 10]], (48, 64))


def test_network_input_is_normalised_rgb() -> None:
    crops = np.zeros((1, 2, 2, 3), np.uint8)
    crops[..., 2] = 255  # red
    x = network_input(crops)
    np.testing.assert_allclose(x[0, :, 0, 0], [(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375], rtol=1e-6)
    bgr = network_input(crops, mean=(0, 0, 0), std=(255, 255, 255), rgb=False)
    np.testing.assert_array_equal(bgr[0, :, 0, 0], [0, 0, 1])
