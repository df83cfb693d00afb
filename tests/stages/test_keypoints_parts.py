"""Hands and faces: where they are looked for, what is published, and what cannot work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamkp import skeletons, wire
from streamkp.errors import UsageError
from streamkp.models import zoo
from streamkp.models.pose2d.hand_landmarker import HandPose
from streamkp.packet import FloatArray, Keypoints2D, Packet, Person
from streamkp.stages.keypoints_parts import KeypointsParts
from streamkp.testing import make_packet, open_stage
from streamkp.vision.body_parts import face_region, hand_box

WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeypointsParts]:
    """The stage with networks of random weights: what they find is noise, but inside the crop that they were given."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for name in ("hrnet-w18-hand21", "mobilenetv2-face106"):
        save_file(dict(zoo.create(name).state_dict()), folder / f"{name}.safetensors")
    stage = open_stage(
        KeypointsParts,
        {
            "hands": str(folder / "hrnet-w18-hand21.safetensors"),
            "face": str(folder / "mobilenetv2-face106.safetensors"),
            "runtime": "torch",
            "device": "cpu",
        },
    )
    assert isinstance(stage, KeypointsParts)
    yield stage
    stage.close()


def body(x: float, skeleton: str = "coco17") -> FloatArray:
    """Somebody who looks at us, about 300 pixels tall, the right arm stretched out, the left one hidden."""
    layout = skeletons.get(skeleton)
    points = np.full((len(layout), 3), (x, 240, 0), np.float32)
    seen = {
        "nose": (0, 112), "left_eye": (8, 104), "right_eye": (-8, 104), "left_ear": (18, 106), "right_ear": (-18, 106),
        "left_shoulder": (35, 150), "right_shoulder": (-35, 150), "right_elbow": (-80, 150), "right_wrist": (-120, 150),
        "left_hip": (22, 240), "right_hip": (-22, 240),
    }  # fmt: skip
    for joint, (dx, y) in seen.items():
        if joint in layout.joints:
            points[layout.index(joint)] = (x + dx, y, 0.9)
    return points


def person(track: int, points: FloatArray, skeleton: str = "coco17", **fields: Any) -> Person:
    box = np.array((0, 0, 1, 1), np.float32)
    return Person(track, fields.get("state", "tracked"), box, 0.9, Keypoints2D(skeleton, points))


def packet(stream: str, *persons: Person, **fields: Any) -> Packet:
    made = make_packet(stream, width=WIDTH, height=HEIGHT, **fields)
    made.persons = list(persons)
    return made


@pytest.mark.parametrize("skeleton", ["coco17", "blazepose33", "wholebody133"])
def test_the_body_says_where_hand_and_face_are(skeleton: str) -> None:
    layout = skeletons.get(skeleton)
    points = body(300, skeleton)
    assert hand_box(points, layout, "left", 0.3) is None
    x, y, w, h = hand_box(points, layout, "right", 0.3)  # type: ignore[misc]
    # A little beyond the wrist at 180, on the line of the forearm, and as large as it.
    assert (x + w / 2, y + h / 2) == pytest.approx((180 - 0.33 * 40, 150))
    assert w == h == pytest.approx(40.5)
    cx, cy, w, h, angle = face_region(points, layout, 0.3)  # type: ignore[misc]
    assert (cx, angle) == pytest.approx((300, 0))
    assert w == h == pytest.approx(36)  # ear to ear
    assert cy == pytest.approx(104 + 0.3 * 36)
    assert face_region(points, layout, 0.95) is None


def test_a_turned_head_gives_a_turned_region() -> None:
    turn = np.deg2rad(30)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = body(300)
    points[:, :2] = (points[:, :2] - (300, 104)) @ rotation.T + (300, 104)
    region = face_region(points, skeletons.get("coco17"), 0.3)
    assert region is not None
    assert region[4] == pytest.approx(turn, abs=1e-5)
    np.testing.assert_allclose(region[:2], rotation @ (0, 0.3 * 36) + (300, 104), atol=1e-3)


def test_a_hand_of_ones_own_is_better_than_the_arm() -> None:
    layout = skeletons.get("wholebody133")
    points = body(300, "wholebody133")
    hand = slice(layout.index("left_hand_root"), layout.index("left_hand_root") + 21)
    points[hand] = np.column_stack([np.linspace(400, 440, 21), np.linspace(200, 230, 21), np.full(21, 0.8)])
    np.testing.assert_allclose(hand_box(points, layout, "left", 0.3), (396, 196, 48, 38), atol=1e-3)


