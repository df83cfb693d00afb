"""The networks for hands, faces and gestures against MediaPipe's own answers, and where they look next."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.models import gestures
from streamkp.models.gestures import NAMED, GestureNetwork, Hand
from streamkp.models.pose2d.face_landmarker import BLENDSHAPES, FaceEstimator, mesh_region
from streamkp.models.pose2d.hand_landmarker import HandEstimator, hand_region
from streamkp.models.registry import open_estimator, open_gestures, open_hand_detector
from streamkp.packet import Image

REFERENCE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "mediapipe_face_hand.json").read_text())


@pytest.fixture(scope="module")
def picture(assets: Path) -> Image:
    """A woman with closed eyes, the right hand before her mouth; 1068 x 1068."""
    with np.load(assets / "golden_tflite" / "palm_detection_full_hand.npz") as file:
        small = (file["input"][0] * 255).round().astype(np.uint8)[..., ::-1]
    large = cv2.resize(np.ascontiguousarray(small), None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    framed: Image = cv2.copyMakeBorder(large, 150, 150, 150, 150, cv2.BORDER_REFLECT_101).astype(np.uint8)
    return framed


def opened(make: Any, name: str) -> Any:
    try:
        return make(name, threads=1)
    except ModelError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{name} is not in the cache and cannot be fetched: {error}")


@pytest.fixture(scope="module")
def hands() -> Iterator[HandEstimator]:
    found = opened(open_estimator, "hand-landmarker")
    yield found
    found.close()


@pytest.fixture(scope="module")
def faces() -> Iterator[FaceEstimator]:
    found = opened(open_estimator, "face-landmarker")
    yield found
    found.close()


@pytest.fixture(scope="module")
def recogniser() -> Iterator[GestureNetwork]:
    found = opened(open_gestures, "gesture-recognizer")
    yield found
    found.close()


def test_a_hand_is_where_mediapipe_sees_it(picture: Image, hands: HandEstimator, recogniser: GestureNetwork) -> None:
    theirs = REFERENCE["hand"]
    points, world = np.array(theirs["points"], np.float32), np.array(theirs["world"], np.float32)
    (other,) = hands.hands([(picture, hand_region(points[:, :2]))])  # the answers go to and fro between two phases
    (pose,) = hands.hands([(picture, other.next_region)])
    assert pose.presence > 0.9
    # Mean distances: of a hand of 344 pixels, and of 17 cm.
    assert np.linalg.norm(pose.points[:, :2] - points[:, :2], axis=1).mean() < 0.3
    assert np.abs(pose.depth - (points[:, 2] - points[0, 2])).mean() < 0.5
    assert pose.world is not None
    assert np.linalg.norm(pose.world - world, axis=1).mean() < 5e-4
    # Found from far off, too.
    region = hands.region_from_box(np.array((450, 450, 250, 380), np.float32))
    for _ in range(6):
        (found,) = hands.hands([(picture, region)])
        region = found.next_region
    assert np.linalg.norm(found.points[:, :2] - points[:, :2], axis=1).mean() < 3
    assert theirs["handedness"][0] == "Right"
    assert 1 - pose.left == pytest.approx(theirs["handedness"][1], abs=0.01)

    embedding = recogniser.embed([Hand(pose.points, pose.depth, pose.world, pose.left)])
    assert embedding.shape == (1, gestures.EMBEDDING)
    (scores,) = recogniser.named(embedding)
    assert NAMED[int(scores.argmax())] == "Open_Palm"
    assert scores[NAMED.index("Open_Palm")] == pytest.approx(theirs["gestures"]["Open_Palm"], abs=0.02)


def test_the_palm_detector_points_to_the_hand(picture: Image, hands: HandEstimator) -> None:
    detector = opened(open_hand_detector, "palm-detector")
    (region,) = detector.hands(picture)
    assert detector.hands(np.full((120, 300, 3), 128, np.uint8)) == []
    detector.close()
    theirs = np.array(REFERENCE["hand"]["points"], np.float32)[:, :2]
    middle = (theirs.min(axis=0) + theirs.max(axis=0)) / 2
    assert np.linalg.norm(region[:2] - middle) < 0.1 * np.ptp(theirs, axis=0).max()
    assert region[2] == region[3] == pytest.approx(hand_region(theirs)[2], rel=0.25)
    (pose,) = hands.hands([(picture, region)])
    assert np.linalg.norm(pose.points[:, :2] - theirs, axis=1).mean() < 8  # of 344 pixels, at the first look


def test_a_face_is_where_mediapipe_sees_it(picture: Image, faces: FaceEstimator) -> None:
    theirs = REFERENCE["face"]
    points = np.array(theirs["points"], np.float32)
    region = faces.region_from_box(np.array((360, 150, 290, 360), np.float32))
    for _ in range(8):
        (pose,) = faces.faces([(picture, region)])
        region = pose.next_region
    ours = pose.points[:: theirs["every"]]
    assert pose.presence > 0.95
    assert np.linalg.norm(ours[:, :2] - points[:, :2], axis=1).mean() < 0.5  # of a face of 374 pixels
    assert np.abs(pose.depth[:: theirs["every"]] - points[:, 2]).mean() < 0.5
    (shapes,) = faces.blendshapes([pose.points])
    assert list(shapes) == list(BLENDSHAPES[1:])
    assert max(abs(shapes[name] - theirs["blendshapes"][name]) for name in shapes) < 0.03
    assert min(shapes["eyeBlinkLeft"], shapes["eyeBlinkRight"]) > 0.4 > shapes["jawOpen"]
    # The person's right is on the left of the image, and an eyelid is above the eye's lower edge.
    layout = skeletons.get("face478")
    assert pose.points[layout.index("right_iris-468"), 0] < pose.points[layout.index("left_iris-473"), 0]


def test_there_is_neither_in_a_wall(hands: HandEstimator, faces: FaceEstimator) -> None:
    wall = np.full((200, 200, 3), 128, np.uint8)
    region = np.array((100, 100, 150, 150, 0), np.float32)
    assert hands.hands([(wall, region)])[0].presence < 0.3
    assert faces.faces([(wall, region)])[0].presence < 0.3
    assert hands.hands([]) == faces.faces([]) == []


def test_several_at_once_are_the_same_as_one_by_one(picture: Image, hands: HandEstimator) -> None:
    crops = [(picture, np.array((580 + 20 * i, 690, 600, 600, 0.1 * i), np.float32)) for i in range(3)]
    together = hands.hands(crops)
    for crop, pose in zip(crops, together, strict=True):
        np.testing.assert_array_equal(hands.hands([crop])[0].points, pose.points)
    assert hands.batch_independent


def test_the_next_region_turns_with_the_hand() -> None:
    upright = np.array(REFERENCE["hand"]["points"], np.float32)[:, :2]
    region = hand_region(upright)
    for angle in (0.7, -2.0, 3.0):
        c, s = np.cos(angle), np.sin(angle)
        turned = upright @ np.array([[c, s], [-s, c]], np.float32)
        there = hand_region(turned)
        np.testing.assert_allclose(there[2:4], region[2:4], rtol=1e-4)
        assert np.angle(np.exp(1j * (there[4] - region[4] - angle))) == pytest.approx(0, abs=1e-5)
        np.testing.assert_allclose(there[:2], [c * region[0] - s * region[1], s * region[0] + c * region[1]], rtol=1e-3)


def test_the_eyes_of_the_next_face_are_level() -> None:
    points = np.zeros((478, 2), np.float32)
    points[33], points[263], points[152] = (100, 100), (200, 200), (100, 250)
    points[points.sum(axis=1) == 0] = (150, 150)
    np.testing.assert_allclose(mesh_region(points), [150, 175, 225, 225, np.pi / 4], rtol=1e-5)


# --- gestures of one's own ---


def examples() -> gestures.Examples:
    """Two gestures in two recordings each, at right angles to each other."""
    rng = np.random.default_rng(0)
    vectors, labels, groups = [], [], []
    for axis, label in enumerate(("ok", "stop")):
        for recording in range(2):
            for _ in range(4):
                vector = rng.normal(0, 0.02, gestures.EMBEDDING)
                vector[axis] += 1
                vectors.append(vector)
                labels.append(label)
                groups.append(f"{label}/{recording}")
    return gestures.Examples(np.array(vectors, np.float32), labels, groups)


def test_the_nearest_examples_vote_and_nothing_far_does() -> None:
    known = examples()
    direction = np.zeros(gestures.EMBEDDING, np.float32)
    direction[1] = 3
    assert known.vote(direction, 5) == pytest.approx({"stop": 1.0})
    direction[1], direction[7] = 0, 3
    assert known.vote(direction, 5) == {}
    assert gestures.leave_one_out(known, 3) == {"ok": (8, 8), "stop": (8, 8)}


def test_examples_are_kept_in_a_file(tmp_path: Path) -> None:
    known = examples()
    known.save(tmp_path / "mine.npz")
    back = gestures.load(tmp_path / "mine.npz")
    np.testing.assert_allclose(back.vectors, known.vectors, atol=1e-6)
    assert (back.labels, back.groups) == (known.labels, known.groups)
    assert back.reach == pytest.approx(known.reach)
    (tmp_path / "other.npz").write_bytes(b"PK")
    with pytest.raises(Exception, match="streamkp gestures learn"):
        gestures.load(tmp_path / "other.npz")
    with pytest.raises(Exception, match="there is no file"):
        gestures.load(tmp_path / "none.npz")
