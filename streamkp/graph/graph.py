"""A graph in the making: read from a file, or put together in Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from streamkp.errors import UsageError
from streamkp.graph.load import Reader
from streamkp.graph.spec import GraphError, GraphSpec, Problem, validate
from streamkp.graph.stage import Stage


class Graph:
    """Stages and streams, not yet validated.

    >>> graph = Graph().stream("cam", "0").add("decode").add("detect", "detect-person", every=5)
    >>> graph.add("publish", "publish-websocket").validate()          # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._reader = Reader("graph", {})
        self._data: dict[str, Any] = {"version": 1, "streams": {}, "stages": {}}
        self._base: Path | None = None

    @classmethod
    def from_yaml(
        cls, path: str | Path, *, overrides: Iterable[str] = (), env: Mapping[str, str] | None = None
    ) -> Self:
        """Read a graph file, or one of the ready-made graphs by its name (`demo`).

        Args:
            path: the file.
            overrides: `stages.detect.every=5`, as given with `--set`.
            env: where `${NAME}` is looked up; the process's environment by default.

        Raises:
            UsageError: the file cannot be read or is not a YAML mapping.
        """
        file = find(path)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the graph file {path} cannot be read: {error}") from None
        return cls.from_text(text, str(path), base=file.parent, overrides=overrides, env=env)

    @classmethod
    def from_text(
        cls,
        text: str,
        origin: str = "graph",
        *,
        base: Path | None = None,
        overrides: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """As `from_yaml`, from text; `origin` stands for the file's name and `base` for its folder."""
        graph = cls()
        graph._reader = Reader(origin, os.environ if env is None else env)
        graph._data = graph._reader.read(text)
        graph._base = base
        for override in overrides:
            graph._reader.override(graph._data, override)
        return graph

    def stream(self, name: str, uri: str, **settings: Any) -> Self:
        """Add a video source; the settings are those of a graph file: `live`, `loop`, `realtime`."""
        self._data.setdefault("streams", {})[name] = {"uri": uri, **settings}
        return self

    def only_streams(self, streams: Mapping[str, str]) -> Self:
        """Replace all video sources: id -> address."""
        self._data["streams"] = {name: {"uri": uri} for name, uri in streams.items()}
        return self

    def add(self, name: str, use: str | type[Stage] | None = None, **settings: Any) -> Self:
        """Add a stage behind the last one; `use` is its name in YAML (by default `name`) or its class.

        The settings are those of a graph file; `from_` stands for `from`, which is a word of Python's own.
        """
        entry: dict[str, Any] = {"use": use or name, **settings}
        if "from_" in entry:
            entry["from"] = entry.pop("from_")
        self._data.setdefault("stages", {})[name] = entry
        return self

    def remove(self, name: str) -> Self:
        """Take a stage away; stages that name it in `from` must go too."""
        del self._data["stages"][name]
        return self

    def without_sinks(self) -> Self:
        """Take every sink away."""
        spec = self.validate()
        for stage in spec.stages:
            if stage.cls.kind == "sink":
                del self._data["stages"][stage.name]
        return self

    def stage_names(self) -> list[str]:
        """The names of the stages so far."""
        return [str(name) for name in self._data.get("stages") or {}]

    def validate(self) -> GraphSpec:
        """The graph, ready to run.

        Raises:
            GraphError: with every problem found, each with file and line.
        """
        reader, spec = self._reader, None
        problems = list(reader.problems)
        try:
            spec = validate(self._data, base=self._base, origin=reader.origin)
        except GraphError as error:
            problems += [Problem(p.where, reader.hide(p.what)) for p in error.problems]
        if problems or spec is None:
            raise GraphError(problems, reader.place, reader.origin)
        return spec


def find(path: str | Path) -> Path:
    """The graph file at `path`, or the ready-made graph of that name.

    Raises:
        UsageError: there is neither.
    """
    path = Path(path)
    if path.is_file():
        return path
    ready = ready_made()
    if str(path) in ready:
        return ready[str(path)]
    raise UsageError(f"the graph file {path} does not exist; ready-made graphs: {', '.join(ready)}")


def ready_made() -> dict[str, Path]:
    """The graphs that come with streamkp, by name."""
    package = Path(__file__).parent.parent
    folder = package / "graphs"
    if not folder.is_dir():  # a source checkout keeps them beside the package
        folder = package.parent / "graphs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
