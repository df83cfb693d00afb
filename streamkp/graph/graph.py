"""A graph in the making: read from a file, or put together in Python."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from streamkp.errors import UsageError
from streamkp.graph.load import GraphFileReader, read_file
from streamkp.graph.registry import stage_class
from streamkp.graph.spec import GraphSpec
from streamkp.graph.stage import Stage
from streamkp.graph.validation import GraphError, Problem, validate
from streamkp.uris import mask_address


class Graph:
    """Stages and streams, not yet validated.

    >>> graph = Graph().stream("cam", "0").add("decode").add("detect", "detect-person", every=5)
    >>> graph.add("publish", "publish-websocket").validate()          # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._reader = GraphFileReader("graph", os.environ)
        self._data: dict[str, Any] = {"version": 1, "streams": {}, "stages": {}}
        self._base: Path | None = None
        self._file: Path | None = None

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
        text = read_file(file, str(path))
        graph = cls.from_text(text, str(path), base=file.parent, overrides=overrides, env=env)
        graph._file = file
        return graph

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
        graph._reader = GraphFileReader(origin, os.environ if env is None else env)
        graph._data = graph._reader.read(text)
        graph._base = base
        for override in overrides:
            graph._reader.override(graph._data, override)
        return graph

    def stream(self, name: str, uri: str | Path, **settings: Any) -> Self:
        """Add a video source; the settings are those of a graph file: `live`, `max_fps`, `labels` and so on."""
        self._data.setdefault("streams", {})[name] = {"uri": uri, **settings}
        return self

    def only_streams(self, streams: Mapping[str, str], settings: Iterable[str] = (), **options: Any) -> Self:
        """Replace all video sources.

        Args:
            streams: id -> address, in which `${NAME}` stands for a variable of the environment.
            settings: options that each of them gets, as text: `max_fps=10`, `labels.site=gym`.
            options: the same as values: `max_fps=10`.

        Raises:
            UsageError: a variable is not set, or a setting is not of that form.
        """
        # What was wrong with those that are replaced does not matter any more.
        self._reader.problems = [p for p in self._reader.problems if p.where.partition(".")[0] != "streams"]
        self._data["streams"] = {name: {**options, "uri": self._reader.address(uri)} for name, uri in streams.items()}
        for name in streams:
            for setting in settings:
                self._reader.set_stream(self._data, name, setting)
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

    def insert(self, name: str, use: str | type[Stage], **settings: Any) -> Self:
        """Add a stage behind the last one that is not a sink, so that the sinks below that one read it instead.

        A sink is added as by `add`. Raises `GraphError` where the graph so far is wrong.
        """
        spec = self.validate()
        kinds = {stage.name: stage.cls.kind for stage in spec.stages}
        cls = use if isinstance(use, type) else stage_class(use, self._base)
        if cls.kind == "sink":
            return self.add(name, use, **settings)
        stages = self._data["stages"]
        last = [each for each in stages if kinds[each] != "sink"][-1]
        below = False
        entries: dict[str, Any] = {}
        for each, entry in stages.items():
            if below and "from" in entry:
                entry = entry | {"from": _renamed(entry["from"], last, name)}
            entries[each] = entry
            if each == last:
                entries[name] = {"use": use, **settings}
                below = True
        self._data["stages"] = entries
        return self

    def told_at(self, name: str, where: str) -> Self:
        """Say where a stage comes from that no file names, for messages: `--add-sink record-bvh`."""
        self._reader.place[f"stages.{name}"] = where
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

    def copy(self) -> Self:
        """A graph of the same stages and streams, which may be changed without changing this one."""
        graph = type(self)()
        graph._reader, graph._base, graph._file = self._reader, self._base, self._file
        graph._data = _copied(self._data)
        return graph

    def has_streams(self) -> bool:
        """Whether it names any video source."""
        return bool(self._data.get("streams"))

    def set_option(self, stage: str, option: str, value: Any) -> Self:
        """Give a stage another value of an option."""
        self._data["stages"][stage][option] = value
        return self

    def without(self, stage: str) -> Self:
        """Take one stage away."""
        del self._data["stages"][stage]
        return self

    def validate(self, *, plugins: bool = True) -> GraphSpec:
        """The graph, ready to run.

        Args:
            plugins: import the plugins that it names and check their options; False runs no code but streamkp's.

        Raises:
            GraphError: with every problem found, each with file and line.
        """
        reader, spec = self._reader, None
        problems = list(reader.problems)
        try:
            spec = validate(self._data, base=self._base, origin=reader.origin, file=self._file, plugins=plugins)
        except GraphError as error:
            # What is wrong with a stage as a whole may come of an option that could not be read.
            told = {place for problem in problems for place in (problem.where, problem.where.rpartition(".")[0])}
            problems += [Problem(p.where, reader.hide(p.what)) for p in error.problems if p.where not in told]
        if problems or spec is None:
            raise GraphError(problems, reader.place, reader.origin)
        return replace(spec, secrets=dict(reader.secrets))


def _renamed(inputs: Any, old: str, new: str) -> Any:
    """`from` of a stage, with another name for one of its inputs."""
    if isinstance(inputs, list):
        return [new if each == old else each for each in inputs]
    return new if inputs == old else inputs


def _copied(value: Any) -> Any:
    """A copy of nested mappings and lists; what is in them (classes, channels) stays the same."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def find(path: str | Path) -> Path:
    """The graph file at `path`, or the ready-made graph of that name.

    Raises:
        UsageError: there is neither.
    """
    exists = False
    try:
        if Path(path).is_file():
            return Path(path)
        exists = Path(path).exists()
    except (OSError, ValueError):  # a name that no file can have
        pass
    ready = ready_made()
    if str(path) in ready:
        return ready[str(path)]
    shown = mask_address(str(path))
    shown = shown if len(shown) <= 200 else f"{shown[:196]}..."
    if exists:
        raise UsageError(f"{shown} is no regular file, as a graph file must be")
    hint = " (a source is given with --source)" if ":/" in shown else ""
    near = difflib.get_close_matches(shown, ready, 1, 0.7)
    others = f"did you mean {near[0]}?" if near else f"ready-made graphs: {', '.join(ready)}"
    raise UsageError(f"the graph file {shown} does not exist{hint}; {others}")


def ready_made() -> dict[str, Path]:
    """The graphs that come with streamkp, by name."""
    package = Path(__file__).parent.parent
    folder = package / "graphs"
    if not folder.is_dir():  # a source checkout keeps them beside the package
        folder = package.parent / "graphs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}
