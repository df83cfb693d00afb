"""`fleet.yaml`: one graph, many streams, and what a node must have to run them.

version: 1
group: campus
graph: rtsp-fleet                      # a graph file, a ready-made graph, or the graph itself
broker: mqtt://broker.example:1883
limits: {p95_ms: 400, dropped: 0.02, streams: 64}
insecure: false                        # true: passwords may stand in this file; whoever reads the broker reads them
templates:
  door: {uri: "rtsp://viewer:${DOOR_PASSWORD}@{host}/live", require: {site: "{site}"}}
streams:
  gate: {uri: "rtsp://10.0.0.5/live", require: {gpu: true}, weight: 2}
  door-1: {template: door, host: 10.0.0.6, site: north}
csv: cameras.csv                       # columns: name, and any of the keys above, `require.site` for nested ones
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamkp.errors import UsageError
from streamkp.fleet.read import YamlReader, read_csv, read_text
from streamkp.graph.graph import Graph, find
from streamkp.graph.spec import NAME, GraphSpec, StreamSpec
from streamkp.graph.validation import GraphError, Problem, did_you_mean, is_secret
from streamkp.uris import HIDDEN, VARIABLE, mask, mask_address, split

MAX_STREAMS: Final = 100_000
_KEYS: Final = ("version", "group", "graph", "broker", "limits", "lease_s", "insecure", "templates", "streams", "csv")
_OWN: Final = ("template", "require", "weight")  # keys of a stream that are the fleet's own
_PLACEHOLDER: Final = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NAME: Final = re.compile(NAME)
_OPEN: Final = (
    "a password stands here, and the fleet would pass it on as it is: write ${NAME} instead, and set that variable "
    "where the nodes run (`insecure: true` in the fleet file allows it)"
)

Requirement = frozenset[tuple[str, str]]


class Limits(BaseModel):
    """Beyond these a node counts as overloaded, and streams leave it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    p95_ms: float = Field(400.0, gt=0, description="95th percentile of the time from capture to publish, milliseconds.")
    dropped: float = Field(0.02, gt=0, le=1, description="Share of the frames that are dropped.")
    streams: float = Field(64.0, gt=0, description="Most streams (their weights added) of a node that names no limit.")


@dataclass(frozen=True)
class FleetStream:
    """One stream of a fleet.

    Attributes:
        definition: the entry of a graph file's `streams`, with `${NAME}` not yet filled in.
        require: labels that its node must have.
        weight: how much of a node's limit it takes.
    """

    definition: Mapping[str, Any] = field(repr=False)
    require: Requirement = frozenset()
    weight: float = 1.0


@dataclass(frozen=True)
class FleetSpec:
    """A validated fleet. `graph_text` is the graph file's text as nodes get it, `base` the folder of its plugins;
    `lease_s` is None where the way in which supervisor and nodes speak decides.
    """

    group: str
    graph_text: str = field(repr=False)
    origin: str
    base: str
    streams: Mapping[str, FleetStream] = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    lease_s: float | None = None
    broker: str | None = field(default=None, repr=False)
    graph: GraphSpec | None = field(default=None, repr=False)

    def graph_document(self) -> dict[str, str]:
        """What a node needs to run the graph."""
        return {"text": self.graph_text, "origin": self.origin, "base": self.base}

    def open_credentials(self) -> list[str]:
        """Streams whose address has a credential in it rather than the name of a variable."""
        out = []
        for name, stream in self.streams.items():
            if _is_open(str(stream.definition.get("uri", ""))):
                out.append(name)
        return out

    def open_graph_credentials(self) -> list[str]:
        """Places in the graph, such as `stages.publish.broker`, that hold a credential instead of `${NAME}`."""
        return list(_open_places(yaml.safe_load(self.graph_text), ()))


def load(path: str | Path, *, env: Mapping[str, str] | None = None) -> FleetSpec:
    """Read and check a fleet file with its graph, templates and CSV files.

    Args:
        path: the file.
        env: where `${NAME}` of the graph is looked up; that of the streams is left to the nodes.

    Raises:
        UsageError: a file cannot be read.
        GraphError: with every problem found, each with file and line.
    """
    file = Path(path)
    return from_text(read_text(file, "the fleet file"), str(path), base=file.parent, env=env)


def from_text(
    text: str, origin: str = "fleet", *, base: Path | None = None, env: Mapping[str, str] | None = None
) -> FleetSpec:
    """As `load`, from text; `origin` stands for the file's name and `base` for its folder."""
    return _Reading(origin, base or Path(), os.environ if env is None else env).run(text)