def test_everybody_of_all_streams(stage: KeypointsParts) -> None:
    away = person(3, body(-2000))
    batch = [
        packet("a", person(1, body(200)), person(2, body(450)), away, person(4, body(300), state="predicted")),
        packet("b", person(1, body(320, "blazepose33"), "blazepose33")),
        packet("c", person(1, body(320)), image=None),
    ]
    assert list(stage.process(batch)) == batch
    for one, x in ((batch[0].persons[0], 200), (batch[0].persons[1], 450), (batch[1].persons[0], 320)):
        assert set(one.extra) == {"hands", "face"}
        assert set(one.extra["hands"]) == {"right"}
        hand = one.extra["hands"]["right"]
        assert (hand.shape, hand.dtype) == ((21, 3), np.float32)
        assert np.abs(hand[:, 0] - (x - 133)).max() < 45  # within the crop, or just outside where nothing was found
        face = one.extra["face"]
        assert (face["points"].shape, face["points"].dtype) == ((106, 3), np.float32)
        assert np.abs(face["points"][:, :2].mean(axis=0) - (x, 115)).max() < 60
        assert (face["angles"].shape, face["angles"].dtype) == ((3,), np.float32)
        assert np.isfinite(face["angles"]).all()
        assert np.isfinite(face["turn"])
    assert away.extra == batch[0].persons[3].extra == batch[2].persons[0].extra == {}


def test_what_one_batch_finds_is_what_each_alone_finds(stage: KeypointsParts) -> None:
    together = [packet("a", person(1, body(200))), packet("b", person(1, body(450)))]
    apart = [packet("a", person(1, body(200))), packet("b", person(1, body(450)))]
    rng = np.random.default_rng(0)
    for one, other in zip(together, apart, strict=True):
        one.image = other.image = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    stage.process(together)
    for one in apart:
        stage.process([one])
    for one, other in zip(together, apart, strict=True):
        mine, theirs = one.persons[0].extra, other.persons[0].extra
        np.testing.assert_allclose(mine["face"]["points"], theirs["face"]["points"], atol=0.05)
        np.testing.assert_allclose(mine["hands"]["right"], theirs["hands"]["right"], atol=0.05)


@pytest.mark.parametrize("format", ["msgpack", "json"])
def test_parts_are_published(stage: KeypointsParts, format: wire.Format) -> None:
    made = packet("a", person(1, body(300)))
    stage.process([made])
    (received,) = wire.decode(wire.encode(wire.message(made, 0, 0), format), format)["persons"]
    extra = made.persons[0].extra
    atol = 0 if format == "msgpack" else 0.0051  # JSON has hundredths of a pixel
    np.testing.assert_allclose(received["hands"]["right"], extra["hands"]["right"], atol=atol)
    np.testing.assert_allclose(received["face"]["points"], extra["face"]["points"], atol=atol)
    np.testing.assert_allclose(received["face"]["angles"], extra["face"]["angles"], atol=atol)
    assert received["face"]["turn"] == pytest.approx(extra["face"]["turn"])
    assert received["keypoints_2d"].keys() == {"skeleton", "points"}  # what every model publishes, unchanged


def test_a_skeleton_without_eyes_is_refused_with_advice(stage: KeypointsParts) -> None:
    points = body(300, "body15")
    with pytest.raises(UsageError, match=r"body15 has no eyes and nose .* set face to null"):
        stage.process([packet("a", person(1, points, "body15"))])


def test_a_network_of_other_joints_is_refused(assets: Path) -> None:
    body_network = str(assets / "models" / "mediapipe" / "pose_landmark_full.tflite")
    with pytest.raises(UsageError, match="finds blazepose33; a network that finds hand21"):
        open_stage(KeypointsParts, {"hands": body_network, "face": None})


# --- what is followed by its own points: the networks are stand-ins ---


class Follower:
    """Sees a hand wherever one is told to be, and knows which hand it is."""

    follows = True
    skeleton = "hand21"

    def __init__(self, hands: dict[str, tuple[float, float]]) -> None:
        self.hands = hands  # side to place
        self.looked: list[FloatArray] = []

    def estimate(self, crops: Any) -> list[HandPose]:
        out = []
        for _, region in crops:
            self.looked.append(region.copy())
            near = {
                side: np.hypot(region[0] - x, region[1] - y) for side, (x, y) in self.hands.items()
            }  # of the middle of the region
            side = min(near, key=lambda name: near[name]) if near else ""
            there = bool(near) and near[side] < region[2] / 2
            x, y = self.hands.get(side, (0.0, 0.0))
            points = np.tile(np.array((x, y, there), np.float32), (21, 1))
            points[:, 0] += np.arange(21)
            world = np.zeros((21, 3), np.float32)
            out.append(
                HandPose(points, float(there), np.array((x, y, 60, 60, 0), np.float32), world, float(side == "left"))
            )
        return out

    def close(self) -> None:
        pass


