"""Turns plain data into a graph, or says everything that is wrong with it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from streamkp.errors import StreamkpError, UsageError
from streamkp.graph import flow, outputs, registry
from streamkp.graph.spec import (
    MAX_STAGES,
    MAX_STREAMS,
    NAME_RULE,
    ControlSpec,
    GraphSpec,
    StageSettings,
    StageSpec,
    StreamSpec,
    TracingSpec,
    is_name,
)
from streamkp.graph.stage import MapStage, Stage, StageOptions
from streamkp.graph.windows import fit_windows
from streamkp.uris import mask, mask_address

_SECRET_NAME: Final = re.compile(r"token|passw|secret|credential|api_?key|^key$", re.IGNORECASE)


class NotLive(UsageError):
    """An option that is not there, or cannot be changed while the graph runs."""


def changed_options(stage: StageSpec, now: StageOptions, changes: Mapping[str, Any]) -> StageOptions:
    """The options of a running stage with other values.

    Raises:
        NotLive: an option is not there, or not marked as one that may be changed while the graph runs.
        UsageError: a value is not allowed; the message never holds a credential.
    """
    fields, live = type(now).model_fields, type(now).live()
    for name in changes:
        if name in StageSettings.model_fields or name == "from":
            raise NotLive(
                f"stages.{stage.name}.{name} belongs to the shape of the graph: change the file and start again"
            )
        if name not in fields:
            raise NotLive(f"stages.{stage.name}.{name}: unknown option{did_you_mean(name, live or fields)}")
        if name not in live:
            may = f"; of {stage.use} these can: {', '.join(live)}" if live else f"; of {stage.use} none can"
            raise NotLive(f"stages.{stage.name}.{name} cannot be changed while the graph runs{may}")
    check = _Validation(None, "", None, plugins=True)
    try:
        values = dict(now) | dict(changes)
        options = type(now).model_validate({fields[name].alias or name: value for name, value in values.items()})
        stage.cls.check(options)
    except ValidationError as error:
        check._pydantic(f"stages.{stage.name}", error, type(now))
        raise GraphError(check.problems) from None
    return options


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a graph: where (`stages.detect.every`) and what."""

    where: str
    what: str


class GraphError(UsageError):
    """Everything that is wrong with a graph, one line each."""

    def __init__(self, problems: Iterable[Problem], place: Mapping[str, str] | None = None, origin: str = "") -> None:
        self.problems = tuple(problems)
        lines = []
        for problem in self.problems:
            at = _nearest(place or {}, problem.where) or origin
            lines.append(": ".join(filter(None, (at, mask(problem.where), problem.what))))
        super().__init__("\n".join(lines))


def _nearest(place: Mapping[str, str], where: str) -> str:
    parts = where.split(".")
    for end in range(len(parts), 0, -1):
        if (at := place.get(".".join(parts[:end]))) is not None:
            return at
    return ""


class _Unchecked(MapStage):
    """Stands for a plugin whose code was not run."""

    class Options(StageOptions):
        model_config = ConfigDict(extra="allow")


def validate(
    data: Any,
    *,
    base: Path | None = None,
    origin: str = "graph",
    file: Path | None = None,
    plugins: bool = True,
) -> GraphSpec:
    """Turn plain data (what YAML gives) into a graph, or say everything that is wrong with it.

    Args:
        data: the mapping of a graph file: `version`, `streams`, `stages`.
        base: folder that plugin paths are relative to.
        origin: what to call the graph in messages.
        file: the graph file, which no stage may write to.
        plugins: import the plugins that the graph names and check their options; False runs no code but streamkp's.

    Raises:
        GraphError: with every problem found.
    """
    return _Validation(base, origin, file, plugins).run(data)


