from __future__ import annotations

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.packet import Keypoints2D, Packet, Person, PoseWindow, TrackState
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage, run_stage

BOX = np.array((0, 0, 100, 300), np.float32)


def packet(seq: int, value: float, *, state: TrackState = "tracked", width: int = 640, track: int = 1) -> Packet:
    points = np.full((33, 3), value, np.float32)
    points[:, 2] = 0.5
    person = Person(track, state, BOX, 0.9, Keypoints2D("blazepose33", points))
    return make_packet("cam", seq, width=width, persons=[person])


def window_of(packet: Packet) -> PoseWindow:
    window = packet.persons[0].window
    assert window is not None
    return window


def test_there_is_a_window_from_the_first_frame_on() -> None:
    got = run_stage(WindowStage, {"frames": 4}, [packet(i, float(i)) for i in range(6)])
    assert [list(window_of(p).points[:, 0, 0]) for p in got] == [
        [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5],
    ]  # fmt: skip
    assert [window_of(p).valid for p in got] == [1, 2, 3, 4, 4, 4]
    assert [int(window_of(p).seq[-1]) for p in got] == list(range(6))
    assert window_of(got[0]).points.shape == (4, 33, 3)
    assert (window_of(got[0]).width, window_of(got[0]).height) == (640, 48)


def test_converts_the_skeleton() -> None:
    rng = np.random.default_rng(0)
    one = packet(0, 0.0)
    keypoints = one.persons[0].keypoints_2d
    assert keypoints is not None
    keypoints.points[:] = rng.uniform(0, 1, (33, 3))
    (out,) = run_stage(WindowStage, {"frames": 2, "skeleton": "h36m17"}, [one])
    want = skeletons.convert(keypoints.points, "blazepose33", "h36m17")
    assert window_of(out).skeleton == "h36m17"
    np.testing.assert_allclose(window_of(out).points, [want, want])


def test_resamples_by_time() -> None:
    got = run_stage(WindowStage, {"frames": 5, "rate": 60}, [packet(i, float(i)) for i in range(3)])
    np.testing.assert_allclose(window_of(got[-1]).points[:, 0, 0], [0, 0.5, 1, 1.5, 2], atol=1e-4)


def test_rows_are_numbered_so_that_a_reader_knows_which_are_new() -> None:
    got = run_stage(WindowStage, {"frames": 4, "rate": 60}, [packet(i, float(i)) for i in range(4)])
    windows = [window_of(p) for p in got]
    assert [window.row for window in windows] == [0, 2, 4, 6]  # frames at 30 Hz: two rows each
    assert [window.rate for window in windows] == [60] * 4
    assert windows[1].rows_after(0) == 2
    assert windows[1].rows_after(2) == 0
    assert windows[2].rows_after(0) == 4
    assert windows[3].rows_after(0) is None  # rows 1 and 2 are no longer in the window


def test_a_window_that_starts_afresh_leaves_a_number_out() -> None:
    got = run_stage(
        WindowStage, {"frames": 8}, [packet(0, 1.0), packet(1, 2.0), packet(2, 3.0, width=320), packet(90, 4.0)]
    )
    windows = [window_of(p) for p in got]
    assert [window.row for window in windows] == [0, 1, 3, 5]
    assert [window.valid for window in windows] == [1, 2, 1, 1]
    assert windows[1].rows_after(0) == 1
    assert windows[2].rows_after(1) is None  # another image size
    assert windows[3].rows_after(3) is None  # a silence
    assert windows[2].rows_after(3) == 0
    assert windows[0].rows_after(5) is None  # an older window than the one that was read


def test_a_predicted_person_keeps_the_window_of_when_they_were_seen() -> None:
    got = run_stage(WindowStage, {"frames": 3}, [packet(0, 1.0), packet(1, 2.0, state="predicted"), packet(2, 3.0)])
    assert window_of(got[1]) is window_of(got[0])
    assert list(window_of(got[2]).points[:, 0, 0]) == [1, 1, 3]


def test_another_image_size_starts_it_afresh() -> None:
    got = run_stage(WindowStage, {"frames": 3}, [packet(0, 1.0), packet(1, 2.0), packet(2, 3.0, width=320)])
    assert window_of(got[2]).valid == 1
    assert window_of(got[2]).width == 320


def test_a_person_without_keypoints_has_no_window() -> None:
    bare = make_packet(persons=[Person(1, "new", BOX, 0.5)])
    (out,) = run_stage(WindowStage, {}, [bare])
    assert out.persons[0].window is None


def test_an_unknown_skeleton_is_an_error_before_the_graph_starts() -> None:
    with pytest.raises(UsageError, match=r"h36m1.*did you mean 'h36m17'"):
        open_stage(WindowStage, {"skeleton": "h36m1"})
