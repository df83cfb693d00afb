from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from streamkp import skeletons
from streamkp.graph.registry import stage_class
from streamkp.motion import extremities
from streamkp.motion.bone_lengths import lengths, tree
from streamkp.motion.steady import Settings, Steady
from streamkp.packet import Extremities, Keypoints3D, Packet, Person
from streamkp.stages.smooth_3d import Smooth3D
from streamkp.testing import FRAME, build, make_packet, open_stage, run_stage

POSE = np.random.default_rng(0).normal(0, 0.4, (17, 3))
ROOT = np.array([0.1, 0.2, 4.0], np.float32)


def pose(seq: int, seed: int | None = None, root: np.ndarray | None = ROOT, skeleton: str = "h36m17") -> Keypoints3D:
    rng = np.random.default_rng(seq if seed is None else seed)
    points = POSE[0] + rng.normal(0, 0.02, (len(skeletons.get(skeleton)), 3))
    if skeleton == "h36m17":
        points = POSE + rng.normal(0, 0.02, (17, 3))
    return Keypoints3D(skeleton, points.astype(np.float32), seq, root=root)


def person(keypoints: Keypoints3D | None, track: int = 1, state: Any = "tracked") -> Person:
    return Person(track, state, np.array((0, 0, 100, 300), np.float32), 0.9, keypoints_3d=keypoints)


def packet(seq: int, *people: Person, **fields: Any) -> Packet:
    return make_packet(seq=seq, persons=list(people), **fields)


def steadied(out: Packet, at: int = 0) -> Keypoints3D:
    keypoints = out.persons[at].keypoints_3d
    assert keypoints is not None
    return keypoints


def test_is_a_stage_that_yaml_may_name() -> None:
    assert stage_class("smooth-3d") is Smooth3D


def test_each_track_is_steadied_by_itself() -> None:
    people = [(pose(i, 2 * i), pose(i, 2 * i + 1)) for i in range(8)]
    options = {"contact": True, "min_cutoff": 1.0, "beta": 2.0, "up": (0, -1, 0.2)}
    got = run_stage(Smooth3D, options, [packet(i, person(a, 1), person(b, 2)) for i, (a, b) in enumerate(people)])
    for k in range(2):
        alone = Steady("h36m17", Settings(True, True, True, 1.0, 2.0, 1.0, (0, -1, 0.2)))
        for i, out in enumerate(got):
            points, root = alone(people[i][k].points, people[i][k].root, i * FRAME)
            found = steadied(out, k)
            assert (found.frame_seq, found.skeleton, found.space) == (i, "h36m17", "camera")
            assert found.points.dtype == np.float32
            assert found.root is not None
            assert root is not None
            assert_allclose(found.points, points, atol=1e-6)
            assert_allclose(found.root, root, atol=1e-6)


def test_what_comes_in_is_not_written_to() -> None:
    raw = [pose(i) for i in range(4)]
    kept = [replace(p, points=p.points.copy(), root=ROOT.copy()) for p in raw]
    run_stage(Smooth3D, {"contact": True}, [packet(i, person(p)) for i, p in enumerate(raw)])
    for a, b in zip(raw, kept, strict=True):
        assert_array_equal(a.points, b.points)
        assert_array_equal(a.root, b.root)


def test_time_is_that_of_the_frame_that_the_pose_describes() -> None:
    """A pose that comes three frames late, over frames at odd times, is as steady as one that comes at once."""
    times = np.cumsum([0, 20, 50, 33, 10, 40, 33, 33, 60, 33, 20, 33]).tolist()
    poses = [pose(i) for i in range(9)]
    at_once = run_stage(
        Smooth3D,
        {},
        [packet(i, person(p), pts=t * 1_000_000) for i, (p, t) in enumerate(zip(poses, times[:9], strict=True))],
    )
    late = run_stage(
        Smooth3D,
        {},
        [packet(i, person(poses[i - 3] if i > 2 else None), pts=t * 1_000_000) for i, t in enumerate(times)],
    )
    for now, later in zip(at_once, late[3:], strict=True):
        assert steadied(now).frame_seq == steadied(later).frame_seq
        assert_array_equal(steadied(now).points, steadied(later).points)


def test_a_pose_of_the_same_or_an_older_frame_changes_nothing() -> None:
    described = [0, 0, 2, 2, 1, 5, 5, 4, 8]
    got = run_stage(Smooth3D, {}, [packet(i, person(pose(seq, 100 + i))) for i, seq in enumerate(described)])
    assert [steadied(p).frame_seq for p in got] == [0, 0, 2, 2, 2, 5, 5, 5, 8]
    new = [(0, 100), (2, 102), (5, 105), (8, 108)]
    expected = [
        steadied(p) for p in run_stage(Smooth3D, {}, [packet(seq, person(pose(seq, seed))) for seq, seed in new])
    ]
    for found, i in zip(got, [0, 0, 1, 1, 1, 2, 2, 2, 3], strict=True):
        assert_array_equal(steadied(found).points, expected[i].points)


