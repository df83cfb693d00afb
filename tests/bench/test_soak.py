"""What the soak test concludes from what it sees; the run itself is a system test."""

from __future__ import annotations

import random
from pathlib import Path

import av
import pytest

from streamkp.bench.soak import camera_clip
from streamkp.bench.soak_faults import CAMERA, WIDE, Deck
from streamkp.bench.soak_watch import Ledger, Meter, Sample, Tally
from streamkp.errors import SourceError
from tests.sources.videos import write_clip


def judged(*messages: tuple[int, int, bool]) -> Tally:
    ledger = Ledger()
    for message in messages:
        ledger.add(*message)
    return ledger.tally


def test_all_is_well() -> None:
    assert judged((0, 0, False), (1, 0, False), (2, 0, False)) == Tally(messages=3)


def test_a_gap_that_the_message_explains_is_a_drop() -> None:
    assert judged((0, 0, False), (4, 3, False)) == Tally(messages=2, dropped=3)


def test_a_gap_that_nothing_explains_is_a_loss() -> None:
    assert judged((0, 0, False), (4, 1, False)) == Tally(messages=2, dropped=1, lost=2)


def test_twice_by_the_program_or_by_the_broker() -> None:
    assert judged((0, 0, False), (0, 0, False), (0, 0, True)) == Tally(messages=1, duplicated=1, redelivered=1)


def test_out_of_order() -> None:
    assert judged((0, 0, False), (2, 1, False), (1, 0, False)) == Tally(messages=3, dropped=1, reordered=1)


def test_tallies_are_subtracted_and_added() -> None:
    total = Tally(messages=3, lost=1)
    total.add(Tally(messages=5, lost=4, dropped=2).minus(Tally(messages=1, lost=1)))
    assert total == Tally(messages=7, lost=4, dropped=2)


def test_memory_growth_is_told_after_the_start() -> None:
    meter = Meter(0)
    meter.samples = [Sample(float(t), 100 + (t >= 60) * 100 + (t >= 500) * 10, 5, 5) for t in range(600)]
    assert meter.growth(120) == pytest.approx(0.05)
    meter.samples = meter.samples[:160]
    assert meter.growth(120) is None


def test_every_fault_comes_as_often_as_the_others() -> None:
    deck = Deck(CAMERA, random.Random(5))
    dealt = [deck.deal().name for _ in range(2 * len(CAMERA))]
    assert sorted(dealt[: len(CAMERA)]) == sorted(dealt[len(CAMERA) :]) == sorted(f.name for f in CAMERA)
    again = Deck(CAMERA, random.Random(5))
    assert [again.deal().name for _ in dealt] == dealt
    assert len({fault.name for fault in (*CAMERA, *WIDE)}) == len(CAMERA) + len(WIDE)


def test_the_clip_of_the_cameras(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.mp4", size=(640, 360), frames=60)
    rate = camera_clip(source, tmp_path / "out.mp4", 10)
    with av.open(str(tmp_path / "out.mp4")) as out:
        frames = list(out.decode(video=0))
        assert (frames[0].width, frames[0].height) == (480, 270)
        assert len(frames) == 20
        assert [frame.time for frame in frames] == pytest.approx([n / 10 for n in range(20)])
        assert [n for n, frame in enumerate(frames) if frame.key_frame] == [0, 10]
    assert rate == pytest.approx((tmp_path / "out.mp4").stat().st_size / 2)


def test_a_source_that_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("to do: buy milk\n" * 100)
    with pytest.raises(SourceError, match=r"notes\.mp4 cannot be played"):
        camera_clip(tmp_path / "notes.mp4", tmp_path / "out.mp4", 5)
