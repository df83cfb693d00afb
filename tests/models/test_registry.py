"""Person detectors on real images: what they find, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamkp.errors import ModelError
from streamkp.models.registry import open_detector, open_estimator
from streamkp.vision.nms import iou

# model, people found of the 14 annotated ones in four crowded pictures
DETECTORS = [("efficientdet_lite0_uint8_320.tflite", 11), ("yolox_nano_416_opset11.onnx", 11)]


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)


@pytest.mark.parametrize(("model", "least"), DETECTORS)
def test_people_are_found_where_they_are(assets: Path, model: str, least: int) -> None:
    folder = assets / "mmpose_testdata" / "tests" / "data" / "coco"
    truth = json.loads((folder / "test_coco.json").read_text())
    detector = open_detector(str(assets / "models" / model), threads=2, score=0.3)
    hits = ghosts = 0
    for entry in truth["images"]:
        people = [a["bbox"] for a in truth["annotations"] if a["image_id"] == entry["id"] and a["category_id"] == 1]
        (found,) = detector.detect([cv2.imread(str(folder / entry["file_name"]))])
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores.dtype == found.boxes.dtype == np.float32
        assert found.anchors is None
        mine, theirs = _corners(found.boxes), _corners(np.array(people, np.float32))
        hits += sum(iou(person, mine).max(initial=0) > 0.5 for person in theirs)
        ghosts += sum(iou(box, theirs).max(initial=0) < 0.3 for box in mine)
    detector.close()
    assert hits >= least
    assert ghosts == 0


@pytest.mark.parametrize(("model", "least"), DETECTORS)
def test_images_of_odd_sizes_are_empty_rooms(assets: Path, model: str, least: int) -> None:
    detector = open_detector(str(assets / "models" / model), threads=1, score=0.4)
    images = [np.zeros((h, w, 3), np.uint8) for h, w in ((16, 16), (1, 1), (3, 1000))]
    assert [len(found.boxes) for found in detector.detect(images)] == [0, 0, 0]
    detector.close()


def test_a_network_of_another_kind_is_refused_by_name(assets: Path) -> None:
    detector = str(assets / "models" / "mediapipe" / "pose_detection.tflite")
    other = str(assets / "models" / "mediapipe" / "palm_detection_lite.tflite")
    with pytest.raises(ModelError, match=r"pose_detection\.tflite is not a 2D pose network .*Identity \[1, 2254, 12\]"):
        open_estimator(detector, threads=1)
    with pytest.raises(ModelError, match=r"palm_detection_lite\.tflite is not a person detector"):
        open_detector(other, threads=1)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match="efficientdet-lite0"):
        open_detector("efficientdet-lite", threads=1)
