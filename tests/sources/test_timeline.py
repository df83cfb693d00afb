"""Numbers and times of packets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from streamkp.errors import SourceError
from streamkp.graph.clock import Clock
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.timeline import BestEffort, Picture, Timeline
from tests.sources.videos import InstantClock

MS = 1_000_000
STEP = 40 * MS
IMAGE = np.zeros((3, 5, 3), np.uint8)


def timeline(live: bool = False, clock: Clock | None = None) -> Timeline:
    return Timeline(StreamContext("cam", "uri", "label", clock or Clock(), live), stale_after=0.5)


def placed(times: Sequence[int | None]) -> list[tuple[int, int]]:
    """Epoch and pts in ms of a file's frames with these times in ms, 40 ms apart where they have none."""
    pictures = (Picture(IMAGE, None if t is None else t * MS, STEP) for t in times)
    packets = list(timeline().packets(pictures))
    assert [p.seq for p in packets] == list(range(len(times)))
    assert all(a.pts < b.pts for a, b in pairwise(packets) if a.epoch == b.epoch)
    return [(p.epoch, round(p.pts / MS)) for p in packets]


@pytest.mark.parametrize(("times", "expected"), [
    ([100, 140, 300], [100, 140, 300]),
    ([0, 40, 6000, 6040], [0, 40, 6000, 6040]),  # a gap
    ([0, 10_000, 20_000, 30_000], [0, 10_000, 20_000, 30_000]),
    ([None, None, None], [0, 40, 80]),
    ([None, 0, 40], [-40, 0, 40]),
    ([0, None, 75, 120], [0, 40, 75, 120]),
    ([0, None, 30, 70], [0, 15, 30, 70]),
    ([0, 40, 40, 80], [0, 40, 60, 80]),
    ([0, 0, 80, 80, 160, 160], [0, 40, 80, 120, 160, 200]),
    ([7, 7, 7, 7], [7, 47, 87, 127]),  # a clock that stands
    ([0, 40, 39, 120], [0, 40, 80, 120]),  # a step back
    ([0, 40, -900_000, 120, 160], [0, 40, 80, 120, 160]),  # single outliers
    ([0, 40, 900_000, 120, 160], [0, 40, 80, 120, 160]),
    ([0, 40, 900_000, 900_040, 160, 200], [0, 40, 80, 120, 160, 200]),
    ([0, 40, 120, 80, 160], [0, 40, 120, 140, 160]),  # two in the wrong order
    ([100, 140, 60, 100, 140, 180], [100, 140, 180, 220, 260, 300]),  # a little back, and on from there
])  # fmt: skip
def test_times_of_a_file(times: list[int | None], expected: list[int]) -> None:
    assert placed(times) == [(0, time) for time in expected]


def test_a_file_whose_clock_starts_again() -> None:
    """Two recordings in one."""
    again = placed([50_000, 50_040, 50_080, 20, 60, 100])
    assert again == [(0, 50_000), (0, 50_040), (0, 50_080), (1, 20), (1, 60), (1, 100)]


def test_what_was_read_before_an_error_comes_before_it() -> None:
    def pictures() -> Iterator[Picture]:
        yield from (Picture(IMAGE, n * STEP, STEP) for n in range(2))
        raise SourceError("cut")

    packets = timeline().packets(pictures())
    assert [next(packets).seq, next(packets).seq] == [0, 1]
    with pytest.raises(SourceError, match="cut"):
        next(packets)


class Camera:
    """A live stream; each frame comes `after` ms of the clock, with a stamp in ms."""

    def __init__(self) -> None:
        self.clock = InstantClock()
        self.line = timeline(live=True, clock=self.clock)
        self.packets: list[Packet] = []

    def send(self, stamp: float | None, after: float = 40) -> Packet:
        self.clock.time += round(after * MS)
        packet = self.line.packet(Picture(IMAGE, None if stamp is None else round(stamp * MS), STEP))
        self.packets.append(packet)
        return packet

    @property
    def epochs(self) -> int:
        return self.packets[-1].epoch + 1

    @property
    def times(self) -> list[float]:
        return [p.pts / MS for p in self.packets]

    @property
    def off(self) -> float:
        """Largest difference in ms between pts and the true time, a frame every 40 ms."""
        return max(abs(time - 40 * n) for n, time in enumerate(self.times))


def wrong_every_fifth(back: float) -> Callable[[int], float]:
    return lambda n: 40 * n if n % 5 != 4 else 40 * (n - 1) - back


