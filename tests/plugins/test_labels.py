"""What applications ask to be drawn: counts, angles, scores and falls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamkp_plugins.fall_detection import FallDetection
from streamkp_plugins.joint_angles import JointAngles
from streamkp_plugins.pose_match import PoseMatch
from streamkp_plugins.rep_counter import RepCounter

from streamkp.graph import registry
from streamkp.plugin import Keypoints3D, MapStage, Packet
from streamkp.testing import run_stage
from tests.plugins.figure import COCO, packets, person, repetitions, squatter
from tests.plugins.test_fall_detection import tipped, way
from tests.sinks.walker import walking


def labels(stage: type[MapStage], options: dict[str, Any], frames: list[Packet]) -> list[list[Any]]:
    return [list(packet.annotations) for packet in run_stage(stage, options, frames)]


def test_the_count_is_over_the_head_of_who_is_counted() -> None:
    frames = [[person(squatter(p)), person(squatter(0, at=(500, 440)), 2)] for p in repetitions(2)]
    drawn = labels(RepCounter, {"exercise": "squat"}, packets(frames))
    assert drawn[-1] == [{"type": "label", "track": 1, "text": "squat 2", "at": None}]
    assert {label["text"] for each in drawn for label in each} == {"squat 0", "squat 1", "squat 2"}
    assert not any(labels(RepCounter, {"exercise": "squat", "labels": False}, packets(frames)))


def test_nothing_is_written_while_the_exercise_is_not_known() -> None:
    drawn = labels(RepCounter, {"exercise": "auto"}, packets([[person(squatter(p))] for p in repetitions(2)]))
    assert not drawn[0]
    assert drawn[-1][0]["text"] == "squat 2"


def test_angles_are_written_at_their_joints() -> None:
    points = squatter(0.5)
    points[COCO.index("left_ankle"), 2] = 0.1
    ((*drawn,),) = labels(JointAngles, {}, packets([[person(points)]]))
    assert len(drawn) == 8  # the left knee is not known
    (knee,) = (each for each in drawn if each["at"] == pytest.approx(points[COCO.index("right_knee"), :2].tolist()))
    assert 120 < float(knee["text"]) < 140
    assert labels(JointAngles, {"labels": False}, packets([[person(points)]])) == [[]]


def test_who_fell_is_marked_until_they_are_up() -> None:
    angles = [0.0] * 30 + way(0.7) + [90.0] * 90 + way(1.0)[::-1] + [0.0] * 60
    drawn = labels(FallDetection, {}, packets([[person(tipped(angle))] for angle in angles]))
    marked = [i for i, each in enumerate(drawn) if each]
    assert marked == list(range(marked[0], marked[-1] + 1))
    assert marked[0] > 50
    assert drawn[marked[0]][0]["text"] == "FALL 0 s"
    assert not drawn[-1]


def test_the_score_is_over_the_head(tmp_path: Path) -> None:
    pose = walking(10).astype(np.float32)
    np.save(tmp_path / "pose.npy", pose)
    who = person(squatter(0))
    who.keypoints_3d = Keypoints3D("h36m17", pose, 0)
    drawn = labels(PoseMatch, {"reference": str(tmp_path / "pose.npy")}, packets([[who]]))
    assert drawn == [[{"type": "label", "track": 1, "text": "100", "at": None}]]


def test_who_draws_says_so_to_recordings_that_are_played_again() -> None:
    drawing = [
        cls
        for name in registry.names()
        if (cls := registry.stage_class(name)).kind == "map" and "labels" in cls.Options.model_fields
    ]
    assert len(drawing) > 4
    assert [cls.__name__ for cls in drawing if "annotations" not in cls.retells] == []
