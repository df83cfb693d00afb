from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.motion.window import Rows, Window

MS = 1_000_000


def pose(value: float, joints: int = 2, score: float = 0.5) -> np.ndarray:
    return np.array([[value, -value, score]] * joints, np.float32)


def feed(window: Window, times_ms: list[float]) -> Rows:
    """A motion at 1 unit per millisecond."""
    for seq, t in enumerate(times_ms):
        window.push(pose(t), round(t * MS), seq)
    return window.rows()


def test_has_a_result_from_the_first_frame() -> None:
    rows = feed(Window(5), [7.0])
    assert rows.valid == 1
    np.testing.assert_array_equal(rows.points, np.stack([pose(7.0)] * 5))
    assert rows.points.shape == (5, 2, 3)
    assert list(rows.seq) == [0] * 5


def test_is_empty_before_the_first_frame() -> None:
    with pytest.raises(IndexError):
        Window(5).rows()


@given(st.integers(1, 12), st.integers(1, 60))
def test_holds_the_last_frames_and_says_which(frames: int, pushed: int) -> None:
    rows = feed(Window(frames), [10.0 * i for i in range(pushed)])
    want = [max(0, i) for i in range(pushed - frames, pushed)]
    assert rows.valid == min(frames, pushed)
    assert list(rows.seq) == want
    assert list(rows.pts) == [10 * MS * i for i in want]
    np.testing.assert_array_equal(rows.points[:, 0, 0], [10.0 * i for i in want])


@given(st.integers(1, 8), st.integers(2, 50))
def test_a_view_handed_out_never_changes(frames: int, pushed: int) -> None:
    window, seen = Window(frames), []
    for i in range(pushed):
        window.push(pose(float(i)), i * 10 * MS, i)
        rows = window.rows()
        seen.append((rows, rows.points.copy(), rows.seq.copy(), rows.pts.copy()))
    for rows, points, seq, pts in seen:
        np.testing.assert_array_equal(rows.points, points)
        np.testing.assert_array_equal(rows.seq, seq)
        np.testing.assert_array_equal(rows.pts, pts)
        with pytest.raises(ValueError):
            rows.points[0] = 0


@given(
    st.sampled_from([15, 25, 29.97, 30, 50, 60, 120]),
    st.floats(0.5, 3.0),
    st.integers(0, 10_000),
)
def test_any_camera_rate_gives_the_same_motion(fps: float, seconds: float, seed: int) -> None:
    """A swing at 1 Hz, timestamps rounded to milliseconds, one frame in ten dropped."""
    rng = np.random.default_rng(seed)
    window = Window(32, rate=30)

    def swing(t: float) -> float:
        return float(100 * np.sin(2 * np.pi * t))

    newest = longest = 0.0
    for seq in range(int(seconds * fps)):
        if seq and rng.random() < 0.1:
            continue
        before, newest = newest, round(1000 * seq / fps) / 1000
        longest = max(longest, newest - before)
        window.push(pose(swing(newest)), round(newest * 1e9), seq)
    rows = window.rows()
    times = rows.pts / 1e9
    np.testing.assert_allclose(np.diff(times[-rows.valid :]), 1 / 30, atol=2e-9)
    # Linear interpolation errs by at most (interval / 2)^2 / 2 of the acceleration; several drops in a row happen.
    np.testing.assert_allclose(
        rows.points[:, 0, 0], [swing(t) for t in times], atol=(longest / 2) ** 2 / 2 * 3950 + 0.5
    )
    assert times[-1] <= newest + 1 / 240 + 1e-9
    assert times[-1] > newest - 1 / 30
    assert np.all(rows.seq[1:] >= rows.seq[:-1])
    np.testing.assert_allclose(rows.points[:, :, 2], 0.5, atol=1e-6)


def test_a_camera_at_the_grids_own_rate_is_never_late_by_rounding() -> None:
    window = Window(8, rate=30)
    for seq in range(300):
        window.push(pose(0.0), round(1000 * seq / 30) * MS, seq)
        assert window.rows().seq[-1] == seq


def test_a_row_names_the_frame_nearest_to_it() -> None:
    rows = feed(Window(6, rate=100), [0.0, 25.0, 50.0])
    assert list(rows.pts // MS) == [0, 10, 20, 30, 40, 50]
    np.testing.assert_allclose(rows.points[:, 0, 0], [0, 10, 20, 30, 40, 50])
    assert list(rows.seq) == [0, 0, 1, 1, 2, 2]


def test_scores_stay_scores_where_positions_are_extrapolated() -> None:
    window = Window(4, rate=30)
    window.push(pose(0.0, score=0.0), 0, 0)
    window.push(pose(1.0, score=1.0), 30 * MS, 1)
    assert window.rows().points[-1, 0, 0] == pytest.approx(33.33 / 30, abs=1e-3)
    assert window.rows().points[-1, 0, 2] == 1.0


@pytest.mark.parametrize("rate", [None, 30.0])
def test_bridges_a_short_silence_and_starts_afresh_after_a_long_one(rate: float | None) -> None:
    window = Window(64, rate, max_gap=1.0)
    feed(window, [0.0, 33.4, 66.7])
    window.push(pose(1066.0), 1066 * MS, 3)
    assert window.rows().valid == (4 if rate is None else 33)
    window.push(pose(3000.0), 3000 * MS, 4)
    rows = window.rows()
    assert rows.valid == 1
    assert set(rows.points[:, 0, 0]) == {3000.0}
    assert set(rows.seq) == {4}


@pytest.mark.parametrize("rate", [None, 30.0])
def test_frames_that_are_not_later_change_nothing(rate: float | None) -> None:
    window = Window(4, rate)
    before = feed(window, [0.0, 50.0])
    window.push(pose(9.0), 50 * MS, 7)
    window.push(pose(9.0), 10 * MS, 8)
    np.testing.assert_array_equal(window.rows().points, before.points)


def test_other_joints_start_it_afresh() -> None:
    window = Window(4)
    feed(window, [0.0, 10.0])
    window.push(pose(1.0, joints=5), 20 * MS, 2)
    assert window.rows().points.shape == (4, 5, 3)
    assert window.rows().valid == 1


@pytest.mark.parametrize(("frames", "joints"), [(96, 33), (96, 17), (243, 17)])
def test_a_track_costs_under_100_kb(frames: int, joints: int) -> None:
    window = Window(frames, rate=50)
    for i in range(1000):
        window.push(pose(0.0, joints), i * 33 * MS, i)
    rows = window.rows()
    held = [array.base if array.base is not None else array for array in (rows.points, rows.pts, rows.seq)]
    assert sum(array.nbytes for array in held) < 100_000
