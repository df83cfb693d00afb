from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamkp import skeletons
from streamkp.errors import ModelError, UsageError
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import StreamContext
from streamkp.models import checkpoint, zoo
from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person
from streamkp.stages.lift_3d import Lift3D
from streamkp.stages.window import WindowStage
from streamkp.testing import Collect, Collected, build, make_packet, open_stage
from tests.motion.test_extremities import world

BOX = np.array((0, 0, 100, 300), np.float32)


@pytest.fixture(autouse=True)
def one_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further batch size takes a second to compile; the runtime's own tests have several."""
    monkeypatch.setattr("streamkp.stages.lift_3d.LIVE_BUCKETS", (1,))


def test_lifts_everybody_of_the_batch_and_says_which_frame() -> None:
    stage = open_stage(Lift3D)
    assert isinstance(stage, Lift3D)
    world = [np.full((33, 3), float(i), np.float32) for i in range(3)]
    seen = [Person(i, "tracked", BOX, 0.9, world=Keypoints3D("blazepose33", world[i], 0)) for i in range(3)]
    predicted = Person(7, "predicted", BOX, 0.1)
    batch = [
        make_packet("a", 4, persons=seen[:2]),
        make_packet("b", 9, persons=[seen[2], predicted]),
        make_packet("c", 1),
    ]
    out = stage.process(batch)
    assert list(out) == batch
    for i, seq in enumerate((4, 4, 9)):
        keypoints = seen[i].keypoints_3d
        assert keypoints is not None
        assert (keypoints.skeleton, keypoints.space, keypoints.frame_seq) == ("blazepose33", "camera", seq)
        np.testing.assert_array_equal(keypoints.points, world[i])
    assert predicted.keypoints_3d is None


def test_an_unknown_lifter_is_an_error_before_the_graph_starts() -> None:
    with pytest.raises(ModelError, match="did you mean 'blazepose-world'"):
        open_stage(Lift3D, {"model": "blazepose-wrld"})


def test_a_lifter_of_single_frames_cannot_look_ahead() -> None:
    with pytest.raises(UsageError, match="lookahead must be 0, not 5"):
        open_stage(Lift3D, {"lookahead": 5})


def test_what_is_wrong_with_one_stream_costs_the_others_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A network with random weights; one camera's keypoints are not numbers from frame 3 on."""
    file = tmp_path / "lifter.safetensors"
    checkpoint.write(zoo.create("videopose3d-27f", channels=16), file, "videopose3d-27f")
    points = np.random.default_rng(0).uniform(0, 400, (10, 17, 3)).astype(np.float32)
    broken = points.copy()
    broken[3:, 0, 0] = np.nan

    def walk(poses: np.ndarray) -> Callable[[StreamContext], Iterator[Packet]]:
        def script(context: StreamContext) -> Iterator[Packet]:
            yield make_packet(context.stream, 0)  # nobody yet
            for seq, pose in enumerate(poses, start=1):
                person = Person(1, "tracked", BOX, 0.9, keypoints_2d=Keypoints2D("h36m17", pose))
                yield make_packet(context.stream, seq, pts=seq * 20_000_000, persons=[person], tracks=frozenset({1}))

        return script

    engine, out = build(
        {"window": {"use": WindowStage}, "lift": {"use": Lift3D, "model": str(file), "runtime": "torch"}},
        {"good": walk(points), "bad": walk(broken)},
    )
    engine.start()
    engine.wait()
    assert out.seqs("good") == out.seqs("bad") == list(range(11))
    lifted = {
        stream: [p.seq for p in out.packets if p.stream == stream for person in p.persons if person.keypoints_3d]
        for stream in ("good", "bad")
    }
    assert lifted == {"good": list(range(1, 11)), "bad": [1, 2, 3]}
    figures = engine.stats()["stages"]["lift"]
    assert (figures["good"]["errors"], figures["bad"]["errors"]) == (0, 7)
    assert "lift has no result for frame 4 of stream bad: ModelError" in caplog.text