@pytest.mark.parametrize(("stamp", "off"), [
    (lambda n: 40 * n, 0.0),
    (wrong_every_fifth(1 / 90), 1.0),
    (wrong_every_fifth(8), 1.0),
    (wrong_every_fifth(9_800_000), 1.0),
    (wrong_every_fifth(-9_800_000), 1.0),
    (lambda n: 0, 1.0),  # stands still
    (lambda n: None if n == 0 else 40 * n, 1.0),
    (lambda n: None if n == 0 else 40 * n + 77_000, 1.0),
])  # fmt: skip
def test_stamps_of_cheap_cameras(stamp: Callable[[int], float | None], off: float) -> None:
    camera = Camera()
    for n in range(250):
        camera.send(stamp(n))
    assert camera.epochs == 1
    assert camera.times == sorted(set(camera.times))
    assert camera.off <= off


@pytest.mark.parametrize("speed", [0.0, 0.5, 0.75, 1.3, 2.0, 40.0])
def test_stamps_that_do_not_keep_pace_are_replaced(speed: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    camera = Camera()
    for n in range(500):
        camera.send(40 * n * speed)
    assert camera.epochs == 1
    assert np.diff(camera.times[250:]) == pytest.approx(40)  # as they arrived
    assert [m for m in caplog.messages if "times of arrival are used" in m] == caplog.messages
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("burst", [25, 200])
def test_a_burst_at_the_start_is_no_disagreement(burst: int, caplog: pytest.LogCaptureFixture) -> None:
    """RTSP servers begin with what they have kept, HLS with segments."""
    camera = Camera()
    for n in range(burst + 500):
        camera.send(40 * n, after=1 if n < burst else 40)
    assert camera.off == 0
    assert not caplog.messages


def test_a_network_that_stalls_and_catches_up(caplog: pytest.LogCaptureFixture) -> None:
    camera, n = Camera(), 0
    for _ in range(5):
        for after in [40] * 60 + [3000] + [1] * 74:
            camera.send(40 * n, after)
            n += 1
    assert camera.off == 0
    assert not caplog.messages


def test_a_picture_that_stands_is_a_gap() -> None:
    camera = Camera()
    for n in range(50):
        camera.send(40 * n)
    assert camera.send(40 * 50 + 20_000, after=20_000).epoch == 0
    assert camera.times[-1] == 22_000


def test_a_clock_that_is_set_opens_one_epoch_once_it_is_certain() -> None:
    camera = Camera()
    for n in range(50):
        camera.send(40 * n)
    for n in range(50, 100):
        camera.send(40 * n - 500_000)
    assert [p.epoch for p in camera.packets] == [0] * 52 + [1] * 48
    assert camera.times[52] == 40 * 52 - 500_000


def sized(*sizes: tuple[int, int]) -> list[tuple[int, tuple[int, int], bool]]:
    """Epoch, size, and whether the image has it, of pictures of these sizes (width, height)."""
    pictures = (Picture(np.zeros((h, w, 3), np.uint8), n * STEP, STEP) for n, (w, h) in enumerate(sizes))
    return [
        (p.epoch, (p.width, p.height), p.image is not None and p.image.shape == (p.height, p.width, 3))
        for p in timeline().packets(pictures)
    ]


def test_a_smaller_picture_of_the_same_shape_is_enlarged() -> None:
    assert sized((64, 48), (32, 24), (43, 32), (64, 48)) == [(0, (64, 48), True)] * 4


def test_a_larger_picture_or_another_shape_opens_an_epoch() -> None:
    large, tall = (1, (64, 48), True), (2, (48, 64), True)
    assert sized((32, 24), (64, 48), (64, 48), (48, 64)) == [(0, (32, 24), True), large, large, tall]


class TestBestEffort:
    def test_decoding_times_in_the_place_of_presentation_times(self) -> None:
        """AVI: packets 1.. in decoding order, frames in display order."""
        times = BestEffort()
        for n in range(4):
            times.packet(n + 1, n)
        frames = [(1, 2), (3, 3), (2, 4), (6, None), (5, None)]
        assert [times.time(pts, dts, True) for pts, dts in frames] == [2, 3, 4, 5, 6]

    def test_frames_that_are_reordered_rightly(self) -> None:
        times = BestEffort()
        for pts, dts in [(0, -2), (2, -1), (1, 0), (4, 1)]:
            times.packet(pts, dts)
        assert [times.time(n, n - 3, True) for n in range(5)] == [0, 1, 2, 3, 4]

    def test_the_better_of_two(self) -> None:
        times = BestEffort()
        for n in range(4):
            times.packet(n, None)
        assert [times.time(pts, n, False) for n, pts in enumerate([0, 1, 0, 3, 2, 5])] == [0, 1, 2, 3, 4, 5]

    def test_nothing_to_go_by(self) -> None:
        assert BestEffort().time(None, None, True) is None


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
