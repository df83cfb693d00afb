import numpy as np
import pytest

from streamkp.vision.letterbox import boxes_to_source, letterbox_corner


@pytest.mark.parametrize("shape", [(994, 1768), (1920, 1080), (16, 16), (1, 500), (4320, 7680)])
def test_image_lies_in_the_corner_and_the_rest_is_filled(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    out = np.full((320, 320, 3), 7, np.uint8)
    scale = letterbox_corner(image, out, fill=114)
    h, w = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    assert max(h, w) == 320
    assert (out[:h, :w] == 200).all()
    assert (out[h:] == 114).all()
    assert (out[:, w:] == 114).all()


def test_boxes_come_back_to_where_they_were_and_end_at_the_image() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    boxes = np.array([[40, 20, 80, 60], [-10, -10, 400, 400]], np.float32)
    np.testing.assert_allclose(boxes_to_source(boxes, 0.5, image), [[80, 40, 80, 80], [0, 0, 800, 600]])
