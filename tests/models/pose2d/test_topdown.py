"""2D networks as estimators: the references' numbers from the image to the image, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from streamkp.errors import ModelError, UsageError
from streamkp.models import zoo
from streamkp.models.pose2d.topdown import AffineFraming, TopDownEstimator
from streamkp.models.registry import open_detector, open_estimator
from streamkp.packet import Image
from tests.models.onnx_files import FIGURE, Colours, Figure, RtmDet, Yolox, write_detector, write_pose

Weights = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this module's own: what is converted once serves all tests."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("home")
    patch.setenv("STREAMKP_HOME", str(folder))
    yield folder  # type: ignore[misc]
    patch.undo()


@pytest.fixture(scope="module")
def face_file(tmp_path_factory: pytest.TempPathFactory, weights: Weights) -> Path:
    path = tmp_path_factory.mktemp("weights") / "face.safetensors"
    save_file(weights("easycv_face106"), path)
    return path


def test_body15_from_the_image_to_the_image(golden: Path, weights: Weights, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.pt"
    torch.save(weights("hrnet_w48_body15"), file)
    io = np.load(golden / "hrnet_w48_body15" / "io.npz")
    estimator = open_estimator(str(file), threads=2, runtime="torch", device="cpu")  # recognised by its weights
    assert estimator.skeleton == "body15"
    image = io["image_bgr"]
    poses = estimator.estimate([(image, estimator.region_from_box(box)) for box in io["boxes_xywh"]])
    for pose, points, scores in zip(poses, io["poses"], io["scores"], strict=True):
        np.testing.assert_allclose(pose.points[:, :2], points, atol=1e-3)
        np.testing.assert_allclose(pose.points[:, 2], np.clip(scores, 0, 1), atol=1e-4)
    estimator.close()


@pytest.mark.parametrize("flip", [False, True])
def test_mmpose_network_with_and_without_flip(flip: bool, golden: Path, weights: Weights, tmp_path: Path) -> None:
    file = tmp_path / "hand.safetensors"
    save_file(weights("hrnetv2_w18_hand21"), file)
    io = np.load(golden / "hrnetv2_w18_hand21" / "io.npz")
    image = io["crop_bgr"]
    box = np.array((25.6, 25.6, 204.8, 204.8), np.float32)  # the whole image, once it is padded
    estimator = open_estimator(
        "hrnet-w18-hand21", checkpoint=str(file), threads=2, runtime="torch", device="cpu", flip=flip
    )
    (pose,) = estimator.estimate([(image, estimator.region_from_box(box))])
    np.testing.assert_allclose(pose.points[:, :2], io["decoded_flip" if flip else "decoded"][0], atol=0.1)
    scores = io["decoded_flip_scores" if flip else "decoded_scores"][0]
    np.testing.assert_allclose(pose.points[:, 2], np.clip(scores, 0, 1), atol=1e-4)


def test_face_points_and_angles_by_every_runtime(golden: Path, face_file: Path, home: Path) -> None:
    io = np.load(golden / "easycv_face106" / "io.npz")
    image = io["image_bgr"]
    height, width = image.shape[:2]
    whole = np.array((width / 2, height / 2, width, height, 0), np.float32)
    for runtime in ("torch", "openvino"):
        estimator = open_estimator(str(face_file), threads=1, runtime=runtime, device="cpu")  # type: ignore[arg-type]
        first, *others = estimator.estimate([(image, whole)] * 7)  # turns of 4, 2 and 1
        assert estimator.skeleton == "face106"
        np.testing.assert_allclose(first.points[:, :2], io["points_image"], atol=2e-2)
        np.testing.assert_allclose(first.angles, io["pose"][0], atol=1e-4)  # type: ignore[attr-defined]
        for other in others:
            np.testing.assert_allclose(other.points, first.points, atol=1e-2)
        estimator.close()
    assert [file.suffix for file in sorted((home / "converted").iterdir())] == [".bin", ".xml"]


def test_what_is_converted_already_needs_no_torch(face_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_estimator("mobilenetv2-face106", checkpoint=str(face_file), threads=1, runtime="openvino").close()
    before = sorted(path.name for path in (home / "converted").iterdir())
    monkeypatch.setitem(sys.modules, "torch", None)
    open_estimator("mobilenetv2-face106", checkpoint=str(face_file), threads=1).close()
    assert sorted(path.name for path in (home / "converted").iterdir()) == before
    with pytest.raises(ModelError, match=r"streamkp\[torch\]"):
        open_estimator("mobilenetv2-face106", checkpoint=str(face_file), threads=1, runtime="torch", device="cpu")
    with pytest.raises(ModelError, match=r"streamkp\[torch\]"):
        open_estimator(str(face_file), threads=1)


def test_nothing_imports_torch_before_it_is_asked_for() -> None:
    code = "import sys, streamkp.stages.keypoints_parts, streamkp.stages.keypoints_2d; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _dots(spots: list[tuple[int, int]], size: tuple[int, int] = (320, 240)) -> Image:
    image = np.zeros((size[1], size[0], 3), np.uint8)
    for channel, (x, y) in zip((2, 1, 0), spots, strict=True):
        image[y - 1 : y + 2, x - 1 : x + 2, channel] = 255
    return image


def test_rtmpose_file_batched_over_images(tmp_path: Path) -> None:
    estimator = open_estimator(str(write_pose(tmp_path / "pose.onnx", Colours())), threads=1)
    assert estimator.skeleton == "coco17"
    scenes = [[(60, 80), (90, 60), (75, 120)], [(70, 70), (100, 100), (50, 110)], [(80, 90), (60, 60), (95, 75)]]
    box = np.array((40, 40, 70, 100), np.float32)
    poses = estimator.estimate([(_dots(spots), estimator.region_from_box(box)) for spots in scenes])
    assert estimator.estimate([]) == []
    for pose, spots in zip(poses, scenes, strict=True):
        assert pose.points.shape == (17, 3)
        assert pose.points.dtype == np.float32
        for joint in range(17):
            np.testing.assert_allclose(pose.points[joint, :2], spots[joint % 3], atol=1.5)
        assert pose.points[:, 2].max() <= 1  # the network's own scores are above 2
        assert pose.presence == 1


def test_the_next_region_holds_the_joints_and_does_not_waver(tmp_path: Path) -> None:
    estimator = open_estimator(str(write_pose(tmp_path / "pose.onnx", Figure())), threads=1)
    assert isinstance(estimator, TopDownEstimator)
    image = np.zeros((480, 640, 3), np.uint8)
    region = estimator.region_from_box(np.array((200, 100, 120, 260), np.float32))
    for _ in range(20):
        (pose,) = estimator.estimate([(image, region)])
        np.testing.assert_allclose(pose.points[:, 2], 0.9, atol=1e-3)
        in_region = (pose.points[:, :2] - region[:2] + region[2:4] / 2) / region[2:4]
        np.testing.assert_allclose(in_region, FIGURE, atol=5e-3)
        before, region = region, pose.next_region
    np.testing.assert_allclose(region[2:4], before[2:4], rtol=2e-3)
    low, high = region[:2] - region[2:4] / 2, region[:2] + region[2:4] / 2
    assert (pose.points[:, :2] > low).all()
    assert (pose.points[:, :2] < high).all()


def test_a_region_grows_at_once_and_shrinks_late() -> None:
    estimator = TopDownEstimator("n", "coco17", AffineFraming((192, 256)), None)  # type: ignore[arg-type]
    points = np.ones((17, 3), np.float32)
    points[:, :2] = np.linspace((100, 100), (160, 260), 17)
    fitting = estimator._next(points, np.zeros(5, np.float32))
    np.testing.assert_allclose(fitting[2:4], (160 * 1.25**2 * 0.75, 160 * 1.25**2), rtol=1e-5)
    for factor, expected in ((0.5, 1), (1, 1), (1.2, 1.2), (2, 1.25)):
        region = fitting.copy()
        region[2:4] *= factor
        np.testing.assert_allclose(estimator._next(points, region)[2:4], fitting[2:4] * expected, rtol=1e-5)
    points[3] = (900, 900, 0.05)  # a joint that is not seen does not count
    np.testing.assert_allclose(estimator._next(points, np.zeros(5, np.float32)), fitting)


def test_boxes_outside_the_image_of_one_pixel_and_of_huge_images(tmp_path: Path) -> None:
    estimator = open_estimator(str(write_pose(tmp_path / "pose.onnx", Colours())), threads=1)
    spots = [(60, 80), (90, 60), (75, 120)]
    boxes = [(5000, 5000, 50, 50), (-400, -400, 100, 100), (70, 90, 0, 0), (319, 239, 1, 1)]
    poses = estimator.estimate([(_dots(spots), estimator.region_from_box(np.array(box, np.float32))) for box in boxes])
    assert all(np.isfinite(pose.points).all() for pose in poses)
    assert poses[0].points[:, 2].max() == 0  # black everywhere
    far = [(x + 39_000, y) for x, y in spots]  # beyond what OpenCV warps
    wide = _dots(far, (40_000, 240))
    region = estimator.region_from_box(np.array((39_040, 40, 70, 100), np.float32))
    (pose,) = estimator.estimate([(wide, region)])
    np.testing.assert_allclose(pose.points[:3, :2], far, atol=1.5)
    with pytest.raises(ValueError, match="finite"):
        estimator.region_from_box(np.array((0, np.nan, 10, 10), np.float32))


@pytest.mark.parametrize("network", [RtmDet, Yolox])
def test_detectors_with_suppression_inside(network: type[torch.nn.Module], tmp_path: Path) -> None:
    detector = open_detector(str(write_detector(tmp_path / "end2end.onnx", network())), threads=1, score=0.3)
    image = np.full((240, 640, 3), 60, np.uint8)
    image[40:200, 100:180] = 255
    found, nobody = detector.detect([image, np.zeros((10, 10, 3), np.uint8)])
    np.testing.assert_allclose(found.boxes, [[100, 40, 80, 160]], atol=4)
    np.testing.assert_allclose(found.scores, [0.9])
    assert found.boxes.dtype == np.float32
    assert (nobody.boxes[:, 2:] <= 0).all()


def test_what_is_refused(assets: Path, face_file: Path, weights: Weights, tmp_path: Path) -> None:
    broken = {key: value * float("nan") if value.is_floating_point() else value for key, value in zoo_face().items()}
    save_file(broken, tmp_path / "nan.safetensors")
    save_file(dict(zoo.create("videopose3d-27f").state_dict()), tmp_path / "lifter.safetensors")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><title>404</title>")
    for file, words in {
        "nan.safetensors": "NaN or infinite weights",
        "lifter.safetensors": "not a 2D pose network: it belongs to videopose3d-27f",
        "page.pth": "web page",
        "absent.pth": "no model named",
    }.items():
        with pytest.raises(ModelError, match=words):
            open_estimator(str(tmp_path / file), threads=1)
    with pytest.raises(ModelError, match="not a checkpoint of hrnet-w32-coco17; it fits mobilenetv2-face106"):
        open_estimator("hrnet-w32-coco17", checkpoint=str(face_file), threads=1)
    with pytest.raises(ModelError, match="no checkpoint file"):
        open_estimator("hrnet-w32-coco17", checkpoint=str(tmp_path / "absent"), threads=1)
    onnx = str(assets / "models" / "mediapipe" / "pose_landmark_full.tflite")
    for options, words in (
        ({"checkpoint": str(face_file)}, "goes with a torch network"),
        ({"runtime": "onnxruntime"}, "not an ONNX file"),
        ({"flip": True}, "not a heatmap network"),
    ):
        with pytest.raises(UsageError, match=words):
            open_estimator(onnx, threads=1, **options)  # type: ignore[arg-type]


def test_what_an_onnx_file_cannot_do(tmp_path: Path) -> None:
    file = str(write_pose(tmp_path / "pose.onnx", Colours()))
    with pytest.raises(UsageError, match="no form in torch: leave out runtime"):
        open_estimator(file, runtime="torch")
    with pytest.raises(UsageError, match="openvino runs on the CPU"):
        open_estimator(file, runtime="openvino", device="cuda")


def zoo_face() -> dict[str, torch.Tensor]:
    return dict(zoo.create("mobilenetv2-face106").state_dict())
