"""Which run of the network each pose comes from, live: windows of a real window stage, for cameras of any rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from streamkp.errors import ModelError, UsageError
from streamkp.models.lift.base import LifterOptions
from streamkp.models.lift.hdformer.windows import StridedWindows, blended, lookahead_and_stride, side_by_side
from streamkp.models.lift.lifters import WindowLifter
from streamkp.motion.camera import Intrinsics
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage

FRAMES = 12
BOX = np.zeros(4, np.float32)


class Clerk:
    """Notes of every row in place of a pose: joint 1 holds its time in s, and that of the newest row of the window.

    `runs` are the tracks of each call. The keypoints of `seen` hold time and track.
    """

    frames = FRAMES
    rate = 30.0

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.broken = False

    def rows(
        self, windows: np.ndarray, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.broken:
            raise ModelError("out of order")
        self.runs.append(windows[:, -1, 2, 1].astype(int).tolist())
        times = windows[:, :, 1, 0]
        notes = np.zeros((len(windows), stop - start, 17, 3))
        notes[:, :, 1, 0] = times[:, start:stop]
        notes[:, :, 1, 1] = times[:, -1:]
        return notes, notes[:, :, 1]


def seen(times: Sequence[float], tracks: int = 1, predicted: Sequence[int] = ()) -> Iterator[Packet]:
    """A packet for each time in s, with everybody's window; in the packets of `predicted` nobody is seen."""
    stage = open_stage(WindowStage, {"frames": FRAMES, "rate": 30})
    assert isinstance(stage, WindowStage)
    for seq, time in enumerate(times):
        persons = []
        for track in range(tracks):
            points = np.full((17, 3), time, np.float32)
            points[2, 1] = track
            persons.append(Person(track, "tracked", BOX, 1.0, Keypoints2D("h36m17", points)))
        for person in persons if seq in predicted else ():
            person.state, person.keypoints_2d = "predicted", None
        yield stage.process(make_packet("cam", seq, pts=round(time * 1e9), persons=persons))


def lifter(clerk: Clerk, stride: int, lookahead: int = 0, memory: Any = None) -> WindowLifter:
    method = StridedWindows(clerk, lookahead=lookahead, stride=stride, memory={} if memory is None else memory)
    return WindowLifter("clerk", method, "h36m17", LifterOptions())


def lift(lifter: WindowLifter, packet: Packet) -> list[tuple[int, float, float]]:
    """`frame_seq`, the time of the row, and that of the newest row that was known, of each person."""
    poses = lifter.lift([(packet, person) for person in packet.persons])
    return [(pose.frame_seq, *pose.points[1, :2].tolist()) for pose in poses if pose is not None]


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("lookahead", [0, 2])
def test_at_the_rate_of_the_grid_every_frame_is_given_once_and_evenly(stride: int, lookahead: int) -> None:
    clerk = Clerk()
    network, delay = lifter(clerk, stride, lookahead), lookahead + stride - 1
    assert network.lookahead == delay
    for packet in seen(np.arange(40) / 30):
        ((frame, time, newest),) = lift(network, packet)
        assert frame == max(packet.seq - delay, 0)
        assert time == pytest.approx(frame / 30, abs=1e-4)
        if packet.seq >= delay:
            assert lookahead - 1e-3 <= (newest - time) * 30 <= delay + 1e-3
    assert len(clerk.runs) == pytest.approx(40 / stride, abs=1)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("rate", [15, 25, 50, 60])
def test_other_rates(rate: int, stride: int) -> None:
    random = np.random.default_rng(rate)
    times = np.arange(3 * rate) / rate
    times += random.uniform(-0.1, 0.1, len(times)) / rate  # cameras are not exact
    times = times[random.random(len(times)) > 0.1]  # and networks lose frames
    clerk, delay = Clerk(), stride - 1
    network = lifter(clerk, stride)
    for packet in seen(times):
        ((frame, time, newest),) = lift(network, packet)
        window = packet.persons[0].window
        assert window is not None
        assert frame == window.seq[-1 - delay]
        if window.valid > delay:
            assert time * 1e9 == pytest.approx(window.pts[-1 - delay], abs=1e6)
            assert time - 1e-6 <= newest <= window.pts[-1] / 1e9 + 1e-6  # nothing of later was known
    assert len(clerk.runs) <= 3 * 30 / stride + 2  # the grid decides, not the camera


def test_the_turns_of_many_people_are_spread() -> None:
    clerk = Clerk()
    network = lifter(clerk, 4)
    for packet in seen(np.arange(50) / 30, tracks=8):
        assert [frame for frame, *_ in lift(network, packet)] == [max(packet.seq - 3, 0)] * 8
    assert clerk.runs[0] == list(range(8))  # everybody has a pose from the first frame on
    assert {len(tracks) for tracks in clerk.runs[1:]} == {2}


