from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from streamkp import skeletons
from streamkp.motion.bone_lengths import lengths, tree
from streamkp.motion.mirror import mirror
from streamkp.motion.one_euro import REFERENCE_SIZE, OneEuro
from streamkp.motion.steady import Settings, Steady

STEP = 1_000_000_000 // 30
NOTHING = Settings(one_euro=False, bones=False, contact=False)
ALL = Settings(contact=True)
POSE = np.random.default_rng(0).normal(0, 0.4, (17, 3))
POSE = (POSE + mirror(POSE, skeletons.get("h36m17"))) / 2  # as long left as right
ROOT = np.array([0.1, 0.2, 4.0])


def noisy(frames: int, seed: int = 0, scale: float = 0.01) -> np.ndarray:
    return POSE + np.random.default_rng(seed).normal(0, scale, (frames, 17, 3))


def test_with_nothing_asked_for_nothing_changes() -> None:
    points, root = Steady("h36m17", NOTHING)(POSE, ROOT, 0)
    assert_array_equal(points, POSE)
    assert root is ROOT


def test_one_after_the_other() -> None:
    smooth, steady = OneEuro(2.0, 1.0, 0.5), Steady("h36m17", Settings(True, False, False, 2.0, 1.0, 0.5))
    for i, points in enumerate(noisy(10)):
        expected = smooth(np.concatenate([points, ROOT[None]]), i * STEP, REFERENCE_SIZE)
        found, root = steady(points, ROOT, i * STEP)
        assert_allclose(found, expected[:-1])
        assert root is not None
        assert_allclose(root, expected[-1])


def test_trembles_less_and_bones_keep_their_length() -> None:
    steady, bones, raw = Steady("h36m17", ALL), tree("h36m17"), noisy(200)
    found = np.array([steady(points, ROOT, i * STEP)[0] for i, points in enumerate(raw)])
    acceleration = [np.linalg.norm(np.diff(x[50:], n=2, axis=0), axis=-1).mean() for x in (raw, found)]
    assert acceleration[1] < 0.5 * acceleration[0]
    spread = [lengths(x[50:], bones).std(0).mean() for x in (raw, found)]
    assert spread[1] < 0.25 * spread[0]
    assert np.abs(found[50:] - POSE).mean() < np.abs(raw[50:] - POSE).mean()


def test_a_root_that_is_not_known_stays_so() -> None:
    steady = Steady("h36m17", ALL)
    for i, points in enumerate(noisy(5)):
        found, root = steady(points, None, i * STEP)
        assert root is None
        assert np.isfinite(found).all()
    _, root = steady(POSE, ROOT, 5 * STEP)  # one that is found at last starts where it is
    assert root is not None
    assert_allclose(root, ROOT)


@given(st.integers(0, 1000), st.sampled_from([NOTHING, Settings(), ALL]))
def test_does_not_write_to_what_comes_in(seed: int, settings: Settings) -> None:
    steady, raw = Steady("h36m17", settings), noisy(4, seed)
    roots = np.tile(ROOT, (4, 1))
    for array in (raw, roots):
        array.flags.writeable = False
    for i in range(4):
        steady(raw[i], roots[i], i * STEP)


@pytest.mark.parametrize("fps", [15, 30, 60])
def test_lag_is_that_of_the_filter_at_any_rate(fps: int) -> None:
    """Without beta a One-Euro filter is a first-order low-pass: 63 % of a step after 1 / (2 pi cutoff) seconds."""
    cutoff = 0.5
    steady = Steady("h36m17", Settings(True, False, False, cutoff, 0.0))
    step = 1_000_000_000 // fps
    steady(POSE, None, 0)
    moved = POSE + 0.3
    rises = [float((steady(moved, None, (i + 1) * step)[0] - POSE)[0, 0]) / 0.3 for i in range(fps)]
    reached = np.interp(1 - np.exp(-1), [0, *rises], np.arange(fps + 1) / fps)
    assert reached == pytest.approx(1 / (2 * np.pi * cutoff), abs=1 / fps)