class _Validation:
    def __init__(self, base: Path | None, origin: str, file: Path | None, plugins: bool) -> None:
        self.base = base
        self.origin = origin
        self.file = file
        self.plugins = plugins
        self.problems: list[Problem] = []

    def run(self, data: Any) -> GraphSpec:
        if not isinstance(data, dict):
            raise GraphError([Problem("", "a graph is a mapping with the keys version, streams and stages")])
        self._known("", data, ("version", "control", "tracing", "streams", "stages"))
        if data.get("version", 1) != 1:
            self._add("version", f"is {data['version']!r}; this streamkp reads version 1")
        control = self._control(data.get("control"))
        tracing = self._tracing(data.get("tracing"))
        streams = self._streams(data.get("streams") or {})
        stages = self._stages(data.get("stages") or {})
        given = data.get("stages")
        ordered = self._order(stages, complete=isinstance(given, dict) and len(stages) == len(given))
        self._claims(ordered)
        if not self.problems:  # a stage that is wrong in itself is not asked what it needs or writes
            self._files(ordered, streams)
        if not self.problems:
            ordered, unfit = fit_windows(ordered)
            for where, what in unfit:
                self._add(where, what)
        if self.problems:
            raise GraphError(self.problems)
        unchecked = tuple(stage.name for stage in ordered if stage.cls is _Unchecked)
        return GraphSpec(tuple(ordered), streams, self.origin, control, tracing, unchecked=unchecked)

    def _add(self, where: str, what: str) -> None:
        self.problems.append(Problem(where, mask(what)))

    def _files(self, stages: list[StageSpec], streams: dict[str, StreamSpec]) -> None:
        try:
            for stage, what in (*flow.unmet(stages), *outputs.clashes(stages, streams, self.file)):
                self._add(f"stages.{stage.name}", what)
        except StreamkpError:
            raise
        except Exception as error:
            self._add("stages", f"a plugin fails when it is asked what it needs and writes: {error!r}")

    def _known(self, where: str, data: Mapping[Any, Any], allowed: Iterable[str]) -> None:
        for key in data:
            if key not in (names := list(allowed)):
                at = f"{where}.{key}" if where else str(key)
                self._add(at, f"unknown key{did_you_mean(str(key), names)}")

    def _control(self, data: Any) -> ControlSpec | Literal["off"] | None:
        if data is None:
            return None
        if data is False or data == "off":  # YAML reads a bare `off` as false
            return "off"
        try:
            return ControlSpec.model_validate(data)
        except ValidationError as error:
            self._pydantic("control", error, ControlSpec)
            return None

    def _tracing(self, data: Any) -> TracingSpec | None:
        if data is None or data is False or data == "off":
            return None
        try:
            return TracingSpec.model_validate(data)
        except ValidationError as error:
            self._pydantic("tracing", error, TracingSpec)
            return None

    def _streams(self, data: Any) -> dict[str, StreamSpec]:
        streams: dict[str, StreamSpec] = {}
        if not isinstance(data, dict):
            self._add("streams", "must be a mapping of stream id to {uri: ...}")
            return streams
        if len(data) > MAX_STREAMS:
            self._add("streams", f"{len(data)} streams; at most {MAX_STREAMS} are allowed")
            return streams
        for key, value in data.items():
            where = f"streams.{key}"
            self._name(where, key)
            entry = {"uri": str(value)} if isinstance(value, str | int | Path) else value
            if isinstance(entry, dict) and isinstance(entry.get("uri"), int | Path):
                entry = entry | {"uri": str(entry["uri"])}
            try:
                streams[str(key)] = StreamSpec.model_validate(entry)
            except ValidationError as error:
                self._pydantic(where, error, StreamSpec)
        return streams

    def _stages(self, data: Any) -> list[StageSpec]:
        stages: list[StageSpec] = []
        if not isinstance(data, dict) or not data:
            self._add("stages", "must be a mapping of stage name to {use: ..., options}")
            return stages
        if len(data) > MAX_STAGES:
            self._add("stages", f"{len(data)} stages; at most {MAX_STAGES} are allowed")
            return stages
        above: str | None = None  # the nearest stage above that is not a sink
        for key, value in data.items():
            where = f"stages.{key}"
            self._name(where, key)
            if not isinstance(value, dict) or "use" not in value:
                self._add(where, "must be a mapping with the key use (`streamkp stages` lists what there is)")
                continue
            stage = self._stage(str(key), where, value, above, data)
            if stage is None:
                above = str(key)
                continue
            stages.append(stage)
            if stage.cls.kind != "sink":
                above = stage.name
        return stages

    def _stage(
        self, name: str, where: str, value: dict[str, Any], above: str | None, data: Mapping[Any, Any]
    ) -> StageSpec | None:
        common = {k: v for k, v in value.items() if k in StageSettings.model_fields}
        own = {k: v for k, v in value.items() if k not in common and k != "from"}
        if isinstance(common["use"], type):  # a graph made in Python may give the class itself
            common["use"] = common["use"].__name__
        settings = None
        try:
            settings = StageSettings.model_validate(common)
        except ValidationError as error:
            self._pydantic(where, error, StageSettings)
        try:
            use = value["use"]
            cls: type[Stage] = use if isinstance(use, type) else self._stage_class(str(use))
        except UsageError as error:
            self._add(f"{where}.use", str(error))
            return None
        inputs = self._inputs(where, value.get("from"), above, cls, data)
        options = None
        try:
            options = cls.Options.model_validate(own)
        except ValidationError as error:
            self._pydantic(where, error, cls.Options, ("use", "from", "queue", "batch", "workers"))
        except Exception as error:
            self._add(where, f"the options of {settings.use if settings else name} cannot be checked: {error!r}")
        if settings is None or options is None:
            return None
        if settings.workers > 1 and not cls.stateless:
            self._add(f"{where}.workers", f"{settings.use} keeps state between frames, so it runs in one thread")
        try:
            cls.check(options)
        except StreamkpError as error:
            self._add(where, str(error))
        except (Exception, SystemExit) as error:
            self._add(where, f"{settings.use} fails when its options are checked: {error!r}")
        return StageSpec(name, settings.use, cls, options, inputs, settings)

    def _stage_class(self, use: str) -> type[Stage]:
        if not self.plugins and registry.is_plugin(use):
            return _Unchecked
        return registry.stage_class(use, self.base)

    def _inputs(
        self, where: str, given: Any, above: str | None, cls: type[Stage], data: Mapping[Any, Any]
    ) -> tuple[str, ...]:
        if cls.kind == "source":
            if given is not None:
                self._add(f"{where}.from", "a source has no inputs")
            return ()
        if given is None:
            if above is None:
                self._add(where, "the first stage must be a source such as decode")
            return (above,) if above else ()
        inputs = [str(g) for g in given] if isinstance(given, list) else [str(given)]
        for name in inputs:
            if name not in data:
                known = [str(k) for k in data]
                self._add(f"{where}.from", f"there is no stage named {name}{did_you_mean(name, known)}")
        if len(set(inputs)) < len(inputs):
            self._add(f"{where}.from", "names a stage twice")
        return tuple(dict.fromkeys(inputs))

    def _order(self, stages: list[StageSpec], *, complete: bool) -> list[StageSpec]:
        """In topological order; what is missing is only told where no stage was left out for a fault of its own."""
        by_name = {stage.name: stage for stage in stages}
        sources = [stage.name for stage in stages if stage.cls.kind == "source"]
        unknown = any(stage.cls is _Unchecked for stage in stages)
        if stages and len(sources) != 1 and (sources or (complete and not unknown)):
            self._add("stages", f"a graph has one source; this one has {', '.join(sources) or 'none'}")
        if complete and stages and not unknown and not any(stage.cls.kind == "sink" for stage in stages):
            self._add("stages", "nothing leaves this graph: add a sink such as publish-websocket or record")
        for stage in stages:
            for name in stage.inputs:
                if name in by_name and by_name[name].cls.kind == "sink":
                    self._add(f"stages.{stage.name}.from", f"{name} is a sink; nothing comes out of it")
        ordered: list[StageSpec] = []
        done: set[str] = set()
        waiting = sorted(stages, key=lambda stage: stage.cls.kind != "source")
        while waiting:
            free = [s for s in waiting if all(i in done or i not in by_name for i in s.inputs)]
            if not free:
                self._add("stages", f"these stages wait for each other in a circle: {_cycle(waiting)}")
                return ordered
            ordered.append(free[0])
            done.add(free[0].name)
            waiting.remove(free[0])
        return ordered

    def _claims(self, stages: list[StageSpec]) -> None:
        owner: dict[str, str] = {}
        for stage in stages:
            for claim in stage.cls.claims(stage.options):
                if claim in owner:
                    self._add(
                        f"stages.{stage.name}", f"{claim} is already used by stage {owner[claim]}; choose another"
                    )
                owner.setdefault(claim, stage.name)

    def _name(self, where: str, key: Any) -> None:
        if not is_name(str(key)):
            self._add(where, NAME_RULE)

    def _pydantic(
        self, where: str, error: ValidationError, model: type[BaseModel], extra: tuple[str, ...] = ()
    ) -> None:
        for item in error.errors(include_url=False, include_context=False):
            path = ".".join([where, *(str(part) for part in item["loc"])])
            if item["type"] == "extra_forbidden":
                allowed = [*_aliases(_model_at(model, item["loc"][:-1])), *(extra if len(item["loc"]) == 1 else ())]
                self._add(path, f"unknown option{did_you_mean(str(item['loc'][-1]), allowed)}")
            elif item["type"] == "missing":
                self._add(path, "is required")
            else:
                shown = "" if is_secret(model, item["loc"]) else _shown(item.get("input"))
                self._add(path, item["msg"].replace("Value error, ", "") + shown)


