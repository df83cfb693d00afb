"""Ready-made graphs as benchmarks run them: without their cameras, secrets, brokers and fixed ports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from streamkp.graph.graph import Graph
from streamkp.graph.spec import GraphSpec

OUTSIDE = ("publish-mqtt", "record", "render")
"""Sinks that need something outside the process, or leave files behind."""


class _AnyVariable(Mapping[str, str]):
    """The environment, and a value for variables that it lacks: streams that use one are removed before it is read."""

    def __getitem__(self, name: str) -> str:
        return os.environ.get(name, "benchmark")

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def validated(graph: str, overrides: Sequence[str] = ()) -> GraphSpec:
    """A graph file or ready-made graph as it stands; `${NAME}` needs no value.

    Raises:
        UsageError: the graph cannot be read or is not valid.
    """
    return Graph.from_yaml(graph, overrides=overrides, env=_AnyVariable()).validate()


def load(graph: str, overrides: Sequence[str] = ()) -> Graph:
    """The same without its streams, for a benchmark to add its own.

    The page takes a free port, and sinks that need something outside are left out.

    Raises:
        UsageError: the graph cannot be read or is not valid.
    """
    spec = validated(graph, overrides)
    ports = [f"stages.{stage.name}.port=0" for stage in spec.stages if stage.use == "publish-websocket"]
    loaded = Graph.from_yaml(graph, overrides=[*overrides, *ports], env=_AnyVariable()).only_streams({})
    for stage in spec.stages:
        if stage.use in OUTSIDE:
            loaded.remove(stage.name)
    return loaded
