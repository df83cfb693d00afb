from math import pi

import numpy as np
import pytest

from streamkp.vision.crop import crop, points_to_source

IMAGE = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)


def test_an_upright_region_of_the_crops_size_is_a_plain_cut() -> None:
    out = np.empty((16, 16, 3), np.uint8)
    crop(IMAGE, np.array((38, 28, 16, 16, 0), np.float32), out)
    assert (out == IMAGE[20:36, 30:46]).all()


def test_outside_the_image_its_edge_goes_on() -> None:
    out = np.empty((16, 16, 3), np.uint8)
    crop(IMAGE, np.array((0, 30, 16, 16, 0), np.float32), out)
    assert (out[:, :8] == IMAGE[22:38, :1]).all()


@pytest.mark.parametrize("angle", [0.0, 0.4, pi / 2, -2.5])
def test_points_of_the_crop_go_back_to_the_pixels_they_came_from(angle: float) -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    image[89:92, 119:122] = 255  # a dot around (120, 90)
    region = np.array((100, 100, 100, 100, angle), np.float32)
    out = np.empty((100, 100, 3), np.uint8)
    crop(image, region, out)
    y, x = np.argwhere(out[..., 0] > 64).mean(axis=0)
    (back,) = points_to_source(np.array([[[x / 100, y / 100]]], np.float32), region[None])[0]
    np.testing.assert_allclose(back, (120, 90), atol=0.3)
