from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamkp import skeletons
from streamkp.motion.one_euro import OneEuro
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.stages.smooth_one_euro import SmoothOneEuro
from streamkp.testing import make_packet, open_stage, run_stage
from streamkp.tracking.similarity import box_of


def packet(seq: int, *persons: Person, stream: str = "cam") -> Packet:
    return make_packet(stream, seq, persons=list(persons))


def person(track: int, points: np.ndarray, height: float = 400) -> Person:
    box = np.array((0, 0, height / 3, height), np.float32)
    return Person(track, "tracked", box, 0.9, Keypoints2D("coco17", points.astype(np.float32)))


def test_each_track_has_its_own_filter_and_scores_stay() -> None:
    rng = np.random.default_rng(0)
    poses = rng.uniform(0, 100, (6, 2, 17, 3))
    poses[..., 2] = rng.uniform(0, 1, (6, 2, 17))
    packets = [packet(i, person(1, p[0]), person(2, p[1])) for i, p in enumerate(poses)]
    got = run_stage(SmoothOneEuro, {"swap_filter": False, "limb_filter": False}, packets)
    for k in range(2):
        alone = OneEuro()
        for i, out in enumerate(got):
            keypoints = out.persons[k].keypoints_2d
            assert keypoints is not None
            want = alone(poses[i, k, :, :2].astype(np.float32), out.pts, 400.0)
            np.testing.assert_allclose(keypoints.points[:, :2], want, rtol=1e-5)
            np.testing.assert_allclose(keypoints.points[:, 2], poses[i, k, :, 2], rtol=1e-6)
            assert keypoints.points.dtype == np.float32


def test_the_keypoints_that_came_in_are_not_written_to() -> None:
    raw = [person(1, np.full((17, 3), float(i))) for i in range(2)]
    before = [p.keypoints_2d for p in raw]
    run_stage(SmoothOneEuro, {}, [packet(i, p) for i, p in enumerate(raw)])
    for i, keypoints in enumerate(before):
        assert keypoints is not None
        assert np.all(keypoints.points == i)


def test_a_person_without_keypoints_or_size_passes() -> None:
    bare = Person(1, "new", np.zeros(4, np.float32), 0.5)
    flat = person(2, np.ones((17, 3)), height=0)
    (out,) = run_stage(SmoothOneEuro, {}, [packet(0, bare, flat)])
    assert out.persons == [bare, flat]


def test_keeps_one_state_of_each_kind_per_track() -> None:
    stage = open_stage(SmoothOneEuro, {"swap_filter": True})
    assert isinstance(stage, SmoothOneEuro)
    for i in range(5):
        stage.process(packet(i, person(1, np.ones((17, 3))), stream="a"))
        stage.process(packet(i, person(1, np.ones((17, 3))), stream="b"))
    keypoints, swaps, limbs, parts = stage.context.states
    assert set(keypoints) == set(swaps) == set(limbs) == {("a", 1), ("b", 1)}
    assert not parts  # nobody's hands or face were seen


def exchanged_for_three_frames() -> tuple[np.ndarray, list[np.ndarray]]:
    """How somebody stands, and what a network says: the sides exchanged at the end."""
    standing = np.ones((17, 3))
    standing[:, :2] = np.linspace(100, 500, 17)[:, None]
    standing[::2, 0] += 150  # the left is where the right is not
    wrong = standing.copy()
    wrong[5:] = standing[list(skeletons.get("coco17").mirror)][5:]  # all but the face
    return standing, [standing] * 3 + [wrong] * 3


@pytest.mark.parametrize("options", [{}, {"swap_filter": True}, {"sides": True}])
def test_exchanged_sides_are_put_right(options: dict[str, bool]) -> None:
    standing, poses = exchanged_for_three_frames()
    got = run_stage(SmoothOneEuro, options, [packet(i, person(1, pose)) for i, pose in enumerate(poses)])
    last = got[-1].persons[0].keypoints_2d
    assert last is not None
    np.testing.assert_allclose(last.points, standing, atol=1e-3)


@pytest.mark.parametrize("options", [{"swap_filter": False}, {"sides": False}])
def test_without_the_swap_filter_the_network_is_believed(options: dict[str, bool]) -> None:
    standing, poses = exchanged_for_three_frames()
    got = run_stage(SmoothOneEuro, options, [packet(i, person(1, pose)) for i, pose in enumerate(poses)])
    last = got[-1].persons[0].keypoints_2d
    assert last is not None
    assert np.abs(last.points - standing).max() > 50


