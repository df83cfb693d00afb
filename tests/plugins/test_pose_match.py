"""`pose-match`: who does the same scores high, at any pace and from any side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamkp_plugins.pose_match import PoseMatch

from streamkp.plugin import Keypoints3D, UsageError
from streamkp.testing import open_stage, run_stage
from tests.plugins.figure import packets, person, squatter
from tests.sinks.walker import walking

Array = np.ndarray[Any, Any]


def dance(t: float) -> Array:
    """One moment of a motion of 4 s: the walker's steps, an arm that rises."""
    pose = walking(round(t * 30)).copy()
    rise = 1.2 * math.sin(math.pi * t / 8)
    pose[12] = pose[11] + 0.28 * np.array([math.sin(rise), math.cos(rise), 0])
    pose[13] = pose[12] + 0.26 * np.array([math.sin(rise), math.cos(rise), 0])
    return pose.astype(np.float32)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "dance.npy"
    np.save(path, np.array([dance(i / 30) for i in range(120)]))
    return path


def follow(reference: Path, poses: list[Array]) -> list[Any]:
    frames = []
    for pose in poses:
        who = person(squatter(0))
        who.keypoints_3d = Keypoints3D("h36m17", pose.astype(np.float32), 0)
        frames.append([who])
    return run_stage(PoseMatch, {"reference": str(reference)}, packets(frames))


@pytest.mark.parametrize("pace", [0.6, 1.0, 1.6])
@pytest.mark.parametrize("yaw", [0.0, 1.3])
def test_the_same_motion_at_another_pace_from_another_side(reference: Path, pace: float, yaw: float) -> None:
    turn = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    count = int(119 / pace)
    out = follow(reference, [1.3 * dance(i * pace / 30) @ turn for i in range(count + 1)])
    matches = [packet.persons[0].extra["pose_match"] for packet in out]
    assert np.mean([match["score"] for match in matches]) > 95
    places = [match["reference_s"] - i * pace / 30 for i, match in enumerate(matches)]
    assert np.abs(places[5:]).max() < 0.5
    events = [event for packet in out for event in packet.events]
    assert [event["type"] for event in events] == ["match"]


def test_the_wrong_joint_is_named(reference: Path) -> None:
    poses = []
    for i in range(60):
        pose = dance(i / 30)
        pose[15] = pose[14] + [-0.28, 0, 0]
        pose[16] = pose[15] + [-0.26, 0, 0]
        poses.append(pose)
    match = follow(reference, poses)[-1].persons[0].extra["pose_match"]
    assert match["worst"] == "right_shoulder"
    assert match["joints"]["right_shoulder"] > 50
    assert match["joints"]["left_knee"] < 10
    assert match["score"] < 95


def test_a_single_pose_needs_no_motion(tmp_path: Path) -> None:
    path = tmp_path / "pose.npy"
    np.save(path, dance(2.0))
    assert follow(path, [dance(2.0)] * 3)[-1].persons[0].extra["pose_match"]["score"] == 100
    assert follow(path, [dance(0.0)] * 3)[-1].persons[0].extra["pose_match"]["score"] < 99


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        PoseMatch.check(PoseMatch.Options(reference=tmp_path / "no.npy"))
    np.save(tmp_path / "flat.npy", np.zeros((5, 17, 2)))
    with pytest.raises(UsageError, match=r"shape \(5, 17, 2\)"):
        run_stage(PoseMatch, {"reference": str(tmp_path / "flat.npy")}, [])
    (tmp_path / "x.jsonl").write_text("nonsense\n")
    with pytest.raises(UsageError, match=r"x\.jsonl:1"):
        run_stage(PoseMatch, {"reference": str(tmp_path / "x.jsonl")}, [])


def test_the_scores_are_told_at_the_end(reference: Path) -> None:
    stage = open_stage(PoseMatch, {"reference": str(reference)})
    assert isinstance(stage, PoseMatch)
    assert stage.summary() == ""
    for i, packet in enumerate(packets([[person(squatter(0))] for _ in range(120)])):
        packet.persons[0].keypoints_3d = Keypoints3D("h36m17", dance(i / 30), 0)
        stage.process(packet)
        if i == 60:
            assert stage.summary() == f"{packet.stream}: nobody came to the end of the reference"
    assert stage.summary() == f"{packet.stream}: match 100"
