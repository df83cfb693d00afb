import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from streamkp.errors import ModelError
from streamkp.graph.stage import Feedback, Sink, StreamContext
from streamkp.packet import Detections, Image, Packet
from streamkp.stages import detect_person
from streamkp.stages.detect_person import DetectPerson
from streamkp.testing import build, make_packet, open_stage, run_stage

WAIT = 20.0  # seconds until a hung engine fails the test


@pytest.fixture
def options(assets: Path) -> dict[str, Any]:
    """The quickest detector."""
    return {"model": str(assets / "models" / "mediapipe" / "pose_detection.tflite"), "every": 4}


def _seen(stage: DetectPerson, stream: str, frames: range) -> list[int]:
    """The frames that were looked at."""
    return [i for i in frames if stage.process([make_packet(stream, i)])[0].detections is not None]


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
    (packet,) = stage.process([make_packet(image=None)])
    assert packet.detections is None
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

    score = 0.3

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        return [Detections(np.zeros((5, 4), np.float32), np.linspace(0.9, 0.5, 5, dtype=np.float32)) for _ in images]

    def close(self) -> None: ...


def test_people_who_are_left_out_are_told_of_once(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    stage = open_stage(DetectPerson, {**options, "every": 1, "max_persons": 3})
    stage._detector.close()
    stage._detector = _Many()
    for seq in range(3):
        (packet,) = stage.process([make_packet("cam", seq)])
        found = packet.detections
        assert found is not None
        assert len(found.boxes) == 3
    (record,) = [record for record in caplog.records if "max_persons" in record.message]
    assert "5 people in frame 0 of stream cam, of whom the best 3 are kept" in record.message
    stage.close()


class _Watched(_Many):
    """Notes the frames of each call, by the grey of their first pixel; black ones cannot be looked at."""

    def __init__(self, at_once: int | None) -> None:
        self.at_once = at_once
        self.calls: list[list[int]] = []

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.calls.append([int(image[0, 0, 0]) for image in images])
        if not all(self.calls[-1]):
            raise ModelError("the network gave NaN")
        return super().detect(images)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[DetectPerson, _Watched]]:
    def opened(at_once: int | None, **options: Any) -> tuple[DetectPerson, _Watched]:
        detector = _Watched(at_once)
        monkeypatch.setattr(detect_person, "open_detector", lambda *_, **__: detector)
        stage = open_stage(DetectPerson, {"every": 4, **options})
        assert isinstance(stage, DetectPerson)
        return stage, detector

    return opened


def _grey(stream: str, seq: int, level: int) -> Packet:
    return make_packet(stream, seq, image=np.full((48, 64, 3), level, np.uint8))


def _batch(seq: int, *levels: int) -> list[Packet]:
    """A frame of each of as many streams, in these greys."""
    return [_grey(f"cam{i}", seq, level) for i, level in enumerate(levels)]


Watch = Callable[..., tuple[DetectPerson, _Watched]]


def test_one_call_takes_the_frames_of_all_streams_that_want_one(watched: Watch) -> None:
    stage, detector = watched(None)
    stage.process([_grey("early", 0, 9)])
    batch = [*_batch(1, 1, 2, 3), _grey("early", 1, 8), make_packet("blind", 1, image=None)]
    assert stage.process(batch) == batch
    assert detector.calls == [[9], [1, 2, 3]]
    assert [packet.stream for packet in batch if packet.detections is not None] == ["cam0", "cam1", "cam2"]
    for seq in (2, 3, 4):  # "early" is a frame ahead of the others
        stage.process([*_batch(seq, 1, 2, 3), _grey("early", seq, 8)])
    stage.process(_batch(5, 1, 2, 3))
    assert detector.calls[2:] == [[8], [1, 2, 3]]
    assert not stage.batch_independent


@pytest.mark.parametrize(("at_once", "calls"), [(1, [[1], [2], [3]]), (2, [[1, 2], [3]])])
def test_a_detector_gets_as_many_frames_as_it_says(watched: Watch, at_once: int, calls: list[list[int]]) -> None:
    stage, detector = watched(at_once)
    stage.process(_batch(0, 1, 2, 3))
    assert detector.calls == calls
    assert (stage.at_once, stage.batch_independent) == (at_once, at_once == 1)


def test_all_tiles_of_all_frames_go_into_one_call(watched: Watch) -> None:
    stage, detector = watched(None, tiles=2)
    stage.process(_batch(0, 1, 2))
    assert detector.calls == [[1] * 5 + [2] * 5]


