"""The graphs that come with streamkp, and the stages that they may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from streamkp.graph import registry
from streamkp.graph.graph import Graph, ready_made
from streamkp.graph.stage import StageOptions


@pytest.mark.parametrize("name", ready_made())
def test_every_ready_made_graph_is_valid(name: str, graph_env: dict[str, str]) -> None:
    text = ready_made()[name].read_text()
    spec = Graph.from_yaml(name, env=graph_env).validate()
    assert spec.streams
    assert spec.stages[-1].cls.kind == "sink"
    assert text.startswith("# "), "its first line says what it is for"


def test_ready_made_graphs_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"demo", "webcam", "webcam-single", "rtsp-fleet"} <= set(ready_made())
    assert Graph.from_yaml("demo").validate().stages


@pytest.mark.parametrize("use", registry.BUILT_IN)
def test_every_option_of_every_stage_is_described(use: str) -> None:
    cls = registry.stage_class(use)
    assert cls.__doc__, "its first line is what `streamkp stages` shows"
    assert issubclass(cls.Options, StageOptions)
    assert not [name for name, description in _options(cls.Options) if not description]


def _options(model: type[BaseModel]) -> Iterator[tuple[str, str | None]]:
    for name, info in model.model_fields.items():
        yield name, info.description
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from ((f"{name}.{below}", description) for below, description in _options(info.annotation))
