from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkp.poses import Pose
from streamkp.tracking.tracker import Track, Tracker, TrackerOptions
from tests.motion.scene import WIDTH, Path, Scene, Seen, follow, frame, new_tracker

rates = st.sampled_from([10.0, 15.0, 25.0, 30.0, 60.0])


def walk(x: float, speed: float, y: float = 360, since: float = 0, until: float = 1e9) -> Path:
    return lambda t: (x + speed * t, y) if since <= t < until else None


def central(scene: Scene) -> Pose:
    return scene.pose(np.array((640, 360, 400, 400, 0), np.float32), 0)


def step(tracker: Tracker, pts: int, boxes: np.ndarray | None, pose: Pose | None) -> list[Track]:
    """One frame in which the network sees `pose` wherever it looks."""
    at = frame(pts, boxes)
    requests = tracker.propose(at)
    return tracker.update(at, requests, [pose] * len(requests))


def ids(people: list[Seen]) -> list[int]:
    return [i for i, _, _ in people]


def centre(person: Seen) -> float:
    return float(person[2][0] + person[2][2] / 2)


@given(rates, st.floats(-150, 150), st.integers(0, 1000), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_one_walker_is_one_track(fps: float, speed: float, seed: int, every: int) -> None:
    scene = Scene([walk(640, speed)], noise=0.005, seed=seed)
    frames = follow(scene, 3, fps=fps, every=every)
    assert [ids(people) for _, people, _ in frames] == [[1]] * len(frames)
    assert frames[0][1][0][1] == "new"
    assert {people[0][1] for _, people, _ in frames[1:]} == {"tracked"}
    for t, people, _ in frames:
        assert abs(centre(people[0]) - (640 + speed * t)) < 15


@given(rates, st.floats(0.5, 2.0), st.floats(0.05, 0.8), st.floats(-200, 200))
@settings(max_examples=25, deadline=None)
def test_an_id_survives_a_short_miss(fps: float, start: float, miss: float, speed: float) -> None:
    """Neither detector nor network sees the walker for a while; the prediction goes on at the same speed."""
    hidden = (start, start + miss)

    def path(t: float) -> tuple[float, float] | None:
        return None if hidden[0] <= t < hidden[1] else (640 + speed * t, 360)

    frames = follow(Scene([path]), 3, fps=fps)
    assert {i for _, people, _ in frames for i in ids(people)} == {1}
    for t, people, _ in frames:
        assert people[0][1] == "predicted" or not hidden[0] <= t < hidden[1]
        assert abs(centre(people[0]) - (640 + speed * t)) < 60
    assert frames[-1][1][0][1] == "tracked"


@given(st.sampled_from([15.0, 25.0, 30.0, 60.0]), st.floats(120, 300), st.floats(120, 300), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_ids_survive_a_crossing(fps: float, right: float, left: float, seed: int) -> None:
    """Two people walk past each other; while they overlap only the one in front is seen, twice by the network."""
    meet = 1.5
    scene = Scene([walk(640 - right * meet, right), walk(640 + left * meet, -left)], noise=0.003, seed=seed)
    frames = follow(scene, 3, fps=fps, every=5)
    first = {i: centre(person) for person in frames[0][1] for i in [person[0]]}
    last = {i: centre(person) for person in frames[-1][1] for i in [person[0]]}
    assert len(first) == 2
    assert set(first) == set(last)
    assert (first[1] < first[2]) != (last[1] < last[2])


@given(rates, st.floats(1.0, 2.0), st.floats(0.5, 1.0), st.integers(1, 10))
@settings(max_examples=25, deadline=None)
def test_a_ghost_ends_within_a_second(fps: float, leaves: float, presence: float, every: int) -> None:
    """The person vanishes, the network goes on seeing somebody in the background."""
    scene = Scene([walk(640, 20, until=leaves)], background_presence=presence)
    frames = follow(scene, leaves + 1.5, fps=fps, every=every)
    assert any(people for t, people, _ in frames if t < leaves)
    assert not any(people or live for t, people, live in frames if t > leaves + 1.0 + 1e-6)


def test_who_walks_out_of_the_picture_is_gone_at_once() -> None:
    scene = Scene([walk(900, 400)])
    frames = follow(scene, 3)
    gone = (WIDTH + 60 - 900) / 400
    assert not any(people for t, people, _ in frames if t > gone + 0.2)


def test_two_tracks_on_one_person_become_one() -> None:
    """The detector sees one person twice; the network finds the same pose in both boxes."""
    scene = Scene([walk(640, 0)])
    once = scene.detect(0)
    twice = np.concatenate((once, once + np.float32((10, 5, -20, 10))))
    tracker = new_tracker()
    people = step(tracker, 0, twice, central(scene))
    assert [p.id for p in people] == [1]


def test_never_follows_more_than_it_may() -> None:
    scene = Scene([walk(100 + 150 * i, 0) for i in range(8)])
    frames = follow(scene, 1, options=TrackerOptions(max_persons=3))
    assert max(len(people) for _, people, _ in frames) == 3


def test_a_person_whom_the_detector_does_not_know_is_asked_for() -> None:
    scene = Scene([walk(640, 0)])
    tracker = new_tracker()
    step(tracker, 0, scene.detect(0), central(scene))
    assert not tracker.ask()
    step(tracker, 200_000_000, None, None)  # young: gone at once
    assert not tracker.ask()
    assert not tracker.live


def asked(background: bool, *, looks: set[int] = frozenset(), blind: set[int] = frozenset()) -> list[int]:
    """At which of 40 frames, 30 a second, a detection is asked for. The detector looks at frame 0 and at `looks`."""
    scene = Scene([] if background else [walk(640, 0)], background_presence=0.95)
    tracker, found = new_tracker(), Scene([walk(640, 0)]).detect(0)
    times = []
    for i in range(40):
        at = frame(round(i * 1e9 / 30), found if i == 0 or i in looks else None)
        requests = tracker.propose(at)
        poses = [None if i in blind else scene.pose(request.region, 0) for request in requests]
        tracker.update(at, requests, poses)
        times += [i] if tracker.ask() else []
    return times


def test_no_detection_is_asked_for_while_the_network_is_sure_of_everybody() -> None:
    assert asked(background=False) == []


def test_where_the_network_is_not_sure_a_detection_is_asked_for_once_and_again_when_it_does_not_come() -> None:
    assert asked(background=True) == [9, 18, 27, 36]  # every 0.3 seconds
    assert asked(background=True, looks={12}) == [9, 21, 30, 39]  # nobody asks while an answer is on its way


def test_somebody_lost_is_asked_for_every_tenth_of_a_second_though_answers_come_later() -> None:
    lost = set(range(20, 32))
    assert asked(background=False, blind=lost) == [20, 23, 26, 29]
    assert asked(background=False, blind=lost, looks={5}) == [20, 23, 26, 29]


@given(st.lists(st.tuples(st.integers(-1, 2), st.integers(0, 400), st.booleans()), max_size=40), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_whatever_is_seen_state_is_bounded_and_ids_are_new(frames: list[tuple[int, int, bool]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = Scene([walk(640, 0)], background_presence=0.9, noise=0.05, seed=seed)
    tracker = new_tracker(TrackerOptions(max_persons=4))
    pts, ever, last_live = 0, set[int](), frozenset[int]()
    for count, step, sees in frames:
        pts += step * 1_000_000
        boxes = None if count < 0 else rng.uniform(50, 600, (count, 4)).astype(np.float32)
        at = frame(pts, boxes)
        requests = tracker.propose(at)
        assert len(requests) <= 4 + max(count, 0)
        regions = [rng.uniform(50, 600, 5).astype(np.float32) for _ in requests]
        people = tracker.update(at, requests, [scene.pose(region, 0) if sees else None for region in regions])
        assert {p.id for p in people} == tracker.live
        assert len(people) <= 4
        assert not (tracker.live - last_live) & ever  # an id that ended never comes back
        assert all(np.isfinite(p.box).all() and p.box[2] > 0 and p.box[3] > 0 for p in people)
        if tracker.live == last_live and ever:
            assert tracker.live is last_live
        ever |= tracker.live
        last_live = tracker.live


def test_a_pose_that_is_not_a_number_is_a_miss() -> None:
    scene = Scene([walk(640, 0)])
    tracker = new_tracker()
    pose = central(scene)
    pose.points[3] = np.nan
    assert step(tracker, 0, scene.detect(0), pose) == []


def test_without_a_detector_the_whole_image_is_looked_at() -> None:
    tracker = new_tracker()
    (request,) = tracker.propose(frame(0, None, detector=False))
    assert request.track is None
    assert request.detection is None
    assert request.region.tolist() == [640, 360, 1600, 1600, 0]
    assert tracker.propose(frame(1, None, detector=True)) == []


@pytest.mark.parametrize("pts", [[0, 0, 0], [50, 20, 10]])
def test_time_that_stands_still_or_goes_back_does_no_harm(pts: list[int]) -> None:
    scene = Scene([walk(640, 0)])
    tracker = new_tracker()
    for t in pts:
        people = step(tracker, t * 1_000_000, scene.detect(0), central(scene))
    assert [p.id for p in people] == [1]