def test_a_frame_that_never_came_by_takes_the_time_of_the_one_before() -> None:
    got = run_stage(Smooth3D, {}, [packet(s, person(pose(s - 2))) for s in (2, 3, 6, 7)])
    assert [steadied(p).frame_seq for p in got] == [0, 0, 4, 4]  # 0 and 1 are older than the stream, 5 as old as 4


def test_a_person_without_a_new_pose_is_left() -> None:
    predicted = person(None, state="predicted")
    broken = person(pose(1), 2)
    assert broken.keypoints_3d is not None
    broken.keypoints_3d.points[3, 1] = np.nan
    before = broken.keypoints_3d
    (out,) = run_stage(Smooth3D, {}, [packet(0, predicted, broken)])
    assert out.persons[0].keypoints_3d is None
    assert out.persons[1].keypoints_3d is before


def test_bones_of_blazepose_are_held_too() -> None:
    bones = tree("blazepose33")
    poses = [pose(i, skeleton="blazepose33", root=None) for i in range(90)]
    got = run_stage(Smooth3D, {}, [packet(i, person(p)) for i, p in enumerate(poses)])
    before = lengths(np.array([p.points for p in poses[30:]]), bones).std(0).mean()
    after = lengths(np.array([steadied(p).points for p in got[30:]]), bones).std(0).mean()
    assert after < 0.2 * before


def test_a_track_that_changes_its_skeleton_starts_afresh() -> None:
    other = pose(1, skeleton="blazepose33")
    got = run_stage(Smooth3D, {"bones": False}, [packet(0, person(pose(0))), packet(1, person(other))])
    assert_allclose(steadied(got[1]).points, other.points)


def test_a_skeleton_without_known_bones_passes_and_is_told() -> None:
    stage = open_stage(Smooth3D)
    failures: list[str] = []
    stage.context.on_failed = lambda _, error: failures.append(str(error))
    whole = pose(0, skeleton="wholebody133")
    assert isinstance(stage, Smooth3D)
    out = stage.process(packet(0, person(whole)))
    assert steadied(out) is whole
    assert len(failures) == 1
    assert "wholebody133" in failures[0]


def test_contact_without_a_root_does_nothing_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = run_stage(
            Smooth3D,
            {"contact": True, "one_euro": False, "bones": False},
            [packet(i, person(pose(i, root=None))) for i in range(5)],
        )
    for i, out in enumerate(got):
        assert steadied(out).root is None
        assert_array_equal(steadied(out).points, pose(i).points)
    assert [record.message.count("trajectory: true") for record in caplog.records] == [1]


def test_a_root_that_is_not_finite_does_not_go_on() -> None:
    (out,) = run_stage(Smooth3D, {}, [packet(0, person(pose(0, root=np.full(3, np.nan, np.float32))))])
    assert steadied(out).root is None


def test_up_must_point_somewhere() -> None:
    for up in ((0, 0, 0), (0, float("nan"), 1)):
        with pytest.raises(ValidationError, match="direction"):
            Smooth3D.Options(up=up)


def test_a_new_epoch_and_the_end_of_a_track_start_afresh() -> None:
    def script(_: Any) -> Any:
        for i in range(12):
            epoch = i // 4
            yield make_packet(
                seq=i,
                epoch=epoch,
                pts=(i - 4 * epoch) * FRAME,
                persons=[person(pose(i), 1 if i < 10 else 2)],
                tracks=frozenset({1 if i < 10 else 2}),
            )

    engine, out = build({"steady": {"use": "smooth-3d", "bones": False}}, {"cam": script})
    engine.start()
    engine.wait()
    raw = [bool(np.allclose(steadied(p).points, pose(p.seq).points)) for p in out.packets]
    assert [i for i, fresh in enumerate(raw) if fresh] == [0, 4, 8, 10]


def test_extremities_are_steadied_and_stay_on_the_body() -> None:
    rng = np.random.default_rng(2)
    offsets = rng.normal(0, 0.1, (13, 3))
    frames = []
    for i in range(60):
        keypoints = pose(i)
        noisy = extremities.anchors(keypoints.points) + offsets + rng.normal(0, 0.01, (13, 3))
        ends = Extremities("extremities13", noisy.astype(np.float32), "blazepose-world")
        frames.append(packet(i, person(replace(keypoints, extremities=ends))))
    found = []
    for out in run_stage(Smooth3D, {}, frames):
        ends = steadied(out).extremities
        assert ends is not None
        found.append(ends.points - extremities.anchors(steadied(out).points))
    assert np.std(found[20:], axis=0).mean() < 0.006, "from 0.01"
    assert np.mean(found[20:], axis=0) == pytest.approx(offsets, abs=0.006)
