"""Which run of the network each pose comes from, live: windows of a real window stage, for cameras of any rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from streamkp.errors import ModelError, UsageError
from streamkp.models.lift.lifter_choices import Choices
from streamkp.models.lift.whole_windows import WholeWindows, plan
from streamkp.models.lift.window_lifters import Clip, WindowLifter
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage

FRAMES = 12
BOX = np.zeros(4, np.float32)


class Clerk:
    """Notes of every row in place of a pose: joint 1 holds its time in s, and that of the newest row of the window.

    `runs` are the tracks of each call. The keypoints of `seen` tell the time.
    """

    frames = FRAMES
    rate = 30.0

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
        self.broken = False

    def rows(self, clips: Sequence[Clip], start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        if self.broken:
            raise ModelError("out of order")
        self.runs.append([clip.track[1] for clip in clips])
        times = np.stack([clip.points[:, 1, 0] for clip in clips])
        notes = np.zeros((len(clips), stop - start, 17, 3))
        notes[:, :, 1, 0] = times[:, start:stop]
        notes[:, :, 1, 1] = times[:, -1:]
        return notes, notes[:, :, 1]


def seen(times: Sequence[float], tracks: int = 1, predicted: Sequence[int] = ()) -> Iterator[Packet]:
    """A packet for each time in s, with everybody's window; in the packets of `predicted` nobody is seen."""
    stage = open_stage(WindowStage, {"frames": FRAMES, "rate": 30})
    assert isinstance(stage, WindowStage)
    for seq, time in enumerate(times):
        points = np.full((17, 3), time, np.float32)
        persons = [Person(track, "tracked", BOX, 1.0, Keypoints2D("h36m17", points)) for track in range(tracks)]
        for person in persons if seq in predicted else ():
            person.state, person.keypoints_2d = "predicted", None
        yield stage.process(make_packet("cam", seq, pts=round(time * 1e9), persons=persons))


def lifter(clerk: Clerk, hop: int, lookahead: int = 0, memory: Any = None) -> WindowLifter:
    method = WholeWindows(clerk, lookahead=lookahead, hop=hop, memory={} if memory is None else memory)
    return WindowLifter("clerk", method, "h36m17", {})


def lift(lifter: WindowLifter, packet: Packet) -> list[tuple[int, float, float]]:
    """`frame_seq`, the time of the row, and that of the newest row that was known, of each person."""
    poses = lifter.lift([(packet, person) for person in packet.persons])
    return [(pose.frame_seq, *pose.points[1, :2].tolist()) for pose in poses if pose is not None]


@pytest.mark.parametrize("hop", [1, 2, 3, 4])
@pytest.mark.parametrize("lookahead", [0, 2])
def test_at_the_rate_of_the_grid_every_frame_is_given_once_and_evenly(hop: int, lookahead: int) -> None:
    clerk = Clerk()
    network, delay = lifter(clerk, hop, lookahead), lookahead + hop - 1
    assert network.lookahead == delay
    for packet in seen(np.arange(40) / 30):
        ((frame, time, newest),) = lift(network, packet)
        assert frame == max(packet.seq - delay, 0)
        assert time == pytest.approx(frame / 30, abs=1e-4)
        if packet.seq >= delay:
            assert lookahead - 1e-3 <= (newest - time) * 30 <= delay + 1e-3
    assert len(clerk.runs) == pytest.approx(40 / hop, abs=1)


@pytest.mark.parametrize("hop", [1, 2, 4])
@pytest.mark.parametrize("rate", [15, 25, 50, 60])
def test_other_rates(rate: int, hop: int) -> None:
    random = np.random.default_rng(rate)
    times = np.arange(3 * rate) / rate
    times += random.uniform(-0.1, 0.1, len(times)) / rate  # cameras are not exact
    times = times[random.random(len(times)) > 0.1]  # and networks lose frames
    clerk, delay = Clerk(), hop - 1
    network = lifter(clerk, hop)
    for packet in seen(times):
        ((frame, time, newest),) = lift(network, packet)
        window = packet.persons[0].window
        assert window is not None
        assert frame == window.seq[-1 - delay]
        if window.valid > delay:
            assert time * 1e9 == pytest.approx(window.pts[-1 - delay], abs=1e6)
            assert time - 1e-6 <= newest <= window.pts[-1] / 1e9 + 1e-6  # nothing of later was known
    assert len(clerk.runs) <= 3 * 30 / hop + 2  # the grid decides, not the camera


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
    network = WindowLifter("clerk", WholeWindows(clerk, lookahead=3, hop=1, memory=None), "h36m17", {})
    for packet in seen(np.arange(20) / 60):
        assert lift(network, packet)[0][0] == packet.persons[0].window.seq[-4]
    assert len(clerk.runs) == 20


def test_what_can_be_asked_for() -> None:
    assert plan("x", 96, Choices(hop=4, memory={}, lookahead=92)) == (92, 4)
    assert plan("x", 96, Choices(hop=4, lookahead=95)) == (95, 1)  # without memory there is nothing to take from
    assert plan("x", 96, Choices(lookahead=None)) == (48, 1)
    assert plan("x", 96, Choices(memory={}))[1] == 2
    assert plan("x", 96, Choices(memory={}, cuda=True))[1] == 1
    assert plan("x", 16, Choices(lookahead=None, memory={})) == (8, 1)
    with pytest.raises(UsageError, match="at most 92"):
        plan("x", 96, Choices(hop=4, memory={}, lookahead=93))
    with pytest.raises(UsageError, match="leave incremental out"):
        plan("x", 96, Choices(incremental=True))