def test_a_frame_that_cannot_be_looked_at_takes_no_other_with_it(watched: Watch) -> None:
    stage, _ = watched(None)
    failed: list[tuple[str, str]] = []
    stage.context.on_failed = lambda packet, error: failed.append((packet.stream, str(error)))
    stage.process([_grey("cam3", 0, 1)])
    batch = _batch(1, 1, 0, 2, 5)
    passed = stage.process(batch)
    assert [packet.stream for packet in passed] == ["cam0", "cam2", "cam3"]
    assert [packet.detections is not None for packet in passed] == [True, True, False]
    assert failed == [("cam1", "the network gave NaN")]
    (packet,) = stage.process(_batch(2, 1, 7)[1:])  # looked at in its next frame
    assert packet.detections is not None
    with pytest.raises(ModelError, match="NaN"):
        stage.process([_grey("alone", 0, 0)])


def _meeting(detector: Any, streams: int, **settings: Any) -> list[int]:
    """The number of frames in each call, for live streams that all have a frame ready when the first call is over."""
    sizes: list[int] = []
    entered, ready, detect = threading.Event(), threading.Barrier(streams), detector.detect

    def watched(images: Sequence[Image]) -> list[Detections]:
        sizes.append(len(images))
        if len(sizes) == 1:
            entered.set()
            ready.wait(WAIT)
        found: list[Detections] = detect(images)
        return found

    detector.detect = watched

    def first(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(context.stream)

    def later(context: StreamContext) -> Iterator[Packet]:
        assert entered.wait(WAIT)
        yield make_packet(context.stream)
        ready.wait(WAIT)  # the frame has been handed over

    scripts = {"first": first} | {f"cam{i}": later for i in range(streams - 1)}
    engine, out = build({"detect": {"use": DetectPerson, **settings}}, scripts, live=True)
    engine.start()
    if not engine.wait(WAIT):
        engine.stop()
        engine.wait(WAIT)
    assert not engine.errors
    assert sorted(packet.stream for packet in out.packets if packet.detections is not None) == sorted(scripts)
    return sizes


def test_frames_of_several_streams_meet_in_one_call(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    options |= {"runtime": "torch", "device": "cpu", "threads": 1}
    settings = {name: value for name, value in options.items() if name not in ("model", "every")}
    detector = detect_person.open_detector(options["model"], **settings)
    monkeypatch.setattr(detect_person, "open_detector", lambda *_, **__: detector)
    assert _meeting(detector, 5, **options) == [1, 4]


def test_on_a_cpu_frames_go_one_by_one(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    detector = detect_person.open_detector(options["model"], runtime="openvino", threads=1)
    monkeypatch.setattr(detect_person, "open_detector", lambda *_, **__: detector)
    assert _meeting(detector, 4, **options) == [1, 1, 1, 1]


def test_on_a_cpu_frames_of_other_streams_pass_while_the_detector_looks(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {name: value for name, value in options.items() if name not in ("model", "every")}
    detector: Any = detect_person.open_detector(options["model"], **settings)
    monkeypatch.setattr(detect_person, "open_detector", lambda *_, **__: detector)
    looked, looking, passed = threading.Event(), threading.Event(), threading.Semaphore(0)
    detect, seen = detector.detect, list[bool]()

    def watched(images: Sequence[Image]) -> list[Detections]:
        found: list[Detections] = detect(images)
        if looked.is_set():  # the frame of the other stream: not done before five frames have passed it
            looking.set()
            seen.extend(passed.acquire(timeout=WAIT) for _ in range(5))
        looked.set()
        return found

    detector.detect = watched

    class Arrive(Sink):
        def process(self, packet: Packet) -> None:
            if packet.stream == "passing" and packet.seq:
                passed.release()

    def passing(context: StreamContext) -> Iterator[Packet]:
        yield make_packet(context.stream)
        assert looking.wait(WAIT)
        yield from (make_packet(context.stream, seq) for seq in range(1, 6))

    def looked_at(context: StreamContext) -> Iterator[Packet]:
        assert looked.wait(WAIT)
        yield make_packet(context.stream)

    stages = {"detect": {"use": DetectPerson, **options, "every": 30}, "arrive": {"use": Arrive}}
    engine, out = build(stages, {"passing": passing, "looked_at": looked_at})
    engine.start()
    if not engine.wait(WAIT):
        engine.stop()
        engine.wait(WAIT)
    assert not engine.errors
    assert seen == [True] * 5
    assert out.seqs("passing") == list(range(6))
    assert [packet.detections is not None for packet in out.packets if packet.stream == "looked_at"] == [True]
