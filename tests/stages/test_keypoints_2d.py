from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from streamkp.graph.stage import Feedback
from streamkp.packet import Detections, FloatArray, Image, Packet
from streamkp.poses import Pose, Region
from streamkp.stages import keypoints_2d
from streamkp.stages.keypoints_2d import Keypoints2DStage
from streamkp.testing import FRAME, make_packet, open_stage
from tests.motion.scene import HEIGHT, WIDTH, Scene, region_of

STREAMS = ["a", "b", "c"]


class SceneEstimator:
    """A network that knows the scene of every stream; the first pixel of an image says which stream and frame."""

    name, skeleton = "scene", "blazepose33"

    def __init__(self, scenes: dict[str, Scene]) -> None:
        self.scenes = scenes
        self.calls: list[int] = []
        self.closed = False

    def region_from_box(self, box: FloatArray) -> Region:
        return region_of(box)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        return region_of(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        self.calls.append(len(crops))
        poses = []
        for image, region in crops:
            stream, high, low = (int(v) for v in image[0, 0])
            pose = self.scenes[STREAMS[stream]].pose(region, (256 * high + low) * FRAME / 1e9)
            pose.world = np.zeros((33, 3), np.float32)
            poses.append(pose)
        return poses

    def close(self) -> None:
        self.closed = True


def still(*xs: float) -> Scene:
    return Scene([lambda t, x=x: (x, 360) for x in xs])  # type: ignore[misc]


class Harness:
    """The stage over scenes, one batch per frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scenes: dict[str, Scene], **options: Any) -> None:
        self.scenes = scenes
        self.estimator = SceneEstimator(scenes)
        monkeypatch.setattr(keypoints_2d, "open_estimator", lambda model, **kw: self.estimator)
        self.stage = open_stage(Keypoints2DStage, options)
        assert isinstance(self.stage, Keypoints2DStage)

    def packet(self, stream: str, seq: int, *, detect: bool = False, **fields: Any) -> Packet:
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[0, 0] = STREAMS.index(stream), seq // 256, seq % 256
        packet = make_packet(stream, seq, width=WIDTH, height=HEIGHT, **({"image": image} | fields))
        if detect:
            boxes = self.scenes[stream].detect(seq * FRAME / 1e9)
            packet.detections = Detections(boxes, np.full(len(boxes), 0.9, np.float32))
        return packet

    def run(self, *packets: Packet) -> list[Packet]:
        assert isinstance(self.stage, Keypoints2DStage)
        return list(self.stage.process(packets))


def test_a_new_person_costs_two_crops_and_a_known_one_costs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(300, 900)})
    for seq in range(12):
        harness.run(harness.packet("a", seq, detect=seq % 10 == 0))
    assert harness.estimator.calls == [2, 2] + [2] * 11


def test_all_streams_share_one_call_per_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(300, 900), "b": still(500), "c": still()})
    first = harness.run(*(harness.packet(s, 0, detect=True) for s in STREAMS))
    second = harness.run(*(harness.packet(s, 1) for s in STREAMS))
    assert harness.estimator.calls == [3, 3, 3]
    assert [[p.track for p in packet.persons] for packet in first] == [[1, 2], [1], []]
    assert [[p.state for p in packet.persons] for packet in second] == [["tracked"] * 2, ["tracked"], []]
    assert [packet.tracks for packet in second] == [{1, 2}, {1}, set()]
    assert second[0].tracks is first[0].tracks


def test_persons_carry_what_the_network_says(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(640)})
    (packet,) = harness.run(harness.packet("a", 5, detect=True))
    (person,) = packet.persons
    assert person.state == "new"
    assert person.score == pytest.approx(0.95)
    assert person.keypoints_2d is not None
    assert person.keypoints_2d.skeleton == "blazepose33"
    assert person.keypoints_2d.points.shape == (33, 3)
    assert person.keypoints_2d.points.dtype == person.box.dtype == np.float32
    assert person.world is not None
    assert person.world.frame_seq == 5
    box = harness.scenes["a"].detect(0)[0]
    np.testing.assert_allclose(person.box, box, atol=0.11 * box[3])  # joints lie inside the body


def test_an_unseen_person_is_predicted_faintly_and_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": Scene([lambda t: (300 + 90 * t, 360) if t < 1.0 else None])})
    harness.stage.context.feedback_out = feedback = Feedback()
    for seq in range(30):
        (packet,) = harness.run(harness.packet("a", seq, detect=seq % 5 == 0))
        before = packet.persons[0]
    assert feedback.take(packet) is None
    (packet,) = harness.run(harness.packet("a", 33))
    (person,) = packet.persons
    assert (person.track, person.state) == (1, "predicted")
    assert person.score < 0.3
    assert person.world is None
    assert person.keypoints_2d is not None
    assert before.keypoints_2d is not None
    assert person.keypoints_2d.points[:, 2].max() < 0.3
    moved = person.keypoints_2d.points[:, 0] - before.keypoints_2d.points[:, 0]
    np.testing.assert_allclose(moved, 12, atol=4)  # four frames further, at 3 pixels a frame
    assert feedback.take(packet) is True
    (packet,) = harness.run(harness.packet("a", 70))
    assert packet.persons == []
    assert packet.tracks == frozenset()


def test_without_any_detector_the_whole_image_is_one_persons_box(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": Scene([lambda t: (640, 360) if t > 0.1 else None])})
    seen = [[p.track for p in harness.run(harness.packet("a", seq))[0].persons] for seq in range(8)]
    assert seen == [[]] * 4 + [[1]] * 4


def test_batches_begun_before_the_one_before_is_done_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that works in the background, and one that does not."""

    class Background(SceneEstimator):
        def __init__(self, scenes: dict[str, Scene]) -> None:
            super().__init__(scenes)
            self.crowded: list[bool] = []

        def start(self, crops: Sequence[tuple[Image, Region]], *, crowded: bool) -> Callable[[], list[Pose]]:
            self.crowded.append(crowded)
            return lambda: self.estimate(crops)

    scenes = {name: still(300 + 100 * i, 900) for i, name in enumerate("abc")}
    found = []
    for background in (False, True):
        harness = Harness(monkeypatch, scenes)
        if background:
            harness.stage._estimator = estimator = Background(scenes)
        people = []
        for seq in range(3):
            given = {name: harness.packet(name, seq, detect=seq == 0) for name in "abc"}
            first = harness.stage.begin([given["a"], given["b"]], crowded=False)
            second = harness.stage.begin([given["c"]], crowded=True)
            people += [
                (p.stream, person.track, person.box.tolist())
                for p in (*first.result(), *second.result())
                for person in p.persons
            ]
        found.append(people)
        assert not background or estimator.crowded == [False, True] * 3
    assert len(found[0]) == 3 * 3 * 2
    assert found[0] == found[1]


def test_with_a_detector_nobody_is_made_up_between_its_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(640)})
    harness.stage.context.feedback_out = Feedback()
    assert harness.run(harness.packet("a", 0))[0].persons == []
    assert harness.estimator.calls == []


def test_frames_without_an_image_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(640)})
    (packet,) = harness.run(harness.packet("a", 0, detect=True))
    (empty,) = harness.run(harness.packet("a", 1, image=None))
    assert empty.persons == []
    assert empty.tracks == packet.tracks == {1}


def test_a_new_epoch_forgets_tracks_but_not_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {"a": still(640), "b": still(640)})
    harness.run(harness.packet("a", 0, detect=True))
    for state in harness.stage.context.states:  # as the engine does
        state.clear()
    (packet,) = harness.run(harness.packet("a", 1, detect=True, epoch=1))
    assert [p.track for p in packet.persons] == [2]
    harness.stage.stream_ended("a")
    for state in harness.stage.context.states:
        state.clear()
    (packet,) = harness.run(harness.packet("a", 2, detect=True))
    assert [p.track for p in packet.persons] == [1]


def test_closing_lets_go_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(monkeypatch, {})
    harness.stage.close()
    assert harness.estimator.closed
