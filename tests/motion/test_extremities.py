"""Hands, feet and face of a second estimate, fixed to a lifted pose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from streamkp import skeletons
from streamkp.motion.extremities import LAYOUT, anchors, attach, carry

FULL, BODY, PARTS = (skeletons.get(name) for name in ("blazepose33", "h36m17", LAYOUT))
Array = np.ndarray[Any, Any]


def world(seed: int = 0) -> Array:
    """A body of 33 joints, metres, y down, pelvis at the origin."""
    rng = np.random.default_rng(seed)
    at = {
        "nose": (0, -0.62, -0.12), "ear": (0.08, -0.65, 0), "eye": (0.04, -0.66, -0.08), "mouth": (0.03, -0.58, -0.1),
        "shoulder": (0.17, -0.48, 0), "elbow": (0.25, -0.22, 0), "wrist": (0.28, 0, -0.1), "hip": (0.1, 0, 0),
        "knee": (0.11, 0.42, 0), "ankle": (0.12, 0.84, 0), "heel": (0.12, 0.88, 0.04), "foot_index": (0.14, 0.9, -0.15),
        "pinky": (0.3, 0.08, -0.12), "index": (0.27, 0.08, -0.16), "thumb": (0.24, 0.04, -0.14),
    }  # fmt: skip
    points = np.zeros((33, 3))
    for i, joint in enumerate(FULL.joints):
        part = next(name for name in ("mouth", "eye", *at) if name in joint)
        points[i] = np.array(at[part]) * [-1 if "right" in joint else 1, 1, 1] + rng.normal(0, 0.01, 3)
    points -= (points[23] + points[24]) / 2
    return points


def test_of_the_same_body_they_are_where_they_were() -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    wanted = skeletons.convert(full, "blazepose33", LAYOUT, scored=False)
    assert attach(body, full) == pytest.approx(wanted, abs=1e-6)


def test_of_a_larger_body_they_are_larger() -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    got = attach(1.3 * body, full)
    assert got is not None
    wanted = skeletons.convert(full, "blazepose33", LAYOUT, scored=False)
    assert got == pytest.approx(1.3 * wanted, abs=1e-6)


def test_a_hand_turns_with_its_forearm_and_a_foot_does_not_with_the_shin() -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    turn = Rotation.from_euler("x", 50, degrees=True).as_matrix()
    for a, b in (("left_elbow", "left_wrist"), ("left_knee", "left_ankle")):
        i, j = BODY.index(a), BODY.index(b)
        body[j] = body[i] + (body[j] - body[i]) @ turn.T
    got = attach(body, full)
    assert got is not None
    offsets, before = got - anchors(body), world()
    hand = PARTS.index("left_index")
    forearm = before[FULL.index("left_wrist")] - before[FULL.index("left_elbow")]
    lifted = body[BODY.index("left_wrist")] - body[BODY.index("left_elbow")]
    offset = before[FULL.index("left_index")] - before[FULL.index("left_wrist")]
    cosine = offset @ forearm / np.linalg.norm(offset) / np.linalg.norm(forearm)
    found = offsets[hand] @ lifted / np.linalg.norm(offsets[hand]) / np.linalg.norm(lifted)
    assert found == pytest.approx(cosine, abs=1e-6)
    toe = PARTS.index("left_foot_index")
    assert offsets[toe] == pytest.approx(before[FULL.index("left_foot_index")] - before[FULL.index("left_ankle")])


@pytest.mark.parametrize("fault", ["nan", "flat"])
def test_without_a_body_there_are_none(fault: str) -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    full = full * 0 if fault == "flat" else full * np.nan
    assert attach(body, full) is None


def test_a_network_for_hands_knows_better() -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    hand = np.random.default_rng(1).normal(0, 0.05, (21, 3))
    got = attach(body, full, {"right": hand})
    plain = attach(body, full)
    assert got is not None
    assert plain is not None
    for i, joint in enumerate(PARTS.joints):
        if joint in ("right_pinky", "right_index", "right_thumb"):
            k = {"pinky": 17, "index": 5, "thumb": 2}[joint.removeprefix("right_")]
            assert got[i] == pytest.approx(body[BODY.index("right_wrist")] + hand[k] - hand[0], abs=1e-6)
        else:
            assert got[i] == pytest.approx(plain[i])


@pytest.mark.parametrize("turn", [(0, 0, 0), (180, 0, 0), (20, -70, 130)])
def test_they_are_carried_to_another_pose_of_the_same_frame(turn: tuple[float, float, float]) -> None:
    full = world()
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    parts = skeletons.convert(full, "blazepose33", LAYOUT, scored=False)
    whole = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * 1.2
    assert carry(body, parts, body @ whole.T) == pytest.approx(parts @ whole.T, abs=1e-5)
    assert carry(body, parts, body * 0) is None
    assert carry(body, parts * np.nan, body) is None
