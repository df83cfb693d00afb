from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from streamkp import skeletons
from streamkp.errors import UsageError
from streamkp.motion.foot_contact import FEET, FootContact

STEP = 1_000_000_000 // 30
SEEN_FROM = np.array([0.2, 0.1, 4.0])  # the pelvis of somebody before the camera


def standing(skeleton: str) -> np.ndarray:
    """Somebody upright, relative to the pelvis; y is down."""
    layout = skeletons.get(skeleton)
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (len(layout), 3))
    for joint in FEET[skeleton]:
        side = 1 if joint.startswith("left") else -1
        points[layout.index(joint)] = (0.15 * side, 0.85, 0.1 if "index" in joint else 0)
    return points


def feet(points: np.ndarray, skeleton: str) -> np.ndarray:
    layout = skeletons.get(skeleton)
    return points[..., [layout.index(joint) for joint in FEET[skeleton]], :]


def run(points: np.ndarray, roots: np.ndarray, skeleton: str = "h36m17", **options: object) -> np.ndarray:
    pin = FootContact(skeleton, **options)
    return np.array([pin(p, r, i * STEP) for i, (p, r) in enumerate(zip(points, roots, strict=True))])


def walk(frames: int = 240, speed: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Somebody who walks to the right with 30 steps of a foot in a minute: each foot stands half of the time."""
    t = np.arange(frames) / 30
    points = np.tile(standing("h36m17"), (frames, 1, 1))
    roots = np.tile(SEEN_FROM, (frames, 1)) + np.stack([speed * t - 4, 0 * t, 0 * t], -1)
    for joint, phase in ((6, 0.0), (3, 0.5)):
        steps, share = np.divmod(t + phase, 1.0)  # stands in the first half of each second
        swing = np.clip(2 * share - 1, 0, 1)
        smooth = swing * swing * (3 - 2 * swing)
        points[:, joint, 0] = speed * (steps + smooth - phase) - speed * t + 0.25 * speed
        points[:, joint, 1] -= 0.15 * np.sin(np.pi * swing)
    return points, roots


@pytest.mark.parametrize("skeleton", FEET)
def test_feet_that_stand_do_not_slide(skeleton: str) -> None:
    rng = np.random.default_rng(1)
    roots = SEEN_FROM * (1 + rng.normal(0, 0.01, (90, 1)))  # nearer and farther
    points = np.tile(standing(skeleton), (90, 1, 1))
    before, after = (feet(points + r[:, None], skeleton)[15:] for r in (roots, run(points, roots, skeleton)))
    slide_before, slide_after = (np.linalg.norm(np.diff(x, axis=0), axis=-1).mean() for x in (before, after))
    assert slide_after < 0.03 * slide_before


def test_a_walk_stays_where_it_is_and_its_feet_stand() -> None:
    points, roots = walk()
    stood = np.linalg.norm(np.diff(points[:, [6, 3]] + roots[:, None], axis=0), axis=-1) < 1e-9
    assert 0.4 < stood.mean() < 0.6
    rng = np.random.default_rng(2)
    noisy = roots * (1 + rng.normal(0, 0.005, (len(roots), 1)))
    found = run(points, noisy)

    def slide(at: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(points[:, [6, 3]] + at[:, None], axis=0), axis=-1)[stood].mean())

    assert slide(found) < 0.5 * slide(noisy)  # it takes a moment to see that a foot stands
    assert np.linalg.norm(found - roots, axis=-1).max() < 0.1  # of 8 m
    assert run(points, roots) == pytest.approx(roots, abs=0.06)  # what is right is nearly left alone


def test_which_feet_stand() -> None:
    points, roots = walk()
    pin = FootContact("h36m17")
    found = []
    for i, (p, r) in enumerate(zip(points, roots, strict=True)):
        pin(p, r, i * STEP)
        found.append(pin.standing.copy())
    stood = np.linalg.norm(np.diff(points[:, [6, 3]] + roots[:, None], axis=0), axis=-1) < 1e-9
    assert (np.array(found)[1:] == stood).mean() > 0.7
    assert not np.array(found)[~np.r_[stood[:1], stood] & (points[:, [6, 3], 1] < 0.75)].any()


def test_a_raised_foot_does_not_stand_however_still() -> None:
    points = np.tile(standing("h36m17"), (30, 1, 1))
    points[:, 6, 1] -= 0.4
    pin = FootContact("h36m17")
    for i, p in enumerate(points):
        pin(p, SEEN_FROM, i * STEP)
    assert pin.standing.tolist() == [False, True]


def test_up_may_be_another_direction() -> None:
    turn = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])  # the camera lies on its side
    points, roots = walk(60)
    points[:, 6, 1] -= 0.3
    upright = run(points, roots)
    assert_allclose(run(points @ turn.T, roots @ turn.T, up=turn @ (0, -2, 0)), upright @ turn.T, atol=1e-9)


@given(st.integers(0, 1000), st.floats(0.5, 3))
def test_a_jump_is_not_held_down(seed: int, height: float) -> None:
    """A person who flies up keeps flying: both feet are too fast to stand."""
    t = np.arange(12) / 30
    points = np.tile(standing("h36m17"), (42, 1, 1)) + np.random.default_rng(seed).normal(0, 1e-4, (42, 17, 3))
    roots = np.tile(SEEN_FROM, (42, 1))
    roots[30:, 1] -= height * (1 - (1 - t / t[-1]) ** 2)
    found = run(points, roots)
    assert np.linalg.norm(found[-1] - roots[-1]) < 0.35 * height


def test_nothing_is_known_after_a_long_silence() -> None:
    points, pin = standing("h36m17"), FootContact("h36m17")
    for i in range(30):
        pin(points, SEEN_FROM, i * STEP)
    elsewhere = SEEN_FROM + 1
    assert_allclose(pin(points, elsewhere, 29 * STEP + 1_100_000_000), elsewhere)


def test_the_root_comes_back_to_where_the_lifter_has_it() -> None:
    """A bad estimate as the feet start to stand is not kept for ever."""
    points = np.tile(standing("h36m17"), (400, 1, 1))
    roots = np.tile(SEEN_FROM, (400, 1))
    roots[:40, 2] += np.linspace(0.3, 0, 40)
    off = np.abs(run(points, roots) - roots)[:, 2]
    assert off[40] > 0.1
    assert off[-1] < 0.01


def test_feet_of_another_skeleton_are_not_known() -> None:
    with pytest.raises(UsageError, match="coco17"):
        FootContact("coco17")