class _Reading:
    def __init__(self, origin: str, base: Path, env: Mapping[str, str]) -> None:
        self._yaml = YamlReader(origin)
        self._origin = origin
        self._base = base
        self._env = env
        self._problems = self._yaml.problems
        self._requirements: dict[Requirement, Requirement] = {}
        self._insecure = False
        self._open: set[str] = set()  # where a password stands that was told of

    def run(self, text: str) -> FleetSpec:
        data = self._yaml.read(text)
        for key in data:
            if key not in _KEYS:
                self._add(str(key), f"unknown key{did_you_mean(str(key), _KEYS)}")
        if data.get("version", 1) != 1:
            self._add("version", f"is {data['version']!r}; this streamkp reads version 1")
        group = data.get("group", "default")
        if not isinstance(group, str) or not _NAME.match(group):
            self._add("group", "is a name of letters, digits, '.', '_' and '-'")
        self._insecure = data.get("insecure", False) is True
        if not isinstance(data.get("insecure", False), bool):
            self._add("insecure", "is true or false")
        limits = self._limits(data.get("limits") or {})
        lease = data.get("lease_s")
        if lease is not None and (not isinstance(lease, int | float) or not 2 <= lease <= 600):
            self._add("lease_s", "is a number of seconds from 2 to 600")
            lease = None
        graph_text, graph_origin, graph_base, graph = self._graph(data.get("graph"))
        streams = self._streams(data)
        if self._problems:
            raise GraphError(self._problems[:200], self._yaml.place, self._origin)
        broker = data.get("broker")
        return FleetSpec(
            str(group), graph_text, graph_origin, graph_base, streams, limits, lease,
            None if broker is None else str(broker), graph,
        )  # fmt: skip

    def _add(self, where: str, what: str) -> None:
        self._problems.append(Problem(where, mask(what)))

    def _limits(self, data: Any) -> Limits:
        try:
            return Limits.model_validate(data)
        except ValidationError as error:
            self._invalid("limits", error, Limits.model_fields)
            return Limits()

    def _invalid(self, where: str, error: ValidationError, keys: Iterable[str]) -> None:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            what = item["msg"].replace("Value error, ", "")
            if item["type"] == "extra_forbidden":
                what = "unknown key" + (did_you_mean(str(item["loc"][0]), keys) if len(item["loc"]) == 1 else "")
            self._add(".".join([where, *map(str, item["loc"])]), what)

    def _refuse(self, where: str, what: str = _OPEN) -> None:
        """A password stands there, once for each place."""
        if not self._insecure and where not in self._open:
            self._open.add(where)
            self._add(where, what)

    def _graph(self, given: Any) -> tuple[str, str, str, GraphSpec | None]:
        nothing = ("", "", "", None)
        if isinstance(given, dict):
            text, origin, base = yaml.safe_dump(given, sort_keys=False), f"{self._origin}: graph", self._base
        elif isinstance(given, str):
            file = self._base / given
            try:
                file = file if file.is_file() else find(given)
                text, origin, base = read_text(file, "the graph file"), given, file.parent
            except UsageError as error:
                self._add("graph", str(error))
                return nothing
        else:
            self._add("graph", "is required: a graph file, the name of a ready-made graph, or a graph")
            return nothing
        try:
            graph = Graph.from_text(text, origin, base=base, env=self._env)
            spec = graph.only_streams({}).validate()
        except UsageError as error:
            self._add("graph", f"\n{error}" if "\n" in str(error) else str(error))
            return nothing
        for place in _open_places(yaml.safe_load(text), ()):
            if isinstance(given, dict):
                self._refuse(f"graph.{place}")
            elif not self._insecure:
                self._add("graph", f"{origin}: {place}: {_OPEN}")
        return text, origin, str(base.resolve()), spec

    # -- streams ------------------------------------------------------------------------------------------------

    def _streams(self, data: dict[str, Any]) -> dict[str, FleetStream]:
        templates = data.get("templates") or {}
        if not isinstance(templates, dict) or not all(isinstance(each, dict) for each in templates.values()):
            self._add("templates", "must be a mapping of template name to the entry of a stream")
            templates = {}
        out: dict[str, FleetStream] = {}
        for name, where, entry in self._entries(data):
            if not _NAME.match(name):
                self._add(where, "a name has up to 64 letters, digits, '.', '_' and '-', a letter or digit first")
            elif name in out:
                self._add(where, f"there is a stream named {name} already")
            elif (stream := self._stream(where, entry, templates)) is not None:
                out[name] = stream
            if len(out) > MAX_STREAMS:
                self._add("streams", f"there are more than {MAX_STREAMS}")
                break
        return out

    def _entries(self, data: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
        streams = data.get("streams") or {}
        if not isinstance(streams, dict):
            self._add("streams", "must be a mapping of stream name to {uri: ...}")
            streams = {}
        for name, entry in streams.items():
            yield str(name), f"streams.{name}", {"uri": str(entry)} if isinstance(entry, str | int) else entry
        tables = data.get("csv") or []
        for n, table in enumerate(tables if isinstance(tables, list) else [tables]):
            extra = {}
            if isinstance(table, dict):
                extra = {key: value for key, value in table.items() if key != "file"}
                table = table.get("file")
            if not isinstance(table, str):
                self._add("csv", "is a CSV file, or {file: ..., template: ...}, or a list of them")
                continue
            try:
                for at, row in read_csv(self._base / table, table):
                    where = f"csv.{n}.{at.rpartition(':')[2]}"
                    self._yaml.place[where] = at
                    yield str(row.pop("name", "")), where, {**extra, **row}
            except UsageError as error:
                self._add("csv", str(error))

    def _stream(self, where: str, entry: Any, templates: Mapping[str, Any]) -> FleetStream | None:
        if not isinstance(entry, dict):
            self._add(where, "must be a mapping with the key uri or template")
            return None
        before, own = len(self._problems), entry
        if (template := entry.get("template")) is not None:
            filled = self._filled(where, entry, str(template), templates)
            if filled is None:
                return None
            entry = filled
        definition = {key: value for key, value in entry.items() if key not in _OWN}
        try:
            StreamSpec.model_validate(definition)
        except ValidationError as error:
            self._invalid(where, error, (*StreamSpec.model_fields, *_OWN))
        if _is_open(str(definition.get("uri", ""))):
            self._refuse(self._origin_of(where, own, templates))
        require = self._require(where, entry.get("require") or {})
        weight = self._weight(where, entry.get("weight", 1))
        return FleetStream(definition, require, weight) if len(self._problems) == before else None

    @staticmethod
    def _origin_of(where: str, entry: Mapping[str, Any], templates: Mapping[str, Any]) -> str:
        """Where the password of a stream's address stands: with the stream, or in its template."""
        name = str(entry.get("template"))
        written = str(templates[name].get("uri", "")) if name in templates else ""
        if "uri" in entry or _PLACEHOLDER.search(split(written).password or "") or not _is_open(written):
            return where if where.startswith("csv.") or "uri" not in entry else f"{where}.uri"
        return f"templates.{name}.uri"

    def _filled(
        self, where: str, entry: dict[str, Any], name: str, templates: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The template's entry with the stream's values in its `{placeholders}`, and the stream's own keys over it."""
        template = templates.get(name)
        if template is None:
            self._add(f"{where}.template", f"there is no template named {name}; there are: {', '.join(templates)}")
            return None
        missing: set[str] = set()
        used: set[str] = set()

        def value(match: re.Match[str]) -> str:
            key = match[1]
            used.add(key)
            if not isinstance(entry.get(key), str | int | float):
                missing.add(key)
                return ""
            return str(entry[key])

        def fill(item: Any) -> Any:
            if isinstance(item, str):
                return _PLACEHOLDER.sub(value, item)
            return {key: fill(below) for key, below in item.items()} if isinstance(item, dict) else item

        filled: dict[str, Any] = fill(template)
        for key in sorted(missing):
            self._add(where, f"the template {name} needs a value for {key}")
        for key, own in entry.items():
            if key == "template" or (key in used and key not in StreamSpec.model_fields):
                continue
            both = isinstance(own, dict) and isinstance(filled.get(key), dict)
            filled[key] = {**filled[key], **own} if both else own
        return None if missing else filled

    def _require(self, where: str, data: Any) -> Requirement:
        if not isinstance(data, dict) or any(isinstance(value, dict | list) for value in data.values()):
            self._add(f"{where}.require", "must be a mapping of label to value, such as {gpu: true, site: north}")
            return frozenset()
        found = frozenset((str(key), label(value)) for key, value in data.items())
        return self._requirements.setdefault(found, found)

    def _weight(self, where: str, given: Any) -> float:
        try:
            weight = float(given)
        except (TypeError, ValueError):
            weight = math.nan
        if not 0 < weight <= 1000:
            self._add(f"{where}.weight", "is a number above 0, at most 1000")
            return 1.0
        return weight


def _is_open(address: str) -> bool:
    """Whether an address holds a password, or a query or path field named like a secret, that is no variable."""
    if "://" not in address:
        return False
    parts = split(address)
    if parts.password and not VARIABLE.search(parts.password):
        return True
    rest = f"{parts.scheme}://{VARIABLE.sub(HIDDEN, parts.rest)}"
    return mask_address(rest) != rest


def _open_places(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _open_places(item, (*path, str(key)))
    elif isinstance(value, str) and (
        _is_open(value) or (value and not VARIABLE.search(value) and is_secret(BaseModel, path))
    ):
        yield ".".join(path)


def label(value: Any) -> str:
    """A label's value as text: YAML's `true` and the `true` of a command line are the same."""
    return str(value).lower() if isinstance(value, bool) else str(value)
