"""What `run --add-stage` and `--add-sink` put into a graph."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from streamkp.errors import UsageError
from streamkp.graph import registry
from streamkp.graph.graph import Graph

_ADDITION = re.compile(r"(?P<use>[^{}]+?)\s*(?P<options>\{.*\})?\s*", re.DOTALL)


def add_to(graph: Graph, text: str, *, sink: bool) -> None:
    """Add one stage to a graph: behind the last stage that is not a sink, in front of the sinks that read it.

    Args:
        graph: where to.
        text: `wave.py:Wave`, `rep-counter`, or either with options as YAML: `wave.py:Wave{hold: 0.5}`. A path is
            relative to the working folder.
        sink: what it must be; a sink stands beside the others.

    Raises:
        UsageError: it is not written like that, does not exist, or is of the other kind.
    """
    option = "--add-sink" if sink else "--add-stage"
    found = _ADDITION.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{option} {text}: write a stage's name or path/to/file.py:Class, with options as {{hold: 0.5}}"
        )
    use = found["use"]
    settings = _settings(f"{option} {text}", found["options"])
    cls = registry.stage_class(use, Path.cwd())
    if (cls.kind == "sink") is not sink or cls.kind == "source":
        other = "--add-sink" if cls.kind == "sink" else "--source" if cls.kind == "source" else "--add-stage"
        raise UsageError(f"{option} {use}: this is a {cls.kind}; add it with {other}")
    if ".py:" in use:
        use = str(Path.cwd() / use)
    base = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", use.rpartition(":")[2]).lower()
    name, number = base, 2
    while name in graph.stage_names():
        name, number = f"{base}-{number}", number + 1
    graph.told_at(name, f"{option} {found['use']}").insert(name, use, **settings)


def _settings(where: str, text: str | None) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(text or "{}")
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: the options are not YAML: {error}") from None
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise UsageError(f"{where}: options are written as {{name: value}}")
    return settings
