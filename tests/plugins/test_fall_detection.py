"""`fall-detection`: falls, lying down with care, and exercises on the floor."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamkp_plugins.fall_detection import FallDetection

from streamkp.plugin import recording
from streamkp.testing import open_stage, run_stage
from tests.plugins.figure import packets, person, squatter

SHARED = Path(os.environ.get("STREAMKP_SHARED", Path(__file__).resolve().parents[3] / "shared" / "assets"))


def tipped(degrees: float) -> np.ndarray[Any, Any]:
    """Somebody who tips over their feet."""
    points = squatter(0.0)
    angle, feet = math.radians(degrees), points[[15, 16], :2].mean(axis=0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    points[:, :2] = (points[:, :2] - feet) @ turn.T + feet
    return points.astype(np.float32)


def events(angles: list[float], **options: Any) -> list[tuple[str, float]]:
    out = run_stage(FallDetection, options, packets([[person(tipped(a))] for a in angles]))
    return [(event["type"], round(packet.pts / 1e9, 1)) for packet in out for event in packet.events]


def way(seconds: float) -> list[float]:
    n = round(seconds * 30)
    return [90 * i / n for i in range(n + 1)]


def test_a_fall_is_told_once_and_lying_after_a_while() -> None:
    got = events([0.0] * 30 + way(0.7) + [90.0] * 300)
    assert [name for name, _ in got] == ["fall", "down"]
    assert 1.9 <= got[0][1] <= 2.4
    assert 6.3 <= got[1][1] <= 6.8


def test_what_was_told_is_told_again_at_the_end() -> None:
    stage = open_stage(FallDetection, {})
    assert isinstance(stage, FallDetection)
    for packet in packets([[person(tipped(a))] for a in [0.0] * 30 + way(0.7) + [90.0] * 300]):
        stage.process(packet)
    assert stage.summary() == f"{packet.stream}: fell 1, was down 1 times"


def test_who_lies_down_with_care_has_not_fallen() -> None:
    assert [name for name, _ in events([0.0] * 30 + way(4.0) + [90.0] * 300)] == ["down"]


def test_who_gets_up_is_up_and_may_fall_again() -> None:
    once = [0.0] * 60 + way(0.7) + [90.0] * 40 + way(1.0)[::-1] + [0.0] * 60
    assert [name for name, _ in events(once * 2)] == ["fall", "up"] * 2


def test_a_stumble_is_no_fall() -> None:
    assert events([0.0] * 30 + way(0.5) + way(0.5)[::-1] + [0.0] * 60) == []


def test_trembling_at_the_threshold_is_told_once() -> None:
    angles = [0.0] * 30 + way(0.7)[:-8] + [57.0 + 6 * (i % 2) for i in range(120)]
    assert [name for name, _ in events(angles, down_after=3.0)] == ["fall", "down"]


@pytest.mark.skipif(not (SHARED / "reps").is_dir(), reason="the recordings are not here")
@pytest.mark.parametrize("name", ["joelo_situp", "wt_push-up_26", "joelo_squat1", "mrpose_jacks", "wt_pull-up_14"])
def test_nobody_falls_while_exercising(name: str) -> None:
    out = run_stage(FallDetection, {}, recording(SHARED / "reps" / f"{name}.jsonl.gz"))
    assert [event for packet in out for event in packet.events if event["type"] == "fall"] == []
