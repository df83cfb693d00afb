"""Which window each pose comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streamkp.evaluation.lift.lifter_windows import blend, hopped, live, spread
from streamkp.models.lift.window_lifters import Clip
from streamkp.motion.camera import Intrinsics
from streamkp.motion.sliding_window import plan_tiles

SIZE, LENS = (640, 480), Intrinsics((500.0, 500.0), (320.0, 240.0))
FRAMES = 8


class Clerk:
    """Notes of every row in place of a pose: its frame, the first and the last frame of the window."""

    frames = FRAMES
    rate = 30.0

    def rows(self, clips: Sequence[Clip], start: int, stop: int) -> tuple[np.ndarray, None]:
        frames = np.stack([clip.points[:, 0, 0] for clip in clips])
        np.testing.assert_array_equal(frames, [clip.scores[:, 3] for clip in clips])
        ends = np.broadcast_to(frames[:, [0, -1]][:, None], (len(clips), stop - start, 2))
        notes = np.concatenate([frames[:, start:stop, None], ends], -1)
        return np.repeat(notes[:, :, None], 17, axis=2), None


def sequence(frames: int) -> np.ndarray:
    return np.broadcast_to(np.arange(frames, dtype=float)[:, None, None], (frames, 17, 3))


@pytest.mark.parametrize("frames", [1, 5, 8, 9, 20, 21, 40])
@pytest.mark.parametrize("step", [3, 4, 8])
def test_every_frame_from_the_windows_around_it(frames: int, step: int) -> None:
    frame, first, last = blend(Clerk(), sequence(frames), SIZE, LENS, step)[:, 0].T
    np.testing.assert_allclose(frame, np.arange(frames))
    assert (first <= frame + 1e-9).all()
    assert (last >= frame - 1e-9).all()
    assert last.max() == pytest.approx(frames - 1)
    if frames > 3 * FRAMES and step < FRAMES:  # no jump where one window ends and the next begins
        assert np.abs(np.diff(first[FRAMES:-FRAMES])).max() < step


def test_other_plans() -> None:
    notes = spread(Clerk(), sequence(20), SIZE, LENS, plan_tiles(20, FRAMES, FRAMES))[:, 0]
    np.testing.assert_array_equal(notes[:, 0], np.arange(20))
    np.testing.assert_array_equal(notes[:, 1], [0] * 8 + [8] * 8 + [12] * 4)


@pytest.mark.parametrize("frames", [1, 5, 37])
def test_nothing_of_later_is_seen(frames: int) -> None:
    poses = live(Clerk(), sequence(frames), SIZE, LENS, (0, 2, 7))
    for lookahead, notes in poses.items():
        known = max(frames - lookahead, 0)
        assert np.isnan(notes[known:]).all()
        frame, first, last = notes[:known, 0].T
        np.testing.assert_array_equal(frame, np.arange(known))
        np.testing.assert_array_equal(last, frame + lookahead)
        np.testing.assert_array_equal(first, np.maximum(last - FRAMES + 1, 0))


def test_with_a_hop_the_network_has_run_in_every_so_many_frames_only() -> None:
    poses = live(Clerk(), sequence(40), SIZE, LENS, range(4))
    for hop in (1, 2, 4):
        notes = hopped(poses, hop)[:36, 0]
        np.testing.assert_array_equal(notes[:, 0], np.arange(36))
        assert (notes[:, 2] % hop == 0).all()
        assert ((notes[:, 2] - notes[:, 0] >= 0) & (notes[:, 2] - notes[:, 0] < hop)).all()
