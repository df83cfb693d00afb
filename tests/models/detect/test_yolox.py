import numpy as np

from streamkp.models.detect import yolox


def test_grid_of_the_nano_input() -> None:
    grid = yolox.grid(416, 416)
    assert grid.shape == (3549, 3)
    assert grid[1].tolist() == [1, 0, 8]
    assert grid[52 * 52].tolist() == [0, 0, 16]
    assert grid[-1].tolist() == [12, 12, 32]


def test_raw_heads_are_relative_to_cell_and_stride() -> None:
    raw = np.zeros((3549, 85), np.float32)
    raw[52 + 2, :6] = (0.5, 0.5, np.log(4), np.log(10), 0.9, 0.5)
    raw[0, [4, 7]] = 0.9  # not a person
    boxes, scores = yolox.decode_people(raw, 416, 416, 0.3, 0.5)
    np.testing.assert_allclose(boxes, [[20 - 16, 12 - 40, 20 + 16, 12 + 40]], rtol=1e-5)
    np.testing.assert_allclose(scores, [0.45])
    assert boxes.dtype == np.float32
