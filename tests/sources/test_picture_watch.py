"""When pictures stand still or are black, and when not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from streamkp.sources.picture_watch import PictureWatch

RANDOM = np.random.default_rng(0)


def picture(level: float, noise: float = 0.0) -> np.ndarray:
    grey = np.full((48, 64, 3), level) + RANDOM.normal(scale=noise or 1e-9, size=(48, 64, 3))
    return np.clip(grey, 0, 255).astype(np.uint8)


def flags(watch: PictureWatch, pictures: Iterable[np.ndarray], start: int = 0) -> list[str | None]:
    """One picture a second."""
    return [watch.see(each, start + second) for second, each in enumerate(pictures)]


def test_pictures_without_any_change_are_frozen_after_a_while() -> None:
    still = picture(120, noise=5)
    found = flags(PictureWatch(10, 5), [still.copy() for _ in range(15)])
    assert found == [None] * 10 + ["frozen"] * 5


def test_noise_is_life() -> None:
    assert set(flags(PictureWatch(10, 5), [picture(120, noise=1) for _ in range(30)])) == {None}


def test_one_key_frame_does_not_bring_a_picture_back_to_life() -> None:
    watch, still = PictureWatch(10, 5), picture(120, noise=5)
    flags(watch, [still] * 12)
    again = picture(120, noise=5)
    assert flags(watch, [again, again, again], start=12) == ["frozen"] * 3
    assert flags(watch, [picture(120, noise=5) for _ in range(2)], start=15) == ["frozen", None]


def test_black_pictures_are_dark_though_they_are_noisy() -> None:
    found = flags(PictureWatch(10, 5), [picture(12, noise=2) for _ in range(8)])
    assert found == [None] * 5 + ["dark"] * 3


def test_lights_at_night_are_something_to_see() -> None:
    night = [picture(6, noise=1) for _ in range(12)]
    for each in night:
        each[10:20, 30:40] = 200
    assert set(flags(PictureWatch(10, 5), night)) == {None}


def test_dark_needs_more_light_to_end_than_to_begin() -> None:
    watch = PictureWatch(10, 5)
    flags(watch, [picture(14, noise=2) for _ in range(7)])
    assert flags(watch, [picture(20, noise=2), picture(40, noise=2)], start=7) == ["dark", None]


def test_dark_is_told_before_frozen() -> None:
    assert flags(PictureWatch(3, 3), [picture(0)] * 6)[-1] == "dark"


def test_another_size_is_another_picture() -> None:
    watch = PictureWatch(2, None)
    flags(watch, [picture(120)] * 2)
    assert flags(watch, [picture(120)[:24]] * 2, start=2) == [None, None]


@pytest.mark.parametrize("level", [0, 120])
def test_neither_is_told_where_both_are_off(level: int) -> None:
    assert set(flags(PictureWatch(None, None), [picture(level)] * 30)) == {None}


def test_only_one_picture_a_second_is_looked_at() -> None:
    watch = PictureWatch(1, None)
    still = picture(120, noise=5)
    assert [watch.see(still, t) for t in (0.0, 0.2, 0.4)] == [None] * 3
    assert watch.see(still, 1.0) == "frozen"


def test_the_times_may_change_meanwhile() -> None:
    watch, still = PictureWatch(None, 60), picture(120, noise=5)
    flags(watch, [still] * 3)
    watch.frozen_after = 5
    assert flags(watch, [still] * 4, start=3) == [None, None, "frozen", "frozen"]
    watch.frozen_after = None
    assert flags(watch, [still], start=7) == [None]
