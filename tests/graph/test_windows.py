"""Window stages take what a graph leaves open from the lifter below them; contradictions are errors of the graph."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkp.graph.graph import Graph
from streamkp.graph.spec import StageSpec
from streamkp.graph.stage import MapStage, StageOptions
from streamkp.graph.validation import GraphError
from streamkp.packet import WindowRequest
from streamkp.sources.decode import Decode
from streamkp.stages.window import WindowStage
from streamkp.testing import Collect, Collected

OLD = Path(__file__).parents[1] / "data" / "graphs_of_0_0"


class Reads(MapStage):
    """Reads windows as its options say."""

    class Options(StageOptions):
        by: str = "reader"
        skeleton: str | None = "h36m17"
        rate: float | None = 30
        frames: int = 16
        least: int = 1

    options: Options

    @classmethod
    def reads_window(cls, options: Options) -> WindowRequest:
        return WindowRequest(**options.model_dump())


def fitted(window: dict[str, object], *readers: dict[str, object]) -> StageSpec:
    graph = Graph().stream("a", "a.mp4").add("decode", Decode).add("keypoints", "keypoints-2d")
    graph.add("window", WindowStage, **window)
    for i, options in enumerate(readers):
        graph.add(f"read{i}", Reads, **options)
    spec = graph.add("out", Collect, into=Collected()).validate()
    return next(stage for stage in spec.stages if stage.name == "window")


def problems(window: dict[str, object], *readers: dict[str, object]) -> str:
    with pytest.raises(GraphError) as error:
        fitted(window, *readers)
    return str(error.value)


def test_what_is_left_open_is_what_the_reader_needs() -> None:
    options = fitted({}, {}).options
    assert (options.frames, options.rate, options.skeleton) == (96, 30, "h36m17")
    options = fitted({}, {"frames": 122, "rate": 50}).options
    assert (options.frames, options.rate) == (122, 50)


def test_without_a_reader_it_stays_open() -> None:
    options = fitted({}).options
    assert (options.frames, options.rate, options.skeleton) == (None, None, None)


def test_what_the_graph_says_holds_where_it_fits() -> None:
    options = fitted({"frames": 40, "rate": 30, "skeleton": "h36m17"}, {}).options
    assert (options.frames, options.rate, options.skeleton) == (40, 30, "h36m17")
    options = fitted({"rate": 25}, {"rate": None, "skeleton": None}).options
    assert (options.rate, options.skeleton) == (25, None)


def test_a_contradiction_is_an_error_that_names_the_option() -> None:
    assert "stages.window.rate: is 50, but reader was trained with 30: leave rate out" in problems({"rate": 50}, {})
    text = problems({"skeleton": "coco17"}, {})
    assert "stages.window.skeleton: is coco17, but reader was trained with h36m17: leave skeleton out" in text
    text = problems({"frames": 8}, {"least": 16})
    assert "stages.window.frames: is 8, but reader reads 16 poses: leave frames out" in text


def test_two_readers() -> None:
    assert fitted({}, {}, {"by": "other", "frames": 122}).options.frames == 122
    assert fitted({}, {"frames": 122}, {"by": "other"}).options.frames == 122
    text = problems({}, {}, {"by": "other", "rate": 50})
    assert "stages.window.rate: reader needs 30 and other needs 50: give each a window stage of its own" in text


def test_a_lifter_without_a_window_stage_above() -> None:
    graph = Graph().stream("a", "a.mp4").add("decode", Decode).add("keypoints", "keypoints-2d")
    with pytest.raises(GraphError, match=r"stages.lift: needs window, which no stage above it gives; put window above"):
        graph.add("lift", "lift-3d", model="hdformer-streamkp").add("out", Collect, into=Collected()).validate()


def test_a_plugin_may_make_the_windows() -> None:
    graph = Graph().stream("a", "a.mp4").add("decode", Decode).add("read", Reads).add("out", Collect, into=Collected())
    assert graph.validate().stages


@pytest.mark.parametrize(
    ("name", "frames", "rate"),
    [("demo", 96, 30), ("webcam", 96, 30), ("hdformer", 96, 50), ("tpnet", 122, 50), ("videopose3d", 122, 50)],
)
def test_ready_made_graphs(name: str, frames: int, rate: float) -> None:
    spec = Graph.from_yaml(name).validate()
    (window,) = [stage for stage in spec.stages if stage.use == "window"]
    assert (window.options.frames, window.options.rate, window.options.skeleton) == (frames, rate, "h36m17")


def test_a_wrong_rate_in_a_graph_file_is_told_with_its_line() -> None:
    with pytest.raises(GraphError, match=r"--set: stages.window.rate: is 50, but tcn-streamkp was trained with 30"):
        Graph.from_yaml("demo", overrides=["stages.window.rate=50"]).validate()


@pytest.mark.parametrize("file", sorted(OLD.glob("*.yaml")), ids=lambda file: file.stem)
def test_graph_files_of_the_last_version(file: Path) -> None:
    spec = Graph.from_yaml(file, env={"CAM_PASSWORD": "secret"}).validate()
    for stage in spec.stages:
        if stage.use == "window":
            said = Graph.from_yaml(file, env={"CAM_PASSWORD": "secret"})._data["stages"]["window"]["frames"]
            assert stage.options.frames == said
