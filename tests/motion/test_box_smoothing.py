from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamkp import skeletons
from streamkp.motion.box_smoothing import smooth_step


@pytest.fixture
def reference(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "tpnet" / "convert15.npz"))


def test_smoothing(reference):
    smoothed = reference["kp15"][0]
    for points, box, expected in zip(reference["kp15"], reference["boxes"], reference["smoothed15"], strict=True):
        before = points.copy()
        smoothed = smooth_step(points, smoothed, box)
        assert_allclose(smoothed, expected, atol=1e-9)
        assert_array_equal(before, points)


def test_body15_to_human36m(reference):
    converted = skeletons.convert(reference["smoothed15"], "body15", "h36m17")
    assert_allclose(converted, reference["h36m17"], atol=1e-9)
    converted = skeletons.convert(reference["kp15"], "body15", "h36m17")
    assert_allclose(converted, reference["h36m17_nosmooth"], atol=1e-9)
    # The joints that the 15-joint form of the layout has are only moved.
    kept = [joint for joint in range(17) if joint not in (7, 9)]
    assert_allclose(reference["h36m17"][:, kept], reference["h36m15"], atol=1e-9)


def test_an_empty_box_smooths_nothing():
    points, previous = np.ones((15, 2)), np.zeros((15, 2))
    assert_array_equal(smooth_step(points, previous, np.array([5.0, 5.0, 5.0, 9.0])), points)