@pytest.mark.parametrize("on", [True, False])
def test_a_limb_that_is_thrown_off_loses_its_score(on: bool) -> None:
    standing, _ = exchanged_for_three_frames()
    wrong = standing.copy()
    wrong[15, 0] += 300  # the left ankle
    poses = [*[standing] * 20, wrong, standing]
    got = run_stage(SmoothOneEuro, {"limb_filter": on}, [packet(i, person(1, pose)) for i, pose in enumerate(poses)])
    points = [out.persons[0].keypoints_2d for out in got[-2:]]
    assert points[0] is not None
    assert points[1] is not None
    thrown, back = points[0].points, points[1].points
    np.testing.assert_array_equal(back[:, 2], 1)
    np.testing.assert_array_equal(np.flatnonzero(thrown[:, 2] < 0.3), [15] if on else [])
    assert (float(np.abs(thrown - standing)[:, :2].max()) < 1e-3) is on


def test_the_box_is_drawn_around_where_a_limb_is_held() -> None:
    standing, _ = exchanged_for_three_frames()
    wrong = standing.copy()
    wrong[15, 0] += 300  # the left ankle
    people = [person(1, pose) for pose in (*[standing] * 20, wrong, standing)]
    for someone, pose in zip(people, (*[standing] * 20, wrong, standing), strict=True):
        someone.box = box_of(pose.astype(np.float32))
    right = people[0].box
    assert people[20].box[2] > right[2] + 100
    got = run_stage(SmoothOneEuro, {}, [packet(i, someone) for i, someone in enumerate(people)])
    for out in got:
        np.testing.assert_allclose(out.persons[0].box, right, atol=0.1)


def test_the_old_name_of_the_swap_filter_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert SmoothOneEuro.Options.model_validate({"sides": True}).swap_filter is True
    assert "the option sides is now called swap_filter" in caplog.text
    with pytest.raises(ValueError, match="sides is the old name of swap_filter"):
        SmoothOneEuro.Options.model_validate({"sides": True, "swap_filter": True})


def test_hands_faces_and_expressions_are_steadied_too() -> None:
    rng = np.random.default_rng(1)
    hand, face = rng.uniform(0, 80, (21, 3)), rng.uniform(0, 120, (478, 3))
    packets = []
    for i in range(60):
        someone = person(1, np.ones((17, 3)))
        noise = rng.normal(0, 0.5, 2)
        someone.extra["hands"] = {"left": (hand + np.append(noise, 0)).astype(np.float32)}
        someone.extra["hands_world"] = {"left": (hand / 800 + rng.normal(0, 1e-3)).astype(np.float32)}
        someone.extra["face"] = {
            "points": (face + np.append(noise, 0)).astype(np.float32),
            "blendshapes": {"jawOpen": 0.3 + float(rng.normal(0, 0.03)), "eyeBlinkLeft": float(i >= 30)},
        }
        packets.append(packet(i, someone))
    raw = [dict(made.persons[0].extra) for made in packets]
    out = [made.persons[0].extra for made in run_stage(SmoothOneEuro, {}, packets)]

    def jitter(values: list[Any]) -> float:
        return float(np.diff(np.array(values), axis=0).std())

    for get in (
        lambda extra: extra["hands"]["left"][:, :2],
        lambda extra: extra["hands_world"]["left"],
        lambda extra: extra["face"]["points"][:, :2],
        lambda extra: extra["face"]["blendshapes"]["jawOpen"],
    ):
        assert jitter([get(extra) for extra in out[10:]]) < 0.6 * jitter([get(extra) for extra in raw[10:]])
    np.testing.assert_array_equal(out[5]["hands"]["left"][:, 2], raw[5]["hands"]["left"][:, 2])  # scores as they are
    assert out[32]["face"]["blendshapes"]["eyeBlinkLeft"] > 0.8  # a blink is there within a tenth of a second


def test_parts_are_left_alone_on_request() -> None:
    someone = person(1, np.ones((17, 3)))
    someone.extra["hands"] = {"left": np.ones((21, 3), np.float32)}
    run_stage(SmoothOneEuro, {"parts": False}, [packet(0, someone)])
    np.testing.assert_array_equal(someone.extra["hands"]["left"], 1)