def _model_at(model: type[BaseModel], path: Iterable[int | str]) -> type[BaseModel]:
    for part in path:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return model
        model = info.annotation
    return model


def is_secret(model: type[BaseModel], path: Sequence[int | str]) -> bool:
    """Whether the value at this place may be a credential, by its type, or by the name of any key on the way."""
    for n, part in enumerate(path):
        info = _model_at(model, path[:n]).model_fields.get(str(part))
        if info is not None and (info.repr is False or "Secret" in str(info.annotation)):
            return True
        if _SECRET_NAME.search(str(part)):
            return True
    return False


def _shown(found: Any) -> str:
    if not (isinstance(found, str | int | float | bool) or found is None):
        return ""
    text = repr(mask_address(found)) if isinstance(found, str) else repr(found)
    return f" (found {text if len(text) <= 80 else f'{text[:76]}...'})"


def _aliases(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """The end of a message about an unknown word: the allowed one that is nearest, or all of them."""
    names = sorted(set(allowed))
    close = difflib.get_close_matches(word, names, 1, 0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; allowed: {', '.join(names)}" if names else ""


def _cycle(stages: list[StageSpec]) -> str:
    by_name = {stage.name: stage for stage in stages}
    path = [stages[0].name]
    while True:
        following = next(i for i in by_name[path[-1]].inputs if i in by_name)
        if following in path:
            return " <- ".join([*path[path.index(following) :], following])
        path.append(following)
