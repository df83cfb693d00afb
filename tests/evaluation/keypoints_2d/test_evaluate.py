from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import UsageError
from streamkp.evaluation.keypoints_2d import annotations
from streamkp.evaluation.keypoints_2d.evaluate import evaluate
from streamkp.models.registry import open_detector, open_estimator
from streamkp.packet import Detections, FloatArray, Image
from streamkp.poses import Pose, Region

pytest.importorskip("pycocotools")


class Scripted:
    """An estimator that knows the answers by the box, and disturbs them as it is told.

    It has joints that are not annotated in the middle of the box.
    """

    name = "scripted"

    def __init__(
        self, truth: annotations.Annotations, skeleton: str, disturb: Callable[[FloatArray], FloatArray] = lambda p: p
    ) -> None:
        self.skeleton = skeleton
        self._answers = [(instance.box, instance.points) for instance in truth.instances]
        self._disturb = disturb

    def region_from_box(self, box: FloatArray) -> Region:
        return np.array((*box, 0), np.float32)

    def region_from_detection(self, detections: Detections, i: int) -> Region:
        return self.region_from_box(detections.boxes[i])

    def estimate(self, crops: Sequence[tuple[Image, Region]]) -> list[Pose]:
        return [self._pose(region) for _, region in crops]

    def _pose(self, region: Region) -> Pose:
        box, points = next(answer for answer in self._answers if np.allclose(answer[0], region[:4]))
        places = self._disturb(np.where(points[:, 2:] > 0, points[:, :2], box[:2] + box[2:] / 2))
        scored = np.concatenate([places, np.full((len(places), 1), 0.9)], 1)
        return Pose(scored.astype(np.float32), 1.0, region)

    def close(self) -> None:
        pass


class Finds:
    """A detector that finds the annotated people of the only image, but not all."""

    name = "scripted"

    def __init__(self, boxes: FloatArray) -> None:
        self._boxes = boxes

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [Detections(self._boxes, np.full(len(self._boxes), 0.9, np.float32)) for _ in images]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def data(assets: Path) -> Path:
    return assets / "mmpose_testdata" / "tests" / "data"


def instances(folder: Path, joints: int, people: int, **more: Any) -> annotations.Annotations:
    """A file of one image with people (or hands, or faces) at random places."""
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "one.png"), np.zeros((100, 100, 3), np.uint8))
    rows = []
    for i in range(people):
        corner = np.array([120 * i, 50])
        points = np.concatenate([corner + random.uniform(0, 100, (joints, 2)), np.full((joints, 1), 2)], 1)
        row = {"id": i, "image_id": 7, "bbox": [*corner.tolist(), 100, 100], "keypoints": points.ravel().tolist()}
        rows.append({**row, "area": 6000, "iscrowd": 0, "num_keypoints": joints, "category_id": 1, **more})
    content = {"images": [{"id": 7, "file_name": "one.png"}], "annotations": rows}
    path = folder / "one.json"
    path.write_text(json.dumps(content))
    return annotations.read(path)


def test_the_truth_is_perfect(data: Path) -> None:
    truth = annotations.read(data / "coco" / "test_coco.json")
    report = evaluate(truth, Scripted(truth, "coco17"))
    assert report["people"] == 12
    body = report["figures"]["body"]
    for key in ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "found", "oks_found", "oks_all"):
        assert body[key] == pytest.approx(1), key


def test_worse_poses_score_worse(data: Path) -> None:
    truth = annotations.read(data / "coco" / "test_coco.json")
    shifted = [
        evaluate(truth, Scripted(truth, "coco17", lambda p, by=by: p + by))["figures"]["body"] for by in (2, 8, 400)
    ]
    assert 1 > shifted[0]["ap"] > shifted[1]["ap"] > shifted[2]["ap"] == 0
    assert shifted[2]["found"] == 0
    assert shifted[2]["oks_found"] is None


def test_people_that_the_detector_misses(tmp_path: Path) -> None:
    truth = instances(tmp_path, 17, 4)
    found = np.stack([instance.box for instance in truth.instances[:3]])
    body = evaluate(truth, Scripted(truth, "coco17"), Finds(found))["figures"]["body"]
    assert body["ar"] == body["found"] == body["oks_all"] == pytest.approx(0.75)
    assert body["oks_found"] == pytest.approx(1)
    nobody = evaluate(truth, Scripted(truth, "coco17"), Finds(np.zeros((0, 4), np.float32)))["figures"]["body"]
    assert nobody["ap"] == nobody["found"] == 0


def test_whole_body_by_part(data: Path) -> None:
    truth = annotations.read(data / "coco" / "test_coco_wholebody.json")

    def left_hand_lost(points: FloatArray) -> FloatArray:
        out = points.copy()
        out[91:112] += 1000
        return out

    perfect = evaluate(truth, Scripted(truth, "wholebody133"))["figures"]
    assert {part: figures["ap"] for part, figures in perfect.items()} == pytest.approx(
        dict.fromkeys(("whole", "body", "foot", "face", "hand"), 1.0)
    )
    lost = evaluate(truth, Scripted(truth, "wholebody133", left_hand_lost))["figures"]
    assert lost["face"]["ap"] == pytest.approx(1)
    assert lost["hand"]["ap"] == pytest.approx(0.5)
    assert lost["whole"]["oks_all"] < 1


