"""Numbers and times of packets."""

from __future__ import annotations

import numpy as np
import pytest

from streamkp.graph.clock import Clock
from streamkp.graph.stage import StreamContext
from streamkp.sources.timeline import JUMP, Picture, Timeline
from tests.sources.videos import InstantClock

MS = 1_000_000
STEP = 40 * MS
IMAGE = np.zeros((3, 5, 3), np.uint8)


def timeline(live: bool = False, clock: Clock | None = None) -> Timeline:
    return Timeline(StreamContext("cam", "uri", "label", clock or Clock(), live), stale_after=0.5)


def placed(times: list[int | None]) -> list[tuple[int, int]]:
    """Epoch and pts in ms of frames that come with these times in ms, 40 ms apart where they have none."""
    line = timeline()
    packets = [line.packet(Picture(IMAGE, None if t is None else t * MS, STEP)) for t in times]
    assert [p.seq for p in packets] == list(range(len(times)))
    return [(p.epoch, round(p.pts / MS)) for p in packets]


@pytest.mark.parametrize(("times", "expected"), [
    ([100, 140, 300], [(0, 100), (0, 140), (0, 300)]),
    ([100, 140, 90, 130], [(0, 100), (0, 140), (1, 90), (1, 130)]),
    ([0, 40, 6000, 6040], [(0, 0), (0, 40), (1, 6000), (1, 6040)]),
    ([None, None, None], [(0, 0), (0, 40), (0, 80)]),
    ([None, 0, 40], [(0, 0), (0, 0), (0, 40)]),  # a camera's first frame has no time yet
    ([0, None, 75, 120], [(0, 0), (0, 40), (0, 75), (0, 120)]),
    ([0, 40, 40, 80], [(0, 0), (0, 40), (0, 40), (0, 80)]),
])  # fmt: skip
def test_epochs_and_times(times: list[int | None], expected: list[tuple[int, int]]) -> None:
    assert placed(times) == expected


def test_pts_grows_within_an_epoch_even_where_the_source_repeats_itself() -> None:
    line = timeline()
    times = [line.packet(Picture(IMAGE, pts, STEP)).pts for pts in (0, 0, 0, None, STEP // 2, JUMP // 2)]
    assert times == sorted(set(times))


def test_restart_opens_one_epoch_however_often_it_is_called() -> None:
    line = timeline()
    first = line.packet(Picture(IMAGE, 10, STEP))
    line.restart()
    line.restart()
    second = line.packet(Picture(IMAGE, 20, STEP))
    assert (first.epoch, second.epoch) == (0, 1)
    assert (first.seq, second.seq) == (0, 1)


def test_restart_before_the_first_frame_changes_nothing() -> None:
    line = timeline()
    line.restart()
    assert line.packet(Picture(IMAGE, 10, STEP)).epoch == 0


def test_only_live_frames_grow_stale() -> None:
    clock = InstantClock()
    live = timeline(live=True, clock=clock).packet(Picture(IMAGE, 0, STEP))
    assert live.expires_at == clock.monotonic() + 500 * MS
    assert (live.captured_at, live.width, live.height) == (clock.now(), 5, 3)
    assert live.image is IMAGE
    assert timeline().packet(Picture(IMAGE, 0, STEP)).expires_at is None
