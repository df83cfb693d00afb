"""Which window each pose comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streamkp.evaluation.lift.live import strided, window_poses
from streamkp.motion.camera import Intrinsics

LENS = Intrinsics((500.0, 500.0), (320.0, 240.0))
FRAMES = 8


class Clerk:
    """Notes of every row in place of a pose: its frame, the first and the last frame of the window."""

    frames = FRAMES
    rate = 30.0

    def rows(
        self, windows: np.ndarray, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[np.ndarray, None]:
        frames = windows[:, :, 0, 0]
        np.testing.assert_array_equal(frames, windows[:, :, 3, 2])
        ends = np.broadcast_to(frames[:, [0, -1]][:, None], (len(windows), stop - start, 2))
        notes = np.concatenate([frames[:, start:stop, None], ends], -1)
        return np.repeat(notes[:, :, None], 17, axis=2), None


def sequence(frames: int) -> np.ndarray:
    return np.broadcast_to(np.arange(frames, dtype=float)[:, None, None], (frames, 17, 3))


@pytest.mark.parametrize("frames", [1, 5, 37])
def test_nothing_of_later_is_seen(frames: int) -> None:
    poses = window_poses(Clerk(), sequence(frames), LENS, (0, 2, 7))
    for lookahead, notes in poses.items():
        known = max(frames - lookahead, 0)
        assert np.isnan(notes[known:]).all()
        frame, first, last = notes[:known, 0].T
        np.testing.assert_array_equal(frame, np.arange(known))
        np.testing.assert_array_equal(last, frame + lookahead)
        np.testing.assert_array_equal(first, np.maximum(last - FRAMES + 1, 0))


def test_with_a_stride_the_network_has_run_in_every_so_many_frames_only() -> None:
    poses = window_poses(Clerk(), sequence(40), LENS, range(4))
    for stride in (1, 2, 4):
        notes = strided(poses, stride)[:36, 0]
        np.testing.assert_array_equal(notes[:, 0], np.arange(36))
        assert (notes[:, 2] % stride == 0).all()
        assert ((notes[:, 2] - notes[:, 0] >= 0) & (notes[:, 2] - notes[:, 0] < stride)).all()
