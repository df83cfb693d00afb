from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.tracking.similarity import box_of, clipped, keypoint_similarity, overlap

sides = st.floats(1, 500)
boxes = st.tuples(st.floats(-500, 500), st.floats(-500, 500), sides, sides).map(lambda b: np.array(b, np.float32))


def test_overlap_of_known_boxes() -> None:
    a = np.array((0, 0, 10, 10), np.float32)
    assert overlap(a, a) == 1
    assert overlap(a, np.array((5, 0, 10, 10), np.float32)) == pytest.approx(1 / 3)
    assert overlap(a, np.array((10, 0, 10, 10), np.float32)) == 0
    assert overlap(a, np.zeros(4, np.float32)) == 0


@given(boxes, boxes)
def test_overlap_is_symmetric_and_a_share(a: np.ndarray, b: np.ndarray) -> None:
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert 0 <= overlap(a, b) <= 1


@given(boxes)
def test_what_is_clipped_lies_in_the_image(box: np.ndarray) -> None:
    x, y, w, h = clipped(box, 320, 240)
    assert 0 <= x <= x + w <= 320
    assert 0 <= y <= y + h <= 240
    assert w <= box[2] + 1e-3
    assert h <= box[3] + 1e-3


def test_the_box_ignores_joints_that_are_not_seen_unless_hardly_any_are() -> None:
    points = np.array([(10, 20, 0.9), (30, 60, 0.9), (500, 500, 0.05)], np.float32)
    np.testing.assert_allclose(box_of(points), (8, 18, 24, 44))
    points[:, 2] = 0
    np.testing.assert_allclose(box_of(points), (-14.5, -4.5, 539, 529))


def test_keypoints_are_compared_relative_to_the_person() -> None:
    a = np.random.default_rng(0).uniform(0, 100, (17, 3)).astype(np.float32)
    b = a + np.float32((10, 0, 0))
    assert keypoint_similarity(a, a, 1e4) == 1
    assert keypoint_similarity(a, b, 1e4) == pytest.approx(np.exp(-0.5))
    assert keypoint_similarity(2 * a, 2 * b, 4e4) == pytest.approx(np.exp(-0.5))
