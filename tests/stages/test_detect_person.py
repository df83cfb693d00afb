from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamkp.errors import ModelError
from streamkp.graph.stage import Feedback
from streamkp.packet import Detections
from streamkp.stages.detect_person import DetectPerson
from streamkp.testing import make_packet, open_stage, run_stage


@pytest.fixture
def options(assets: Path) -> dict[str, Any]:
    """The quickest detector."""
    return {"model": str(assets / "models" / "mediapipe" / "pose_detection.tflite"), "every": 4}


def _seen(stage: DetectPerson, stream: str, frames: range) -> list[int]:
    """The frames that were looked at."""
    return [i for i in frames if stage.process(make_packet(stream, i)).detections is not None]


@pytest.fixture
def stage(options: dict[str, Any]) -> Any:
    opened = open_stage(DetectPerson, options)
    opened.context.feedback_in = Feedback()
    yield opened
    opened.close()


def test_the_first_frame_and_every_nth(stage: DetectPerson) -> None:
    assert _seen(stage, "cam", range(10)) == [0, 4, 8]


def test_streams_are_counted_apart(stage: DetectPerson) -> None:
    assert _seen(stage, "a", range(2)) == [0]
    assert _seen(stage, "b", range(2)) == [0]
    assert _seen(stage, "a", range(2, 6)) == [4]


def test_a_request_is_answered_once_and_starts_the_count_afresh(stage: DetectPerson) -> None:
    assert stage.context.feedback_in is not None
    assert _seen(stage, "cam", range(2)) == [0]
    stage.context.feedback_in.send(make_packet(seq=1), True)
    stage.context.feedback_in.send(make_packet("other"), True)
    assert _seen(stage, "cam", range(2, 9)) == [2, 6]


def test_a_new_epoch_is_looked_at_at_once(stage: DetectPerson) -> None:
    assert _seen(stage, "cam", range(2)) == [0]
    for state in stage.context.states:
        state.pop("cam", None)  # what the engine does when the epoch changes
    assert _seen(stage, "cam", range(2, 4)) == [2]


def test_a_frame_without_an_image_passes_and_the_next_is_looked_at(stage: DetectPerson) -> None:
    assert stage.process(make_packet(image=None)).detections is None
    assert _seen(stage, "cam", range(1, 3)) == [1]


def test_without_a_feedback_edge(options: dict[str, Any]) -> None:
    out = run_stage(DetectPerson, options, [make_packet(seq=i) for i in range(5)])
    assert [p.seq for p in out if p.detections is not None] == [0, 4]


def test_people_are_found_and_the_best_are_kept(assets: Path) -> None:
    image = cv2.imread(str(assets / "mmpose_testdata" / "tests" / "data" / "coco" / "000000197388.jpg"))
    model = str(assets / "models" / "yolox_nano_416_opset11.onnx")
    for limit, count in ((20, 4), (2, 2)):
        (packet,) = run_stage(DetectPerson, {"model": model, "max_persons": limit}, [make_packet(image=image)])
        assert packet.detections is not None
        assert len(packet.detections.boxes) == len(packet.detections.scores) >= count
        assert len(packet.detections.boxes) <= limit
        assert packet.detections.boxes.dtype == np.float32


def test_an_unknown_model_is_refused_on_opening() -> None:
    with pytest.raises(ModelError, match="no model named"):
        open_stage(DetectPerson, {"model": "does-not-exist-at-all"})


class _Many:
    """Finds more people than anybody asked for."""

    def detect(self, images: list[Any]) -> list[Detections]:
        return [Detections(np.zeros((5, 4), np.float32), np.linspace(0.9, 0.5, 5, dtype=np.float32)) for _ in images]

    def close(self) -> None: ...


def test_people_who_are_left_out_are_told_of_once(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    stage = open_stage(DetectPerson, {**options, "every": 1, "max_persons": 3})
    stage._detector.close()
    stage._detector = _Many()
    for seq in range(3):
        found = stage.process(make_packet("cam", seq)).detections
        assert found is not None
        assert len(found.boxes) == 3
    (record,) = [record for record in caplog.records if "max_persons" in record.message]
    assert "5 people in frame 0 of stream cam, of whom the best 3 are kept" in record.message
    stage.close()
