"""The direction of up and the floor, from people who stand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from streamkp.motion.ground import Floor, Gravity, level_axes, tilted
from tests.sinks.walker import STANDING, walking

SHARED = Path(os.environ.get("STREAMKP_SHARED", Path(__file__).resolve().parents[3] / "shared" / "assets"))


def off(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between two directions."""
    return float(np.degrees(np.arccos(np.clip(a @ b / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))))


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (20, 0), (-15, 5), (30, -10)])
def test_the_axes_are_level_and_right_handed(pitch: float, roll: float) -> None:
    up = tilted(pitch, roll)
    axes = level_axes(up)
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    assert axes @ up == pytest.approx([0, 1, 0])
    assert (axes @ [0, 0, 1])[0] == pytest.approx(0, abs=1e-12), "ahead of the camera is straight ahead"


def test_a_level_camera_turns_y_up_and_nothing_else() -> None:
    assert level_axes(tilted(0)) == pytest.approx(np.diag([1.0, -1.0, -1.0]))


def test_a_camera_that_looks_down_sees_up_lean_towards_it() -> None:
    assert tilted(30) == pytest.approx([0, -np.cos(np.radians(30)), -0.5])
    assert level_axes(tilted(90)) @ [0, -1, 0] == pytest.approx([0, 0, -1]), "the top of the picture is ahead"


@pytest.mark.parametrize("pitch", [-25, 0, 30])
def test_people_who_walk_tell_where_up_is(pitch: float) -> None:
    up = tilted(pitch)
    rows = level_axes(up)
    gravity = Gravity()
    rng = np.random.default_rng(1)
    for i in range(300):
        # From level axes of a camera (y down) into those of the tilted one.
        points = (walking(i) * [1, -1, -1] + rng.normal(0, 0.02, (17, 3))) @ rows
        gravity.see(points, None, 1 / 30)
    assert off(gravity.up, up) < 6


def test_who_lies_or_sits_says_nothing() -> None:
    gravity = Gravity()
    lying = STANDING @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    sitting = STANDING.copy()
    sitting[[2, 5]] = [[-0.14, 0.05, -0.4], [0.14, 0.05, -0.4]]
    sitting[[3, 6]] = [[-0.14, 0.45, -0.4], [0.14, 0.45, -0.4]]
    for points in (lying, sitting):
        gravity.see(points, None, 1.0)
    assert gravity.up == pytest.approx([0, -1, 0])


def test_a_floor_follows_the_lowest_foot_and_comes_back() -> None:
    floor = Floor()
    assert floor.see(-1.0, 0) == -1.0
    assert floor.see(-0.9, 0.1) == pytest.approx(-0.999)
    assert floor.see(-1.3, 0.1) == -1.3
    for _ in range(600):
        found = floor.see(-1.0, 0.1)
    assert found == pytest.approx(-1.0, abs=0.01)
