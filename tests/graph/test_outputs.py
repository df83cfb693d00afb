"""No graph writes to what it reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamkp.graph.graph import Graph
from streamkp.graph.validation import GraphError


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"precious")
    return path


def graph(source: str, **sink: object) -> Graph:
    sink.setdefault("use", "record")
    return Graph().stream("cam", source).add("decode").add("out", overwrite=True, **sink)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["path", "relative", "symlink", "hardlink", "uri", "through"])
@pytest.mark.parametrize("use", ["record", "render"])
def test_an_output_that_is_a_source(clip: Path, how: str, use: str) -> None:
    other = clip.with_name("other.mp4")
    source, output = str(clip), str(clip)
    if how == "relative":
        source = "../" + clip.parent.name + "/./clip.mp4"
    elif how == "symlink":
        other.symlink_to(clip)
        output = str(other)
    elif how == "hardlink":
        os.link(clip, other)
        output = str(other)
    elif how == "uri":
        source = clip.as_uri()
    elif how == "through":
        (clip.parent / "folder").symlink_to(clip.parent)
        output = "folder/clip.mp4"
    with pytest.raises(GraphError, match="which is the source of stream cam itself") as error:
        graph(source, use=use, path=output).validate()
    assert error.value.exit_code == 2
    assert clip.read_bytes() == b"precious"


def test_the_files_of_further_streams(clip: Path) -> None:
    """`render` names them itself."""
    clip.rename("out-b.mp4")
    mine = Graph().stream("a", "a.mp4").stream("b", "out-b.mp4").add("decode").add("r", "render", path="out.mp4")
    with pytest.raises(GraphError, match=r"out-b\.mp4, which is the source of stream b"):
        mine.validate()
    mine = Graph().stream("b", "out-b.mp4").add("decode").add("r", "render", path="out-{stream}.mp4")
    with pytest.raises(GraphError, match="source of stream b"):
        mine.validate()


def test_the_graph_file_itself(clip: Path) -> None:
    text = "version: 1\nstages: {decode: {use: decode}, out: {use: record, path: ./g.yaml, overwrite: true}}\n"
    Path("g.yaml").write_text(text)
    with pytest.raises(GraphError, match="this graph file itself"):
        Graph.from_yaml("g.yaml").validate()


def test_two_outputs_in_one_file(clip: Path) -> None:
    with pytest.raises(GraphError, match="as stage out does"):
        graph("a.mp4", path="x.jsonl").add("more", "record", path=str(clip.with_name("x.jsonl"))).validate()


def test_others_may_be_written(clip: Path) -> None:
    graph(str(clip), path="out.jsonl").validate()
    graph("rtsp://h/clip.mp4", path="clip.mp4").validate()
    graph("0", path=os.devnull).add("more", "record", path=os.devnull + "/../null").validate()
