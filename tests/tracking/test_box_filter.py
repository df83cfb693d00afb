from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkp.tracking.box_filter import BoxFilter


@given(st.floats(20, 2000), st.floats(-1, 1), st.sampled_from([15, 30, 60]))
@settings(deadline=None)
def test_learns_the_speed_of_near_and_far_people_and_goes_on_with_it(size: float, speed: float, fps: int) -> None:
    """Speed in sizes per second; the prediction over 0.3 s errs by a few percent of the size."""

    def box(t: float) -> np.ndarray:
        return np.array((speed * size * t, 5.0, 0.4 * size, size), np.float32)

    known = BoxFilter(box(0))
    for i in range(1, 2 * fps):
        known.predict(1 / fps)
        known.update(box(i / fps))
    for _ in range(3 * fps // 10):
        known.predict(1 / fps)
    t = (2 * fps - 1 + 3 * fps // 10) / fps
    np.testing.assert_allclose(known.box, box(t), atol=0.03 * size)
    assert known.size == pytest.approx(size, rel=0.01)
    np.testing.assert_allclose(known.centre, box(t)[:2] + box(t)[2:] / 2, atol=0.03 * size)


def test_frames_at_the_same_time_and_flat_boxes_do_no_harm() -> None:
    known = BoxFilter(np.array((10, 10, 0, 0), np.float32))
    for _ in range(5):
        known.predict(0.0)
        known.update(np.array((10, 10, 0, 0), np.float32))
    assert np.isfinite(known.box).all()
    assert known.size >= 0.9