def test_a_window_that_stands_still_costs_nothing() -> None:
    clerk = Clerk()
    network = lifter(clerk, 2)
    given = [lift(network, packet) for packet in seen(np.arange(30) / 30, predicted=range(10, 30))]
    assert len(clerk.runs) <= 7
    assert given[10:] == [given[9]] * 20


def test_after_a_long_silence_it_begins_anew() -> None:
    times = np.concatenate([np.arange(20), 200 + np.arange(5)]) / 30
    network = lifter(Clerk(), 3)
    given = [lift(network, packet)[0] for packet in seen(times)]
    assert [frame for frame, *_ in given[20:]] == [20, 20, 20, 21, 22]
    assert given[20][1:] == pytest.approx((200 / 30, 200 / 30))


def test_an_error_leaves_nothing_half_done() -> None:
    clerk, memory = Clerk(), {}
    network = lifter(clerk, 2, memory=memory)
    for packet in seen(np.arange(20) / 30):
        clerk.broken = packet.seq == 11  # the turns are 0, 1, 3, 5, ...
        if clerk.broken:
            with pytest.raises(ModelError):
                lift(network, packet)
            continue
        ((frame, time, _),) = lift(network, packet)
        assert frame == max(packet.seq - 1, 0)
        assert time == pytest.approx(frame / 30, abs=1e-4)
    assert list(memory) == [("cam", 0)]


def test_without_memory_every_window_is_read() -> None:
    clerk = Clerk()
    live = StridedWindows(clerk, lookahead=3, stride=1, memory=None)
    network = WindowLifter("clerk", live, "h36m17", LifterOptions())
    for packet in seen(np.arange(20) / 60):
        assert lift(network, packet)[0][0] == packet.persons[0].window.seq[-4]
    assert len(clerk.runs) == 20


def settled(frames: int, memory: Any = None, cuda: bool = False, **options: Any) -> tuple[int, int]:
    return lookahead_and_stride("x", frames, LifterOptions(**options), memory=memory is not None, cuda=cuda)


def test_what_can_be_asked_for() -> None:
    assert settled(96, stride=4, memory={}, lookahead=92) == (92, 4)
    assert settled(96, stride=4, lookahead=95) == (95, 1)  # without memory there is nothing to take from
    assert settled(96, lookahead=None) == (48, 1)
    assert settled(96, memory={})[1] == 2
    assert settled(96, memory={}, cuda=True)[1] == 1
    assert settled(16, lookahead=None, memory={}) == (8, 1)
    with pytest.raises(UsageError, match="at most 92"):
        settled(96, stride=4, memory={}, lookahead=93)
    with pytest.raises(UsageError, match="leave incremental out"):
        settled(96, incremental=True)


class Frames:
    """Notes of every row in place of a pose: its frame, the first and the last frame of the window."""

    frames = 8
    rate = 30.0

    def rows(
        self, windows: np.ndarray, cameras: Sequence[Intrinsics], start: int, stop: int
    ) -> tuple[np.ndarray, None]:
        frames = windows[:, :, 0, 0]
        ends = np.broadcast_to(frames[:, [0, -1]][:, None], (len(windows), stop - start, 2))
        notes = np.concatenate([frames[:, start:stop, None], ends], -1)
        return np.repeat(notes[:, :, None], 17, axis=2), None


CAMERA = Intrinsics((500.0, 500.0), (320.0, 240.0))


def sequence(frames: int) -> np.ndarray:
    return np.broadcast_to(np.arange(frames, dtype=float)[:, None, None], (frames, 17, 3))


@pytest.mark.parametrize("frames", [1, 5, 8, 9, 20, 21, 40])
@pytest.mark.parametrize("step", [3, 4, 8])
def test_every_frame_from_the_windows_around_it(frames: int, step: int) -> None:
    frame, first, last = blended(Frames(), sequence(frames), CAMERA, step)[:, 0].T
    np.testing.assert_allclose(frame, np.arange(frames))
    assert (first <= frame + 1e-9).all()
    assert (last >= frame - 1e-9).all()
    assert last.max() == pytest.approx(frames - 1)
    if frames > 3 * Frames.frames and step < Frames.frames:  # no jump where one window ends and the next begins
        assert np.abs(np.diff(first[Frames.frames : -Frames.frames])).max() < step


def test_windows_side_by_side() -> None:
    notes = side_by_side(Frames(), sequence(20), CAMERA)[:, 0]
    np.testing.assert_array_equal(notes[:, 0], np.arange(20))
    np.testing.assert_array_equal(notes[:, 1], [0] * 8 + [8] * 8 + [12] * 4)
