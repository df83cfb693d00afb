"""Lifted poses in a level world with a floor."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.graph.registry import stage_class
from streamkp.motion.ground import level_axes, tilted
from streamkp.packet import Extremities, Keypoints3D, Person
from streamkp.stages.level_3d import Level3D
from streamkp.testing import make_packet, run_stage
from tests.motion.test_extremities import world
from tests.sinks.walker import STANDING, walking

BOX = np.array((0, 0, 100, 300), np.float32)


def levelled(poses: list[Keypoints3D], **options: Any) -> list[Keypoints3D]:
    frames = [make_packet(seq=i, persons=[Person(1, "tracked", BOX, 0.9, keypoints_3d=p)]) for i, p in enumerate(poses)]
    out = [packet.persons[0].keypoints_3d for packet in run_stage(Level3D, options, frames)]
    return [pose for pose in out if pose is not None]


def test_is_a_stage_that_yaml_may_name() -> None:
    assert stage_class("level-3d") is Level3D


def test_the_mount_of_the_camera_is_believed() -> None:
    """A camera 1.5 m above the floor that looks 20 degrees down at somebody who stands 4 m away."""
    rows = level_axes(tilted(20))
    upright = STANDING * [1, -1, -1]
    seen = (upright @ rows).astype(np.float32)
    root = (rows.T @ np.array([0.3, 0.96 - 1.5, -4.0])).astype(np.float32)
    (got,) = levelled([Keypoints3D("h36m17", seen, 0, root=root)], camera={"pitch": 20, "height_m": 1.5})
    assert got.space == "world"
    assert got.points == pytest.approx(upright, abs=1e-5)
    assert got.root == pytest.approx([0.3, 0.96, -4.0], abs=1e-5)


def test_without_a_mount_it_is_learned() -> None:
    rows = level_axes(tilted(25))
    poses = [Keypoints3D("h36m17", (walking(i) * [1, -1, -1] @ rows).astype(np.float32), i) for i in range(200)]
    got = levelled(poses)
    spine = got[-1].points[8] - got[-1].points[0]
    assert np.degrees(np.arccos(spine[1] / np.linalg.norm(spine))) < 8
    first = got[0].points[8] - got[0].points[0]
    assert np.degrees(np.arccos(first[1] / np.linalg.norm(first))) > 20, "the camera is taken to be level at first"
    assert all(np.linalg.norm(b.points - a.points, axis=1).max() < 0.12 for a, b in itertools.pairwise(got))


def test_the_lowest_sole_is_on_the_floor_where_the_place_is_not_known() -> None:
    (got,) = levelled([Keypoints3D("h36m17", STANDING, 0)])
    assert got.root == pytest.approx([0, 0.88 + 0.08, 0], abs=1e-5)


def test_the_floor_is_where_the_lowest_foot_was_and_a_jump_leaves_it() -> None:
    def at(y: float) -> Keypoints3D:
        return Keypoints3D("h36m17", STANDING, 0, root=np.array([0, y, 4], np.float32))

    got = levelled([at(0.4), at(0.4), at(0.0)], camera={"pitch": 0})
    assert got[0].root == pytest.approx([0, 0.96, -4], abs=1e-4)
    assert got[2].root[1] == pytest.approx(1.36, abs=0.01)  # type: ignore[index]


def test_extremities_turn_with_the_body_and_33_joints_are_taken_too() -> None:
    full = world().astype(np.float32)
    body = skeletons.convert(full, "blazepose33", "h36m17", scored=False)
    ends = skeletons.convert(full, "blazepose33", "extremities13", scored=False)
    pose = Keypoints3D("h36m17", body, 0, extremities=Extremities("extremities13", ends, "blazepose-world"))
    (got,) = levelled([pose], camera={"pitch": 0})
    assert got.extremities is not None
    assert got.extremities.points == pytest.approx(ends * [1, -1, -1], abs=1e-6)
    (whole,) = levelled([Keypoints3D("blazepose33", full, 0)], camera={"pitch": 0})
    assert whole.points == pytest.approx(full * [1, -1, -1], abs=1e-6)
    assert whole.root == pytest.approx(got.root)


def test_a_pose_in_the_world_is_left_alone() -> None:
    pose = Keypoints3D("h36m17", STANDING, 0, space="world")
    assert levelled([pose]) == [pose]


def test_a_pose_is_seen_the_same_way_in_both_axes() -> None:
    camera = Keypoints3D("h36m17", STANDING, 0)
    (world_pose,) = levelled([camera], camera={"pitch": 0})
    assert world_pose.y_down == pytest.approx(camera.y_down)
