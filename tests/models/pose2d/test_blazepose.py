"""BlazePose against the TFLite reference (tensors) and against MediaPipe (pixels)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamkp.models.detect.blazepose import BlazePoseDetector
from streamkp.models.pose2d.blazepose import BlazePoseEstimator
from streamkp.models.registry import open_detector, open_estimator
from streamkp.packet import Detections, Image
from streamkp.runtimes.base import NetworkSource, RunOptions, open_network

REFERENCE = json.loads((Path(__file__).parents[2] / "data" / "mediapipe_walk.json").read_text())["frames"]


@pytest.fixture(scope="module")
def models(assets: Path) -> Path:
    return assets / "models" / "mediapipe"


@pytest.fixture(scope="module")
def detector(models: Path) -> Iterator[BlazePoseDetector]:
    found = open_detector(str(models / "pose_detection.tflite"), threads=2, score=0.5)
    assert isinstance(found, BlazePoseDetector)
    yield found
    found.close()


@pytest.fixture(scope="module")
def estimator(models: Path) -> Iterator[BlazePoseEstimator]:
    found = open_estimator(str(models / "pose_landmark_full.tflite"), threads=2)
    assert isinstance(found, BlazePoseEstimator)
    yield found
    found.close()


@pytest.fixture(scope="module")
def walk(assets: Path) -> dict[int, Image]:
    capture = cv2.VideoCapture(str(assets / "clips" / "sports2d_demo_walk_enter_leave.mp4"))
    wanted = {r["frame"] for r in REFERENCE} | {0}
    frames = {}
    for i in range(max(wanted) + 1):
        assert capture.grab()
        if i in wanted:
            frames[i] = np.ascontiguousarray(capture.retrieve()[1])
    return frames


def _distance(points: np.ndarray, reference: dict[str, Any]) -> float:
    """Mean distance over the longer side of the reference's box."""
    theirs = np.array(reference["landmarks"])[:, :2]
    return float(np.linalg.norm(points[:, :2] - theirs, axis=1).mean() / np.ptp(theirs, axis=0).max())


@pytest.mark.parametrize("name", ["pose_detection", "pose_landmark_lite", "pose_landmark_full", "pose_landmark_heavy"])
def test_tensors_are_those_of_the_reference_runtime(assets: Path, models: Path, name: str) -> None:
    expected = np.load(assets / "golden_tflite" / f"{name}_coco785.npz")
    outputs = tuple(key.removeprefix("out_") for key in expected if key != "input" and key != "out_Identity_2")
    source = NetworkSource(name, file=models / f"{name}.tflite", outputs=outputs)
    network = open_network(source, RunOptions("cpu", threads=2))
    (image,) = network.inputs
    for output, result in network({image: expected["input"]}).items():
        wanted = expected[f"out_{output}"]
        assert np.abs(result - wanted).max() <= 1e-4 * max(1, np.abs(wanted).max()), output


@pytest.mark.parametrize("reference", REFERENCE, ids=lambda r: f"frame {r['frame']}")
def test_landmarks_in_mediapipes_region_are_mediapipes(
    estimator: BlazePoseEstimator, walk: dict[int, Image], reference: dict[str, Any]
) -> None:
    (pose,) = estimator.estimate([(walk[reference["frame"]], np.array(reference["region"], np.float32))])
    assert _distance(pose.points, reference) < 0.005
    assert np.abs(pose.points[:, 2] - np.array(reference["landmarks"])[:, 2]).max() < 0.1  # decoders round differently
    assert pose.presence > 0.9
    side = reference["next_region"][2]
    assert np.abs(pose.next_region[:4] - reference["next_region"][:4]).max() < 0.03 * side
    assert abs(pose.next_region[4] - reference["next_region"][4]) < 0.05


@pytest.mark.parametrize("reference", REFERENCE, ids=lambda r: f"frame {r['frame']}")
def test_from_image_to_landmarks_agrees_with_mediapipe(
    detector: BlazePoseDetector, estimator: BlazePoseEstimator, walk: dict[int, Image], reference: dict[str, Any]
) -> None:
    image = walk[reference["frame"]]
    (found,) = detector.detect([image])
    assert len(found.scores) == 1
    assert found.anchors is not None
    side = reference["region"][2]
    assert np.abs(found.anchors[0] - reference["detection"]["anchors"]).max() < 0.03 * side
    (pose,) = estimator.estimate([(image, estimator.region_from_detection(found, 0))])
    assert _distance(pose.points, reference) < 0.01


