from math import pi

import numpy as np
import pytest

from streamkp.models.pose2d import blazepose


@pytest.mark.parametrize(("top", "angle"), [((10, -20), 0), ((40, 10), pi / 2), ((10, 40), pi), ((-20, 10), -pi / 2)])
def test_the_region_is_turned_so_that_the_top_is_up(top: tuple[float, float], angle: float) -> None:
    region = blazepose.region_from_points(np.array((10, 10), np.float32), np.array(top, np.float32))
    np.testing.assert_allclose(region, [10, 10, 75, 75, angle], atol=1e-5)


def _heatmap(rows: int = 64, cols: int = 64) -> np.ndarray:
    return np.full((1, rows, cols, 1), -20, np.float32)


def test_refinement_moves_a_point_to_the_centre_of_mass_nearby() -> None:
    heatmap = _heatmap()
    heatmap[0, 30, 20:22] = 5
    refined = blazepose.refine(np.array([[[22.5 / 64, 31.5 / 64]]], np.float32), heatmap)
    np.testing.assert_allclose(refined[0, 0] * 64, (20.5, 30), atol=1e-2)


def test_refinement_looks_four_cells_far_and_no_farther() -> None:
    heatmap = _heatmap()
    heatmap[0, 30, 24] = 5
    near, far = np.array([[[20.5 / 64, 30.5 / 64]]], np.float32), np.array([[[19.5 / 64, 30.5 / 64]]], np.float32)
    np.testing.assert_allclose(blazepose.refine(near, heatmap)[0, 0] * 64, (24, 30), atol=1e-2)
    assert (blazepose.refine(far, heatmap) == far).all()


def test_an_unsure_heatmap_and_a_point_outside_change_nothing() -> None:
    heatmap = _heatmap()
    heatmap[0, 30, 20] = -0.1
    inside, outside = np.array([[[20 / 64, 30 / 64]]], np.float32), np.array([[[1.2, -0.3]]], np.float32)
    assert (blazepose.refine(inside, heatmap) == inside).all()
    assert (blazepose.refine(outside, np.full_like(heatmap, 5)) == outside).all()


def test_refinement_at_the_border_counts_each_cell_once() -> None:
    heatmap = _heatmap()
    heatmap[0, :2, 0] = 5
    refined = blazepose.refine(np.zeros((1, 1, 2), np.float32), heatmap)
    np.testing.assert_allclose(refined[0, 0] * 64, (0, 0.5), atol=1e-2)


def test_world_landmarks_are_turned_back_and_start_at_the_hips() -> None:
    raw = np.zeros((1, 39, 3), np.float32)
    raw[0, 0] = (0, -0.6, 0.2)
    raw[0, 23:25] = (0, 0, 0.1)
    regions = np.array([[0, 0, 1, 1, pi / 2]], np.float32)
    world = blazepose.decode_world(raw.reshape(1, 117), regions)
    assert world.shape == (1, 33, 3)
    np.testing.assert_allclose(world[0, 0], (0.6, 0, 0.1), atol=1e-6)
    np.testing.assert_allclose(world[0, 23], 0, atol=1e-6)