class Palms:
    """Sees hands in the whole image, where one is told to be."""

    def __init__(self, *places: tuple[float, float]) -> None:
        self.places = places
        self.looks = 0

    def hands(self, image: Any) -> list[FloatArray]:
        self.looks += 1
        return [np.array((x, y, 80, 80, 0), np.float32) for x, y in self.places]

    def close(self) -> None:
        pass


def following(
    monkeypatch: pytest.MonkeyPatch, hands: dict[str, tuple[float, float]], palms: Palms | None = None
) -> tuple[KeypointsParts, Follower]:
    network = Follower(hands)
    monkeypatch.setattr("streamkp.stages.keypoints_parts.open_estimator", lambda *_, **__: network)
    monkeypatch.setattr("streamkp.models.registry.open_hand_detector", lambda *_, **__: palms)
    options = {"hands": "hand-landmarker", "face": None, "palms": None if palms is None else "palm-detector"}
    stage = open_stage(KeypointsParts, options)
    assert isinstance(stage, KeypointsParts)
    return stage, network


def test_a_hand_is_looked_for_twice_and_then_followed_by_its_own_points(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, network = following(monkeypatch, {"right": (175.0, 150.0)})
    made = packet("a", person(1, body(300)))
    stage.process([made])
    assert [len(network.looked), float(network.looked[1][2])] == [2, 60]  # where the body points, then around it
    extra = made.persons[0].extra
    assert extra["hands"].keys() == extra["hands_world"].keys() == extra["hands_depth"].keys() == {"right"}
    assert extra["handedness"] == {"right": 1.0}
    network.hands["right"] = (190.0, 150.0)
    stage.process([packet("a", person(1, body(300)), seq=1)])
    assert len(network.looked) == 3
    np.testing.assert_allclose(network.looked[2], (175, 150, 60, 60, 0))


def test_a_hand_that_is_gone_is_absent_and_looked_for_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, network = following(monkeypatch, {"right": (175.0, 150.0)})
    stage.process([packet("a", person(1, body(300)))])
    network.hands.clear()
    gone = packet("a", person(1, body(300)), seq=1)
    stage.process([gone])
    assert "hands" not in gone.persons[0].extra
    network.hands["right"] = (175.0, 150.0)
    stage.process([packet("a", person(1, body(300)), seq=2)])
    assert len(network.looked) == 2 + 1 + 2


def test_a_hand_that_strays_from_its_arm_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, network = following(monkeypatch, {"right": (175.0, 150.0)})
    stage.process([packet("a", person(1, body(300)))])
    moved = body(400)  # the body is elsewhere, the hand that was followed is not its own
    network.hands["right"] = (275.0, 150.0)
    made = packet("a", person(1, moved), seq=1)
    stage.process([made])
    assert made.persons[0].extra["hands"]["right"][0, 0] == pytest.approx(275)


def test_two_looks_at_one_hand_leave_it_to_the_side_that_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _ = following(monkeypatch, {"right": (175.0, 150.0)})
    both = body(300)
    layout = skeletons.get("coco17")
    for joint in ("elbow", "wrist"):  # both hands before the body, one over the other
        both[layout.index(f"left_{joint}")] = both[layout.index(f"right_{joint}")]
    made = packet("a", person(1, both))
    stage.process([made])
    assert made.persons[0].extra["hands"].keys() == {"right"}


def test_hands_elsewhere_are_found_in_the_whole_image_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    palms = Palms((370.0, 200.0), (30.0, 400.0))  # beside somebody whose arms are not seen, and nobody's
    stage, network = following(monkeypatch, {"left": (370.0, 200.0), "right": (30.0, 400.0)}, palms)
    armless = body(300)
    layout = skeletons.get("coco17")
    for joint in ("elbow", "wrist"):
        armless[layout.index(f"right_{joint}"), 2] = 0
    found = []
    for seq in range(25):
        someone = person(1, armless)
        someone.box = np.array((240, 90, 120, 300), np.float32)
        made = packet("a", someone, seq=seq)
        stage.process([made])
        found.append(made.persons[0].extra.get("hands", {}).keys())
    assert all(sides == {"left"} for sides in found)
    assert palms.looks == 3  # frames 0, 10 and 20: the right hand is still lacking
    assert len(network.looked) == 2 + 24  # twice at first, then followed; what is known already is left alone


def test_no_palms_are_looked_for_while_both_hands_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    palms = Palms()
    stage, _ = following(monkeypatch, {"right": (175.0, 150.0), "left": (425.0, 150.0)}, palms)
    both = body(300)
    layout = skeletons.get("coco17")
    both[layout.index("left_elbow")], both[layout.index("left_wrist")] = (380, 150, 0.9), (420, 150, 0.9)
    for seq in range(15):
        stage.process([packet("a", person(1, both), seq=seq)])
    assert palms.looks == 0