def test_joints_are_compared_by_name(data: Path) -> None:
    truth = annotations.read(data / "crowdpose" / "test_crowdpose.json")

    def as_coco(points: FloatArray) -> FloatArray:
        return np.concatenate([np.zeros((5, 2)), points[:12]])  # crowdpose's twelve joints are coco's last twelve

    report = evaluate(truth, Scripted(truth, "coco17", as_coco))
    assert report["joints"][0] == "left_shoulder"
    assert len(report["joints"]) == 12
    assert report["figures"]["body"]["oks_all"] == pytest.approx(1)


def test_without_pycocotools(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    truth = annotations.read(data / "coco" / "test_coco.json")
    with pytest.raises(UsageError, match=r"pip install 'streamkp\[eval\]'"):
        evaluate(truth, Scripted(truth, "coco17"))


def test_hands(tmp_path: Path) -> None:
    truth = instances(tmp_path, 21, 3)
    figures = evaluate(truth, Scripted(truth, "hand21", lambda p: p + np.array([3, 4])))["figures"]["hand"]
    assert figures == pytest.approx({"pck": 1, "epe_px": 5, "auc": 16 / 20}, abs=1e-4)  # 5 px are below 6 px and more
    with pytest.raises(UsageError, match="annotated boxes"):
        evaluate(truth, Scripted(truth, "hand21"), Finds(np.zeros((0, 4), np.float32)))


def test_faces(tmp_path: Path) -> None:
    truth = instances(tmp_path, 106, 2)
    apart = [float(np.linalg.norm(i.points[66, :2] - i.points[79, :2])) for i in truth.instances]
    figures = evaluate(truth, Scripted(truth, "face106", lambda p: p + np.array([0, 6])))["figures"]["face"]
    assert figures["nme"] == pytest.approx(np.mean([6 / size for size in apart]), rel=1e-4)


def test_a_network_of_other_joints(tmp_path: Path) -> None:
    truth = instances(tmp_path, 21, 1)
    with pytest.raises(UsageError, match="cannot be measured"):
        evaluate(truth, Scripted(truth, "coco17"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not a COCO annotation file"),
        ("{", "cannot be read as JSON"),
        ('{"images": [], "annotations": []}', "no keypoints"),
        ('{"images": [{"id": 1}], "annotations": []}', "not as in COCO"),
        ('{"images": [], "annotations": [{"image_id": 3, "bbox": [0,0,1,1], "keypoints": [1,1,2]}]}', "unknown images"),
        ('{"images": [], "annotations": [{"image_id": 3, "bbox": [0,0,1], "keypoints": [1,1,2]}]}', "not as in COCO"),
    ],
)
def test_other_files_are_errors(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        annotations.read(path)


def test_where_images_are_looked_for(tmp_path: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="name one annotation file"):
        annotations.read(data / "coco")
    truth = instances(tmp_path, 17, 1)
    assert annotations.read(tmp_path).path == truth.path
    assert annotations.image_path(truth, 7, None) == tmp_path / "one.png"
    with pytest.raises(UsageError, match="--images"):
        annotations.image_path(truth, 7, data)
    (tmp_path / "one.png").write_bytes(b"text")
    with pytest.raises(UsageError, match="not an image"):
        evaluate(truth, Scripted(truth, "coco17"))


def test_the_default_models_on_real_images(assets: Path, data: Path) -> None:
    truth = annotations.read(data / "coco" / "test_coco.json")
    estimator = open_estimator(str(assets / "models" / "mediapipe" / "pose_landmark_full.tflite"), threads=2)
    detector = open_detector(str(assets / "models" / "efficientdet_lite0_uint8_320.tflite"), threads=2, score=0.05)
    for finder in (None, detector):
        body = evaluate(truth, estimator, finder)["figures"]["body"]
        assert body["found"] >= 0.8
        assert body["oks_found"] > 0.7
        assert body["ap"] > 0.35
    estimator.close()
    detector.close()


def test_eval_keypoints(assets: Path, data: Path) -> None:
    weights = assets / "models" / "mediapipe" / "pose_landmark_full.tflite"
    arguments = [
        "eval",
        "keypoints",
        "--model",
        str(weights),
        "--data",
        str(data / "crowdpose" / "test_crowdpose.json"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    assert report["people"] == 4
    assert len(report["joints"]) == 12
    assert report["figures"]["body"]["ap50"] == 1
    table = CliRunner().invoke(app, arguments, catch_exceptions=False, env={"COLUMNS": "200"}).output
    assert "annotated boxes" in table
    assert "no published figures" in table
