"""Values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamkp.evaluation.keypoints_2d import metrics as metrics

# Two poses of three joints; the last joint of the second is not annotated.
TARGET = np.array([[[0, 0], [10, 0], [0, 10]], [[5, 5], [15, 5], [99, 99]]], float)
OFFSETS = np.array([[[3, 4], [0, 0], [0, 10]], [[0, 1], [0, 15], [0, 0]]], float)  # 5, 0, 10 and 1, 15
VISIBLE = np.array([[True, True, True], [True, True, False]])


def test_oks() -> None:
    area, sigmas = np.array([100.0, 400.0]), np.array([0.1, 0.2, 0.05])
    got = metrics.oks(TARGET + OFFSETS, TARGET, VISIBLE, area, sigmas)
    # exp(-d^2 / (2 area (2 sigma)^2)) over the annotated joints
    first = (math.exp(-25 / (200 * 0.04)) + 1 + math.exp(-100 / (200 * 0.01))) / 3
    second = (math.exp(-1 / (800 * 0.04)) + math.exp(-225 / (800 * 0.16))) / 2
    assert got == pytest.approx([first, second])
    assert metrics.oks(TARGET, TARGET, np.zeros_like(VISIBLE), area, sigmas).tolist() == [0, 0]


def test_epe() -> None:
    assert metrics.epe(TARGET + OFFSETS, TARGET, VISIBLE) == pytest.approx((5 + 0 + 10 + 1 + 15) / 5)


def test_pck_is_the_mean_over_joints() -> None:
    # below 0.2 x 30 = 6 pixels: joint 0 in both poses, joint 1 in one of two, joint 2 in none of one
    assert metrics.pck(TARGET + OFFSETS, TARGET, VISIBLE, 30) == pytest.approx((1 + 0.5 + 0) / 3)
    # boxes of 30 and 100 pixels: 15 is now near enough in the second
    got = metrics.pck(TARGET + OFFSETS, TARGET, VISIBLE, np.array([30, 100]))
    assert got == pytest.approx((1 + 1 + 0) / 3)
    nowhere = VISIBLE & np.array([True, True, False])
    assert metrics.pck(TARGET + OFFSETS, TARGET, nowhere, 30) == pytest.approx(0.75)


def test_auc() -> None:
    # thresholds 0, 7.5, 15, 22.5 pixels: nothing; 5, 0 and 1; also 10 (15 is not below 15); everything
    got = metrics.auc(TARGET + OFFSETS, TARGET, VISIBLE, pixels=30, steps=4)
    assert got == pytest.approx((0 + 0.5 + (1 + 0.5 + 1) / 3 + 1) / 4)


def test_nme_leaves_out_faces_without_a_size() -> None:
    assert metrics.nme(TARGET + OFFSETS, TARGET, VISIBLE, np.array([10.0, 0.0])) == pytest.approx(0.5)
    both = metrics.nme(TARGET + OFFSETS, TARGET, VISIBLE, np.array([10.0, 20.0]))
    assert both == pytest.approx((0.5 + 0 + 1 + 0.05 + 0.75) / 5)