def test_a_lifter_of_the_shipped_kind_with_a_stride(lifter_onnx: Path) -> None:
    points = np.random.default_rng(0).uniform(0, 400, (20, 17, 3)).astype(np.float32)
    points[..., 2] = 0.9

    def walk(context: StreamContext) -> Iterator[Packet]:
        for seq, pose in enumerate(points):
            person = Person(1, "tracked", BOX, 0.9, keypoints_2d=Keypoints2D("h36m17", pose))
            pts = round(seq * 1e9 / 30)
            yield make_packet(context.stream, seq, pts=pts, persons=[person], tracks=frozenset({1}))

    lift = {"use": Lift3D, "model": str(lifter_onnx), "lookahead": 1, "stride": 3, "trajectory": True, "threads": 1}
    window = {"use": WindowStage, "frames": 96}
    engine, out = build({"window": window, "lift": lift}, {"a": walk, "b": walk})
    engine.start()
    engine.wait()
    for stream in ("a", "b"):
        poses = [person.keypoints_3d for p in out.packets if p.stream == stream for person in p.persons]
        assert [pose.frame_seq for pose in poses if pose] == [0, 0, 0, *range(17)]
        assert all(pose and pose.root is not None and np.isfinite(pose.points).all() for pose in poses)


def test_stride_is_for_networks_of_whole_windows(tmp_path: Path) -> None:
    file = tmp_path / "lifter.safetensors"
    checkpoint.write(zoo.create("tpnet", channels=16, trajectory_channels=16, filter_widths=(3, 3)), file, "tpnet")
    with pytest.raises(UsageError, match="stride is for HDFormer networks"):
        open_stage(Lift3D, {"model": "tpnet", "checkpoint": str(file), "stride": 2})
    with pytest.raises(ValueError, match="less than or equal to 48"):
        open_stage(Lift3D, {"model": "hdformer-streamkp", "stride": 49})


def test_the_old_name_of_stride_works_and_says_the_new_one(caplog: pytest.LogCaptureFixture) -> None:
    assert Lift3D.Options.model_validate({"hop": 4}).stride == 4
    assert "the option hop is now called stride" in caplog.text
    with pytest.raises(ValueError, match="hop is the old name of stride: leave it out"):
        Lift3D.Options.model_validate({"hop": 4, "stride": 2})


@pytest.mark.parametrize(("height", "factor"), [(None, 1.0), (1.7, 1.0), (0.85, 0.5)])
def test_bones_are_scaled_to_a_height(height: float | None, factor: float) -> None:
    stage = open_stage(Lift3D, {"height_m": height})
    assert isinstance(stage, Lift3D)
    world = np.random.default_rng(0).normal(size=(33, 3)).astype(np.float32)
    person = Person(1, "tracked", BOX, 0.9, world=Keypoints3D("blazepose33", world, 0))
    stage.process([make_packet(persons=[person])])
    assert person.keypoints_3d is not None
    np.testing.assert_allclose(person.keypoints_3d.points, factor * world, rtol=1e-6)


def test_a_file_that_does_not_exist_is_named() -> None:
    with pytest.raises(ModelError, match=r"cannot read the checkpoint nowhere\.pth"):
        open_stage(Lift3D, {"model": "tpnet", "checkpoint": "nowhere.pth"})


