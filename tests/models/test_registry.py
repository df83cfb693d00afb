"""Person detectors on real images: what they find, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from streamkp import skeletons
from streamkp.errors import ModelError
from streamkp.models import registry, zoo
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
    with pytest.raises(
        ModelError, match=r"pose_detection\.tflite is not a 2D pose network: .*Identity \[1, 2254, 12\]"
    ):
        open_estimator(detector, threads=1)
    with pytest.raises(ModelError, match=r"palm_detection_lite\.tflite is not a person detector"):
        open_detector(other, threads=1)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match="efficientdet-lite0"):
        open_detector("efficientdet-lite", threads=1)


def test_every_family_can_be_imported_and_opened() -> None:
    for row in registry.rows((*registry.DETECTION, *registry.KEYPOINTS)):
        family = registry.family_of(row)
        assert callable(family.open_model)
        assert callable(family.recognise)
        if row.task in registry.KEYPOINTS:
            assert row.skeleton in skeletons.SKELETONS
        if row.network is not None:
            assert zoo.create(row.name) is not None
            assert row.input_size is not None


def test_a_model_for_something_else_is_refused_before_it_is_fetched(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="yolox-s is not a 2D pose network: it is for person-detection"):
        open_estimator("yolox-s")
    with pytest.raises(ModelError, match="rtmpose-s is not a person detector: it is for body-2d-keypoints"):
        registry.check("rtmpose-s", registry.DETECTION)
    assert list(tmp_path.iterdir()) == []


FAMILY = '''
"""Three joints where the crop is reddest, greenest and bluest: a network and its rows, in a package of its own."""
import numpy as np
from streamkp.models import File, Model, NetworkSource, Pixels, Pose, open_network

ROW = Model(
    name="brightest", title="Brightest points", licence="MIT", author="somebody", task="body-2d-keypoints",
    skeleton="hand21", family="brightest_points", files=(File(name="b.onnx", url="https://example.org/b.onnx"),),
)


def recognise(file):
    if file.signature is None or list(file.signature.outputs) != ["brightest"]:
        return None
    return ROW


def open_model(name, spec, path, options):
    return Estimator(name, spec, open_network(NetworkSource(name, file=path, pixels=Pixels(rgb=False)), options.run))


class Estimator:
    def __init__(self, name, spec, network):
        self.name, self.skeleton, self._network = name, spec.skeleton, network

    def region_from_box(self, box):
        return np.array((*(box[:2] + box[2:] / 2), *box[2:], 0), np.float32)

    def region_from_detection(self, detections, i):
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops):
        pixels = np.stack([image[:8, :8] for image, _ in crops])
        (found,) = self._network({"image": pixels}).values()
        points = np.zeros((len(crops), 21, 3), np.float32)
        points[:, 0] = found
        return [Pose(p, 1.0, region) for p, (_, region) in zip(points, crops)]

    def close(self):
        self._network.close()
'''


def test_another_package_adds_a_2d_network_by_entry_point(tmp_path: Path) -> None:
    """In a process of its own: a package with a row, a family, and a second entry point that is broken."""
    (tmp_path / "brightest_points.py").write_text(FAMILY)
    info = tmp_path / "brightest_points-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightest-points\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[streamkp.models]\nbrightest = brightest_points:ROW\nbroken = brightest_points:absent\n"
    )
    nodes = [helper.make_node("ReduceMax", ["image"], ["brightest"], axes=[2, 3], keepdims=0)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 3, 8, 8]), ("brightest", [1, 3]))
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "b.onnx")
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import numpy as np
from streamkp.hub import catalog, store
from streamkp.models.registry import open_estimator
store.pull("brightest", __import__("pathlib").Path({str(tmp_path / "b.onnx")!r}))
image = np.zeros((20, 20, 3), np.uint8)
image[3, 4] = (50, 60, 70)
for model in ("brightest", {str(tmp_path / "b.onnx")!r}):  # by its name, and a file recognised by the new family
    estimator = open_estimator(model, threads=1)
    (pose,) = estimator.estimate([(image, estimator.region_from_box(np.array((0, 0, 8, 8), np.float32)))])
    print(estimator.skeleton, pose.points[0].tolist())
print(catalog.get("brightest").licence, catalog.get("yolox-nano").name)
"""
    environment = {**os.environ, "STREAMKP_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.splitlines()[-3:] == ["hand21 [50.0, 60.0, 70.0]"] * 2 + ["MIT yolox-nano"], done.stderr
    assert "models of the plugin broken (brightest_points:absent) cannot be used" in done.stderr
