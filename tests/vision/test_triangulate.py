from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.vision.triangulate import reprojection_errors, triangulate, triangulate_robust
from tests.evaluation.ring import ring

POINTS = np.random.default_rng(0).uniform((-0.8, -0.8, 0), (0.8, 0.8, 1.8), (50, 3))


def see(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Projections [V, 3, 4] and exact pixels [V, N, 2] of cameras without distortion."""
    cameras = ring(count, distortion=(0.0,) * 5)
    return np.array([camera.projection for camera in cameras]), np.array([camera.project(POINTS) for camera in cameras])


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_exact_views_give_the_points_whatever_their_weights(count, seed):
    projections, pixels = see(count)
    weights = np.random.default_rng(seed).uniform(0.1, 1, pixels.shape[:2])
    points = triangulate(projections, pixels, weights)
    assert np.abs(points - POINTS).max() < 1e-8
    assert reprojection_errors(projections, points, pixels).max() < 1e-5


def test_what_is_minimised_is_the_error_in_pixels():
    projections, pixels = see(4)
    noisy = pixels + np.random.default_rng(1).normal(scale=3, size=pixels.shape)
    ones = np.ones(pixels.shape[:2])
    points = triangulate(projections, noisy, ones)
    least = (reprojection_errors(projections, points, noisy) ** 2).sum(0)
    for step in np.eye(3) * 1e-3:
        for sign in (1, -1):
            moved = (reprojection_errors(projections, points + sign * step, noisy) ** 2).sum(0)
            assert (moved > least * (1 - 1e-3)).all()


def test_a_view_without_weight_does_not_count_even_if_it_is_not_a_number():
    projections, pixels = see(3)
    weights = np.ones(pixels.shape[:2])
    weights[1], pixels[1] = 0, np.nan
    assert np.abs(triangulate(projections, pixels, weights) - POINTS).max() < 1e-8


def test_one_view_is_not_enough():
    projections, pixels = see(2)
    weights = np.ones(pixels.shape[:2])
    weights[0, :5] = 0
    points = triangulate(projections, pixels, weights)
    assert np.isnan(points[:5]).all()
    assert np.isfinite(points[5:]).all()


@pytest.mark.parametrize("count", [4, 5, 8])
def test_a_view_that_contradicts_the_others_is_left_out(count):
    projections, pixels = see(count)
    random = np.random.default_rng(2)
    wrong = np.zeros(pixels.shape[:2], bool)
    wrong[random.integers(count, size=25), np.arange(0, 50, 2)] = True
    pixels[wrong] += random.choice([-1, 1], (25, 2)) * random.uniform(150, 300, (25, 2))
    points, used = triangulate_robust(projections, pixels, np.ones(wrong.shape), limit=10)
    assert np.array_equal(used, ~wrong)
    assert np.abs(points - POINTS).max() < 1e-6


def test_of_two_views_neither_is_left_out():
    projections, pixels = see(2)
    pixels[0] += 200
    _, used = triangulate_robust(projections, pixels, np.ones(pixels.shape[:2]), limit=10)
    assert used.all()