def test_torch_on_the_cpu_gives_the_same(
    models: Path, detector: BlazePoseDetector, estimator: BlazePoseEstimator, walk: dict[int, Image]
) -> None:
    reference = REFERENCE[0]
    image, region = walk[reference["frame"]], np.array(reference["region"], np.float32)
    finder = open_detector(str(models / "pose_detection.tflite"), runtime="torch", device="cpu", score=0.5)
    in_torch = open_estimator(str(models / "pose_landmark_full.tflite"), runtime="torch", device="cpu")
    (ours,), (theirs,) = (opened.detect([image]) for opened in (finder, detector))
    np.testing.assert_allclose(ours.boxes, theirs.boxes, atol=1)
    (pose,), (expected,) = (opened.estimate([(image, region)]) for opened in (in_torch, estimator))
    np.testing.assert_allclose(pose.points[:, :2], expected.points[:, :2], atol=1)
    np.testing.assert_allclose(pose.points[:, 2], expected.points[:, 2], atol=0.01)
    finder.close()
    in_torch.close()


def test_an_empty_view_has_nobody(detector: BlazePoseDetector, walk: dict[int, Image]) -> None:
    (found,) = detector.detect([walk[0]])
    assert found.boxes.shape == (0, 4)
    assert found.anchors is not None
    assert found.anchors.shape == (0, 4, 2)


def test_several_crops_at_once_are_as_one_by_one(estimator: BlazePoseEstimator, walk: dict[int, Image]) -> None:
    crops = [(walk[r["frame"]], np.array(r["region"], np.float32)) for r in REFERENCE]
    together = estimator.estimate(crops)
    for pose, alone in zip(together, (estimator.estimate([one])[0] for one in crops), strict=True):
        np.testing.assert_allclose(pose.points, alone.points, atol=0.05)
        np.testing.assert_allclose(pose.world, alone.world, atol=1e-4)
    assert estimator.estimate([]) == []


def test_world_is_metres_with_the_head_above_the_hips(estimator: BlazePoseEstimator, walk: dict[int, Image]) -> None:
    reference = REFERENCE[0]
    (pose,) = estimator.estimate([(walk[reference["frame"]], np.array(reference["region"], np.float32))])
    assert pose.world is not None
    np.testing.assert_allclose(pose.world[23:25].mean(axis=0), 0, atol=1e-6)
    assert -0.8 < pose.world[0, 1] < -0.4
    assert 0.5 < pose.world[27:29, 1].mean() < 1.1


def test_a_turned_image_gives_turned_landmarks(estimator: BlazePoseEstimator, walk: dict[int, Image]) -> None:
    reference = REFERENCE[0]
    image, region = walk[reference["frame"]], np.array(reference["region"], np.float32)
    turned = np.ascontiguousarray(np.rot90(image, -1))  # clockwise
    cx, cy, w, h, angle = region
    there = np.array((image.shape[0] - 1 - cy, cx, w, h, angle + np.pi / 2), np.float32)
    upright, lying = (estimator.estimate([crop])[0] for crop in ((image, region), (turned, there)))
    back = np.stack((lying.points[:, 1], image.shape[0] - 1 - lying.points[:, 0]), axis=1)
    np.testing.assert_allclose(back, upright.points[:, :2], atol=2)
    assert upright.world is not None
    assert lying.world is not None
    np.testing.assert_allclose(lying.world[:, 0], -upright.world[:, 1], atol=0.01)


def test_without_anchors_the_region_comes_from_the_box(estimator: BlazePoseEstimator) -> None:
    box = np.array([100, 50, 40, 200], np.float32)
    region = estimator.region_from_detection(Detections(box[None], np.ones(1, np.float32)), 0)
    np.testing.assert_allclose(region, [120, 150, 250, 250, 0])
    assert (region == estimator.region_from_box(box)).all()


@pytest.mark.parametrize("shape", [(16, 16), (1, 1), (2, 3000)])
def test_images_of_odd_sizes(
    detector: BlazePoseDetector, estimator: BlazePoseEstimator, shape: tuple[int, int]
) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    (found,) = detector.detect([image])
    assert len(found.boxes) == len(found.scores)
    (pose,) = estimator.estimate([(image, np.array((0, 0, 0, 0, 0), np.float32))])
    assert np.isfinite(pose.points).all()
