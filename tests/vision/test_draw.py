from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from streamkp.packet import Keypoints2D, Keypoints3D, Person
from streamkp.skeletons import SKELETONS, get
from streamkp.vision import draw

BOX = np.array([10, 20, 60, 80], np.float32)


def _person(skeleton: str = "coco17", score: float = 1.0, track: int = 3) -> Person:
    count = len(get(skeleton))
    points = np.column_stack([np.linspace(20, 60, count), np.linspace(30, 90, count), np.full(count, score)])
    return Person(track, "tracked", BOX, 0.9, Keypoints2D(skeleton, points.astype(np.float32)))


def _image() -> np.ndarray:
    image = np.full((120, 160, 3), 50, np.uint8)
    image.flags.writeable = False
    return image


def _has(image: np.ndarray, colour: draw.Colour) -> bool:
    return bool((image == colour).all(axis=2).any())


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_overlay_draws_on_a_copy(skeleton: str) -> None:
    image = _image()
    drawn = draw.overlay(image, [_person(skeleton)])
    assert_array_equal(image, 50)
    assert _has(drawn, draw.person_colour(3))
    assert _has(drawn, draw.MIDDLE)


def test_sides_have_their_colours() -> None:
    person = _person("h36m17")
    assert person.keypoints_2d is not None
    person.keypoints_2d.points[:, :2] = np.random.default_rng(0).uniform(0, 120, (17, 2))
    drawn = draw.overlay(_image(), [person])
    assert _has(drawn, draw.LEFT)
    assert _has(drawn, draw.RIGHT)


def test_unsure_joints_are_not_drawn() -> None:
    drawn = draw.overlay(_image(), [_person(score=0.1)])
    assert _has(drawn, draw.person_colour(3))
    assert not _has(drawn, draw.MIDDLE)


def test_absurd_numbers_do_no_harm() -> None:
    person = _person()
    assert person.keypoints_2d is not None
    person.keypoints_2d.points[0] = np.nan
    person.keypoints_2d.points[1, :2] = 3e38, -3e38
    person.box = np.array([-1e30, 5, 1e30, np.inf], np.float32)
    person.keypoints_3d = Keypoints3D("coco17", np.full((17, 3), np.nan, np.float32), 0)
    assert draw.overlay(_image(), [person]).shape == (120, 160, 3)
    assert draw.inset([person], 64).shape == (64, 64, 3)


def test_no_people_is_the_same_picture() -> None:
    assert_array_equal(draw.overlay(_image(), []), _image())


def test_view_from_the_camera_changes_nothing() -> None:
    points = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert_allclose(draw.view(points, 0, 0), points, atol=1e-7)


def test_view_from_above_and_from_the_side() -> None:
    far = np.array([[0, 0, 1]], np.float32)
    assert_allclose(draw.view(far, 90, 0), [[1, 0, 0]], atol=1e-7)
    assert_allclose(draw.view(far, 0, 90), [[0, -1, 0]], atol=1e-7)


def test_inset_shows_one_figure_per_person() -> None:
    people = []
    for track in range(2):
        person = _person("h36m17", track=track)
        person.keypoints_3d = Keypoints3D("h36m17", np.random.default_rng(1).normal(0, 0.2, (17, 3)).astype("f4"), 0)
        people.append(person)
    one, two = draw.inset(people[:1], 120), draw.inset(people, 120)
    assert _has(one[:, 40:80], draw.LEFT)
    assert _has(two[:, :60], draw.LEFT)
    assert _has(two[:, 60:], draw.LEFT)


def test_hands_and_face_are_drawn() -> None:
    person = _person(score=0.0)
    plain = draw.overlay(_image(), [person])
    for extra in ({"hands": {"left": _points(21)}}, {"face": {"points": _points(106)}}):
        person.extra = extra
        assert _has(draw.overlay(_image(), [person]), draw.MIDDLE)
        assert not _has(plain, draw.MIDDLE)


def _points(count: int) -> np.ndarray:
    return np.column_stack([np.linspace(20, 60, count), np.linspace(30, 90, count), np.ones(count)]).astype(np.float32)


def _changed(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what differs from the bare picture."""
    return np.nonzero((image != 50).any(axis=2))


def test_labels_stand_over_the_head_of_their_person() -> None:
    person = _person(score=0.0)
    person.box = np.array([60, 80, 60, 30], np.float32)
    bare = draw.overlay(_image(), [person])
    one = draw.overlay(_image(), [person], [{"type": "label", "track": 3, "text": "4"}])
    rows, columns = np.nonzero((one != bare).any(axis=2))
    assert rows.max() < 80
    assert abs(columns.mean() - 90) < 3
    two = draw.overlay(_image(), [person], [{"type": "label", "track": 3, "text": word} for word in ("4", "5")])
    higher, _ = np.nonzero((two != one).any(axis=2))
    assert higher.max() <= rows.min()
    absent = draw.overlay(_image(), [person], [{"type": "label", "track": 9, "text": "4"}])
    assert_array_equal(absent, bare)


def test_labels_and_lines_have_their_places() -> None:
    rows, columns = _changed(draw.overlay(_image(), [], [{"type": "label", "text": "a\nb", "at": [80, 70]}]))
    assert rows.max() <= 71
    assert rows.max() - rows.min() > 20
    assert abs(columns.mean() - 80) < 3
    drawn = draw.overlay(_image(), [], [{"type": "line", "points": [[10, 60], [100, 60]], "color": "#0a141e"}])
    rows, columns = _changed(drawn)
    assert (abs(rows - 60) <= 4).all()
    assert columns.min() < 12
    assert columns.max() > 98
    assert drawn[60, 50].tolist() == [0x1E, 0x14, 0x0A]


def test_absurd_annotations_do_no_harm() -> None:
    person = _person(score=0.0)
    bad: list[draw.Annotation] = [
        {"type": "line", "points": [[np.nan, 0], [1, 1]]},
        {"type": "line", "points": [[-1e30, 5], [1e30, 5]]},
        {"type": "label", "text": "x" * 10_000, "at": [1e30, np.inf]},
        {"type": "label", "text": "x" * 1000, "at": [1e30, -1e30]},
        {"type": "label", "text": "", "track": 3},
    ]
    assert draw.overlay(_image(), [person], bad).shape == (120, 160, 3)
