from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from streamkp.motion.sliding_window import cut, join, pad_edges, plan_spans


def test_pad_edges_repeats_the_ends():
    assert_array_equal(pad_edges(np.array([[1.0], [2.0]]), 2, 1)[:, 0], [1, 1, 1, 2, 2])


@given(frames=st.integers(1, 300), length=st.integers(1, 100), data=st.data())
def test_every_frame_comes_from_exactly_one_window_that_holds_it(frames, length, data):
    step = data.draw(st.integers(1, length))
    spans = plan_spans(frames, length, step)
    sequence = np.arange(frames)
    windows = cut(sequence, spans, length)
    assert windows.shape == (len(spans), length)
    assert_array_equal(join(windows, spans), sequence)


def test_a_short_sequence_is_continued_with_its_last_frame():
    sequence = np.arange(3)
    (span,) = spans = plan_spans(3, 8, 5)
    assert (span.start, span.first, span.stop) == (0, 0, 3)
    assert_array_equal(cut(sequence, spans, 8), [[0, 1, 2, 2, 2, 2, 2, 2]])


@pytest.mark.parametrize(("frames", "length", "step"), [(0, 96, 5), (10, 96, 0), (10, 96, 97)])
def test_windows_that_cannot_cover_a_sequence(frames, length, step):
    with pytest.raises(ValueError, match="cannot cover"):
        plan_spans(frames, length, step)
