from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.motion.one_euro import OneEuro

MS = 1_000_000


def reference(xs: list[float], times: list[float], min_cutoff: float, beta: float) -> list[float]:
    """The filter as the paper writes it, one number at a time."""

    def alpha(cutoff: float, dt: float) -> float:
        return 1 / (1 + 1 / (2 * math.pi * cutoff * dt))

    out, dx = [xs[0]], 0.0
    for i in range(1, len(xs)):
        dt = times[i] - times[i - 1]
        a = alpha(1.0, dt)
        dx = a * (xs[i] - xs[i - 1]) / dt + (1 - a) * dx
        a = alpha(min_cutoff + beta * abs(dx), dt)
        out.append(a * xs[i] + (1 - a) * out[-1])
    return out


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 200)), min_size=2, max_size=30),
    st.floats(0.05, 5),
    st.floats(0, 1),
)
def test_is_the_filter_of_the_paper(samples: list[tuple[float, int]], min_cutoff: float, beta: float) -> None:
    xs = [x for x, _ in samples]
    ms = list(np.cumsum([step for _, step in samples]))
    smooth = OneEuro(min_cutoff, beta)
    got = [smooth(np.array([[x, -x]]), int(t) * MS, 1000.0)[0] for x, t in zip(xs, ms, strict=True)]
    want = reference(xs, [t / 1000 for t in ms], min_cutoff, beta)
    np.testing.assert_allclose(np.array(got)[:, 0], want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.array(got)[:, 1], -np.array(want), rtol=1e-6, atol=1e-6)


@given(st.floats(0.01, 100), st.integers(0, 1000))
def test_near_and_far_people_are_smoothed_alike(scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 5, (20, 3, 2)), axis=0)
    near, far = OneEuro(), OneEuro()
    for i, points in enumerate(walk):
        a, b = near(points, i * 33 * MS, 400.0), far(points * scale, i * 33 * MS, 400.0 * scale)
        np.testing.assert_allclose(a * scale, b, rtol=1e-9, atol=1e-9)


def test_a_joint_that_is_not_seen_changes_nothing_for_the_others() -> None:
    """Also to the last bit: frames with all joints take a shorter way."""
    rng = np.random.default_rng(1)
    alone, beside = OneEuro(), OneEuro()
    pts = 0
    for step in (33, 33, 0, 20, 40, 900, 33, 1500, 33, 33):
        pts += step * MS
        points = rng.normal(0, 100, (4, 2))
        other = np.full((1, 2), np.nan) if rng.random() < 0.7 else np.ones((1, 2))
        np.testing.assert_array_equal(
            alone(points, pts, 300.0), beside(np.concatenate([points, other]), pts, 300.0)[:4]
        )


def test_what_it_returns_belongs_to_the_caller() -> None:
    smooth, untouched = OneEuro(), OneEuro()
    for i in range(4):
        points = np.full((2, 2), float(i))
        found = smooth(points, i * MS, 100.0)
        np.testing.assert_array_equal(found, untouched(np.full((2, 2), float(i)), i * MS, 100.0))
        found += 1e6
        points += 1e6


def test_depends_on_time_not_on_frame_count() -> None:
    def settle(fps: int) -> float:
        smooth = OneEuro(1.0, 0.0)
        smooth(np.zeros((1, 2)), 0, 100.0)
        return float([smooth(np.ones((1, 2)), i * 1000 * MS // fps, 100.0) for i in range(1, fps // 2)][-1][0, 0])

    assert settle(30) == pytest.approx(settle(120), abs=0.03)


def test_steadies_a_person_at_rest_and_follows_one_in_motion() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (90, 33, 2))
    smooth = OneEuro()
    rest = np.array([smooth(n, i * 33 * MS, 500.0) for i, n in enumerate(noise)])[30:]
    assert rest.std() < 0.5 * noise.std()
    smooth = OneEuro()
    run = [smooth(np.full((1, 2), 15.0 * i), i * 33 * MS, 500.0)[0, 0] for i in range(60)]
    assert 15.0 * 59 - run[-1] < 15.0  # lags by less than a frame


def test_a_joint_that_was_missing_keeps_its_own_time() -> None:
    smooth, alone = OneEuro(), OneEuro()
    missing = np.array([[0.0, 0.0], [np.nan, 1.0]])
    first = smooth(missing, 0, 100.0)
    np.testing.assert_array_equal(first, missing)
    second = smooth(np.array([[1.0, 1.0], [5.0, 5.0]]), 33 * MS, 100.0)
    np.testing.assert_array_equal(second[1], [5.0, 5.0])  # never seen before: raw
    alone(np.array([[5.0, 5.0]]), 33 * MS, 100.0)
    gone = smooth(np.array([[1.0, 1.0], [np.nan, np.nan]]), 66 * MS, 100.0)
    assert np.isnan(gone[1]).all()
    back = smooth(np.array([[1.0, 1.0], [6.0, 6.0]]), 99 * MS, 100.0)
    np.testing.assert_allclose(back[1], alone(np.array([[6.0, 6.0]]), 99 * MS, 100.0)[0])


def test_starts_afresh_after_a_gap() -> None:
    smooth = OneEuro(max_gap=0.5)
    smooth(np.zeros((2, 2)), 0, 100.0)
    np.testing.assert_array_equal(smooth(np.full((2, 2), 80.0), 501 * MS, 100.0), np.full((2, 2), 80.0))


def test_time_that_stands_still_or_goes_back_changes_nothing() -> None:
    smooth = OneEuro()
    smooth(np.zeros((1, 2)), 100 * MS, 100.0)
    for pts in (100, 90):
        np.testing.assert_array_equal(smooth(np.ones((1, 2)), pts * MS, 100.0), np.zeros((1, 2)))
    assert 0 < smooth(np.ones((1, 2)), 133 * MS, 100.0)[0, 0] < 1


coordinate = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.lists(st.tuples(coordinate, coordinate, st.integers(-5, 3000)), max_size=20))
def test_never_makes_a_number_up_nor_leaves_the_range_of_its_input(samples: list[tuple[float, float, int]]) -> None:
    smooth, finite, pts = OneEuro(), [], 0
    for x, y, step in samples:
        pts += step * MS
        out = smooth(np.array([[x, y]]), pts, 100.0)[0]
        if math.isfinite(x) and math.isfinite(y):
            finite.append(x)
            assert min(finite) - 1e-6 <= out[0] <= max(finite) + 1e-6
        else:
            np.testing.assert_array_equal(out, [x, y])