@pytest.fixture(scope="module")
def walk_clip(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of somebody who walks through the picture, at half the size."""
    video = cv2.VideoCapture(str(assets / "clips" / "sports2d_demo_walk_enter_leave.mp4"))
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (884, 496))
    for frame in range(108):
        read, image = video.read()
        assert read
        if frame >= 100:
            out.write(cv2.resize(image, (884, 496)))
    out.release()
    return path


@pytest.mark.parametrize("name", ["hdformer", "tpnet", "videopose3d"])
def test_the_ready_made_graphs_on_a_real_clip(name: str, walk_clip: Path, assets: Path, tmp_path: Path) -> None:
    """Real 2D networks; the lifter's weights are synthetic (random), so its poses mean nothing."""
    models = assets / "models"
    graph = Graph.from_yaml(
        name,
        overrides=[
            f"stages.detect.model={models / 'efficientdet_lite0_uint8_320.tflite'}",
            f"stages.keypoints.model={models / 'mediapipe' / 'pose_landmark_full.tflite'}",
            f"stages.lift.checkpoint={tmp_path / 'lifter.safetensors'}",
        ],
    )
    graph.only_streams({"walk": str(walk_clip)})
    lift = next(stage for stage in graph.validate().stages if stage.name == "lift")
    narrow = {"tpnet": {"channels": 16, "trajectory_channels": 16}, "hdformer": {}}
    network = zoo.create(lift.options.model, **narrow.get(name, {"channels": 16}))
    checkpoint.write(network, tmp_path / "lifter.safetensors", lift.options.model)

    out = Collected()
    engine = Engine(graph.without_sinks().add("collect", Collect, into=out).validate())
    engine.start()
    engine.wait()
    assert engine.errors == []
    assert out.seqs("walk") == list(range(8))
    found = [(p.seq, person.keypoints_3d) for p in out.packets for person in p.persons if person.keypoints_2d]
    assert len(found) >= 6
    for seq, pose in found:
        assert pose is not None
        assert (pose.skeleton, pose.points.shape, pose.root) == ("h36m17", (17, 3), None)
        # On a grid of 50 a second the newest row may be of the frame before, and hdformer gives the row before it.
        assert seq - 2 <= pose.frame_seq <= seq
        assert np.isfinite(pose.points).all()


@pytest.mark.parametrize("lookahead", [0, 2])
def test_hands_and_feet_are_of_the_frame_that_the_pose_describes(lookahead: int) -> None:
    """The 2D network's own estimate grows by 1 % with every frame, which scaling undoes but for the toes' place."""
    window = open_stage(WindowStage, {"frames": 96, "rate": 30, "skeleton": "h36m17"})
    stage = open_stage(Lift3D, {"model": "tcn-streamkp", "lookahead": lookahead})
    assert isinstance(window, WindowStage)
    assert isinstance(stage, Lift3D)
    full = world()
    flat = np.concatenate([full[:, :2] * 300 + [320, 300], np.ones((33, 1))], axis=1).astype(np.float32)
    for seq in range(8):
        seen = full.copy()
        toe = skeletons.get("blazepose33").index("left_foot_index")
        seen[toe, 0] += 0.01 * seq
        person = Person(1, "tracked", BOX, 0.9, Keypoints2D("blazepose33", flat))
        person.world = Keypoints3D("blazepose33", seen.astype(np.float32), seq)
        packet = make_packet("a", seq, pts=round(seq * 1e9 / 30), persons=[person], width=640, height=640)
        window.process(packet)
        stage.process([packet])
        pose = person.keypoints_3d
        assert pose is not None
        assert pose.extremities is not None
        assert pose.frame_seq == max(0, seq - lookahead)
        scale = np.linalg.norm(pose.points[5] - pose.points[4]) / np.linalg.norm(full[25] - full[23])
        at = pose.extremities.points[skeletons.get("extremities13").index("left_foot_index")]
        moved = (at - pose.points[6])[0] - (full[toe] - full[27])[0] * scale
        assert moved == pytest.approx(0.01 * pose.frame_seq * scale, abs=0.01)


def test_hands_and_feet_of_a_recording_are_kept_when_it_is_lifted_again() -> None:
    """A recording has no estimate of the 2D network, but the extremities of its own pose, here in a level world."""
    full = world()
    flat = np.concatenate([full[:, :2] * 300 + [320, 300], np.ones((33, 1))], axis=1).astype(np.float32)
    poses = []
    for recorded in (False, True):
        window = open_stage(WindowStage, {"frames": 96, "rate": 30, "skeleton": "h36m17"})
        stage = open_stage(Lift3D, {"model": "tcn-streamkp"})
        assert isinstance(window, WindowStage)
        assert isinstance(stage, Lift3D)
        for seq in range(3):
            person = Person(1, "tracked", BOX, 0.9, Keypoints2D("blazepose33", flat))
            if recorded:
                before = poses[seq]
                assert before is not None
                assert before.extremities is not None
                more = replace(before.extremities, points=before.extremities.points * np.float32([1, -1, -1]))
                person.keypoints_3d = replace(before, points=before.y_down * np.float32([1, -1, -1]), extremities=more)
            else:
                person.world = Keypoints3D("blazepose33", full.astype(np.float32), seq)
            packet = make_packet("a", seq, pts=round(seq * 1e9 / 30), persons=[person], width=640, height=640)
            window.process(packet)
            stage.process([packet])
            poses.append(person.keypoints_3d)
    for first, again in zip(poses[:3], poses[3:], strict=True):
        assert first is not None
        assert again is not None
        assert first.extremities is not None
        assert again.extremities is not None
        assert again.extremities.points == pytest.approx(first.extremities.points, abs=1e-4)
        assert again.extremities.source == "blazepose-world"
