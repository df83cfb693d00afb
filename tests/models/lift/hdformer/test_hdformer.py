"""A lifter of the shipped kind: one ONNX file, run by OpenVINO without torch, or by the network in torch.

The weights are random, the channels few: the shipped file is measured elsewhere (`streamkp eval lifter`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from streamkp.errors import ModelError, UsageError
from streamkp.hub import catalog
from streamkp.models import checkpoint
from streamkp.models.lift.hdformer import person_view
from streamkp.models.lift.lifters import Lifter
from streamkp.models.networks.hdformer import HDFormer
from streamkp.motion.camera import Intrinsics, canonical_coordinates
from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person
from streamkp.stages.window import WindowStage
from streamkp.testing import make_packet, open_stage
from tests.lifting import open_lifter

SIZE = (640, 480)
CAMERA = Intrinsics((500.0, 510.0), (300.0, 260.0))
BOX = np.zeros(4, np.float32)


def walk(seed: int = 0, frames: int = 120) -> np.ndarray:
    """[T, 17, 3]: pixels and scores."""
    random = np.random.default_rng(seed)
    steps = random.normal(scale=3, size=(frames, 17, 2)).cumsum(0)
    points = random.uniform(100, 400, (1, 17, 2)) + steps
    return np.concatenate([points, random.uniform(0.2, 1, (frames, 17, 1))], -1).astype(np.float32)


def packets(poses: np.ndarray, stream: str = "cam", rate: float = 30.0, **window: object) -> Iterator[Packet]:
    """A packet for each pose of one person, seen `rate` times a second, with its window of 30 Hz."""
    stage = open_stage(WindowStage, {"frames": 40, "rate": 30, **window})
    assert isinstance(stage, WindowStage)
    for seq, pose in enumerate(poses):
        person = Person(1, "tracked", BOX, 1.0, keypoints_2d=Keypoints2D("h36m17", pose))
        packet = make_packet(stream, seq, pts=round(seq * 1e9 / rate), persons=[person], width=SIZE[0], height=SIZE[1])
        yield stage.process(packet)


def lift(lifter: Lifter, *frames: Packet) -> list[Keypoints3D]:
    lifted = lifter.lift([(packet, person) for packet in frames for person in packet.persons])
    assert all(pose is not None for pose in lifted)
    return [pose for pose in lifted if pose is not None]


def expected(network: HDFormer, poses: np.ndarray, camera: Intrinsics, row: int) -> np.ndarray:
    """What the network gives for row `row` of the last 16 poses [16, 17, 3]."""
    canonical = canonical_coordinates(poses[None, ..., :2].astype(np.float64), camera)
    inputs, turns = person_view.network_inputs(canonical, poses[None, ..., 2])
    with torch.no_grad():
        raw = network(torch.from_numpy(inputs)).numpy()
    out = person_view.network_outputs(raw, turns)[0, row]
    return out - out[:1]


@pytest.mark.parametrize("runtime", ["auto", "torch"])
@pytest.mark.parametrize("lookahead", [0, 5])
def test_a_pose_of_the_window(lifter_network: HDFormer, lifter_onnx: Path, runtime: str, lookahead: int) -> None:
    lifter = open_lifter(
        str(lifter_onnx), runtime=runtime, lookahead=lookahead, flip=False, cameras={"cam": CAMERA}, threads=1
    )
    assert (lifter.name, lifter.frames, lifter.rate, lifter.lookahead) == ("lifter.onnx", 16, 30.0, lookahead)
    poses = walk()
    *_, last = packets(poses)
    (pose,) = lift(lifter, last)
    assert (pose.skeleton, pose.space, pose.frame_seq, pose.root) == ("h36m17", "camera", 119 - lookahead, None)
    np.testing.assert_allclose(pose.points, expected(lifter_network, poses[-16:], CAMERA, 15 - lookahead), atol=1e-4)


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_the_mirrored_person(lifter_network: HDFormer, lifter_onnx: Path, runtime: str) -> None:
    poses = walk()
    *_, last = packets(poses)
    lifter = open_lifter(str(lifter_onnx), runtime=runtime, cameras={"cam": CAMERA}, threads=1)
    once = lift(lifter, last)[0].points
    order = list(person_view._MIRROR)
    turned = poses[:, order].copy()
    turned[..., 0] = 2 * CAMERA.centre[0] - turned[..., 0]
    *_, mirrored = packets(turned)
    other = lift(lifter, mirrored)[0].points
    np.testing.assert_allclose(other[order] * (-1, 1, 1), once, atol=2e-4)
    plain = open_lifter(str(lifter_onnx), runtime=runtime, flip=False, cameras={"cam": CAMERA}, threads=1)
    assert np.abs(lift(plain, last)[0].points - once).max() > 1e-3


def test_everybody_at_once_and_from_the_first_frame_on(lifter_onnx: Path) -> None:
    lifter = open_lifter(str(lifter_onnx), threads=1)
    people = [list(packets(walk(i, frames), f"cam{i}"))[-1] for i, frames in enumerate((1, 5, 130))]
    together = lift(lifter, *people)
    for packet, pose in zip(people, together, strict=True):
        (alone,) = lift(lifter, packet)
        assert pose.frame_seq == packet.seq
        np.testing.assert_allclose(pose.points, alone.points, atol=1e-4)


def test_where_the_person_is(lifter_onnx: Path) -> None:
    poses = walk()
    *_, last = packets(poses)
    lifter = open_lifter(str(lifter_onnx), trajectory=True, cameras={"cam": CAMERA}, threads=1)
    (pose,) = lift(lifter, last)
    assert pose.root is not None
    assert (pose.root.shape, pose.root.dtype) == ((3,), np.float32)
    nowhere = poses.copy()
    nowhere[..., :2] = 200  # all joints in one place: what they are is one thing, where is another
    *_, last = packets(nowhere)
    (pose,) = lift(lifter, last)
    assert pose.root is None
    assert np.isfinite(pose.points).all()


def test_without_torch(lifter_onnx: Path, tmp_path: Path) -> None:
    poses = tmp_path / "poses.npy"
    np.save(poses, walk())
    program = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from streamkp.models.lift.base import LifterOptions
from streamkp.models.lift.lifters import open_lifter
from streamkp.packet import Person, PoseWindow
from streamkp.runtimes.base import RunOptions
from streamkp.testing import make_packet
lifter = open_lifter({str(lifter_onnx)!r}, LifterOptions(stride=1, trajectory=True, run=RunOptions(threads=1)), {{}})
times = np.arange(16)
window = PoseWindow("h36m17", np.load({str(poses)!r})[-16:], times, times, 16, *{SIZE!r}, 15, 30.0)
(pose,) = lifter.lift([(make_packet(), Person(1, "tracked", np.zeros(4, np.float32), 1.0, window=window))])
print(pose.points.tolist())
try:
    open_lifter({str(lifter_onnx)!r}, LifterOptions(run=RunOptions(runtime="torch")))
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    points, error = done.stdout.splitlines()
    *_, last = packets(np.load(poses))
    (pose,) = lift(open_lifter(str(lifter_onnx), threads=1), last)
    np.testing.assert_allclose(np.array(json.loads(points)), pose.points, atol=1e-5)
    assert "pip install 'streamkp[torch]'" in error


def test_the_window_that_it_wants_is_told(lifter_onnx: Path) -> None:
    person = Person(1, "tracked", BOX, 1.0, keypoints_2d=Keypoints2D("h36m17", np.ones((17, 3), np.float32)))
    with pytest.raises(
        UsageError, match=r"windows of h36m17 poses at 30 Hz, and no stage above .* `window: \{use: window\}`"
    ):
        open_lifter(str(lifter_onnx), threads=1).lift([(make_packet(), person)])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lookahead": 16}, "at most 15"), ({"incremental": True}, "leave incremental out")],
)
def test_what_it_cannot_do(lifter_onnx: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_lifter(str(lifter_onnx), **options)


def test_another_network_in_onnx(tmp_path: Path) -> None:
    shape = [1, 3, 8, 8]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", ends[:1], ends[1:])
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=r"not a lifter: its outputs are b \[1, 3, 8, 8\]"):
        open_lifter(str(tmp_path / "other.onnx"))
    (tmp_path / "text.onnx").write_text("no network")
    for runtime in ("auto", "torch"):
        with pytest.raises(ModelError, match="not an ONNX or TFLite model"):
            open_lifter(str(tmp_path / "text.onnx"), runtime=runtime)


def test_a_checkpoint_of_the_same_network_as_training_leaves_it(
    lifter_network: HDFormer, lifter_onnx: Path, tmp_path: Path
) -> None:
    checkpoint.write(lifter_network, tmp_path / "step.safetensors", "hdformer-streamkp")
    *_, last = packets(walk())
    for model, option in (
        (str(tmp_path / "step.safetensors"), None),
        ("hdformer-streamkp", tmp_path / "step.safetensors"),
    ):
        lifter = open_lifter(model, checkpoint=option, runtime="torch", threads=1)
        assert lifter.rate == 30.0
        np.testing.assert_allclose(
            lift(lifter, last)[0].points, lift(open_lifter(str(lifter_onnx), threads=1), last)[0].points, atol=1e-4
        )


def test_the_catalog_knows_the_shipped_one() -> None:
    row = catalog.get("hdformer-streamkp")
    assert (row.task, row.skeleton, row.frames, row.licence) == ("body-3d-keypoints", "h36m17", 16, "Apache-2.0")
    assert row.files[0].bundled is not None
