"""`joint-angles`: the angles of poses that are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from streamkp_plugins.joint_angles import JointAngles

from streamkp.plugin import Keypoints3D, skeleton
from streamkp.testing import run_stage
from tests.plugins.figure import COCO, packets, person, squatter


def angles(points: np.ndarray[Any, Any], **options: Any) -> Any:
    (packet,) = run_stage(JointAngles, options, packets([[person(points)]]))
    return packet.persons[0].extra["joint_angles"]


@pytest.mark.parametrize("bend", [0.0, 0.4, 1.0])
def test_knees_of_a_squat(bend: float) -> None:
    found = angles(squatter(bend))
    straight = 180 - (8 + 82 * bend)
    assert found["left_knee"] == pytest.approx(straight, abs=0.2)
    assert found["trunk"] == pytest.approx(0.5 * (8 + 82 * bend), abs=0.2)
    flexed = angles(squatter(bend), convention="flexion")
    assert flexed["right_knee"] == pytest.approx(180 - straight, abs=0.2)
    assert flexed["trunk"] == found["trunk"], "a tilt is no joint"


def test_a_joint_that_is_not_seen_has_no_angle() -> None:
    points = squatter(0.5)
    points[COCO.index("left_ankle"), 2] = 0.1
    found = angles(points)
    assert found["left_knee"] is None
    assert found["right_knee"] is not None
    assert angles(points, least_score=0.05)["left_knee"] is not None


def test_angles_of_lifted_poses_do_not_depend_on_the_view() -> None:
    layout = skeleton("h36m17")
    points = np.zeros((17, 3), np.float32)
    points[layout.index("left_hip")] = [0, 0, 0]
    points[layout.index("left_knee")] = [0, 0.4, 0]
    points[layout.index("left_ankle")] = [0, 0.4, 0.4]
    for yaw in (0.0, 1.0, 2.5):
        turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        who = person(squatter(0))
        who.keypoints_3d = Keypoints3D("h36m17", (points @ turn).astype(np.float32), 0)
        (packet,) = run_stage(
            JointAngles, {"space": "3d", "angles": {"knee": ("left_hip", "left_knee", "left_ankle")}}, packets([[who]])
        )
        assert packet.persons[0].extra["joint_angles"] == {"knee": pytest.approx(90, abs=0.1)}


@pytest.mark.parametrize("joints", [("left_hip",), ("left_hip", "left_nee", "left_ankle"), ("a", "b", "c", "d")])
def test_a_joint_that_no_skeleton_has_is_refused(joints: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="joint"):
        JointAngles.Options(angles={"knee": joints})
