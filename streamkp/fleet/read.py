"""Reads fleet files: YAML with line numbers, anchors and merge keys, and CSV; thousands of streams in a second.

Unlike a graph file nothing is expanded here: `${NAME}` stays as it is, for the nodes to fill in from their own
environment, so that passwords travel over no broker.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from streamkp.errors import UsageError
from streamkp.graph.validation import Problem
from streamkp.uris import mask

MAX_BYTES: Final = 16_000_000
MAX_NODES: Final = 1_000_000
MAX_DEPTH: Final = 32
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"


def read_text(path: Path, what: str) -> str:
    """The text of a file.

    Raises:
        UsageError: it cannot be read, is not UTF-8, or is larger than 16 MB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{what} {path} is larger than {MAX_BYTES // 1_000_000} MB")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{what} {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} {path} cannot be read: it is not UTF-8 text ({error.reason})") from None


class YamlReader:
    """One YAML document as plain data. `place` says where each entry stood, `problems` what could not be read."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.place: dict[str, str] = {}  # dotted path -> "file:line"
        self.problems: list[Problem] = []
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def read(self, text: str) -> dict[str, Any]:
        """The document.

        Raises:
            UsageError: it is no YAML mapping, or absurdly large or deep.
        """
        try:
            self._check_depth(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            node = None
            with suppress(yaml.YAMLError):  # the parser in C has the poorer messages
                node = yaml.compose(text, Loader=_Loader)
            if node is None:
                mark = getattr(error, "problem_mark", None)
                at = f"{self.origin}:{mark.line + 1}" if mark else self.origin
                reason = getattr(error, "problem", None) or "it cannot be parsed"
                raise UsageError(f"{at}: this is not valid YAML: {mask(str(reason))}") from None
        data = self._value(node, "") if node is not None else None
        if not isinstance(data, dict):
            raise UsageError(f"{self.origin}: a fleet file is a mapping with the keys group, graph and streams")
        return data

    def _check_depth(self, text: str) -> None:
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or number > 2 * MAX_NODES:
                raise self._too_large(event)

    def _too_large(self, at: Any) -> UsageError:
        return UsageError(f"{self.origin}:{at.start_mark.line + 1}: this file is too large or too deep")

    def _value(self, node: yaml.Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or path.count(".") > MAX_DEPTH:  # aliases can make a small file huge
            raise self._too_large(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, f"{path}.{n}") for n, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return node.value
        try:
            if kind in ("int", "float", "bool", "null"):
                return getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, OverflowError, KeyError):
            pass
        text = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
        self.problems.append(Problem(path, f"{mask(text)!r} cannot be read; put it in quotes?"))
        return None

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        own: set[str] = set()
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise UsageError(f"{self._at(key_node)}: keys are words, not lists or mappings")
            key = key_node.value
            if key_node.tag == f"{_TAG}merge":
                merged.append((key_node, child))
                continue
            below = f"{path}.{key}" if path else str(key)
            self.place[below] = self._at(key_node)
            if key in own:
                self.problems.append(Problem(below, "is given twice"))
            own.add(key)
            out[key] = self._value(child, below)
        for key_node, child in merged:
            sources = child.value if isinstance(child, yaml.SequenceNode) else [child]
            for source in sources:
                found = self._value(source, f"{path}.<<") if isinstance(source, yaml.MappingNode) else None
                if found is None:
                    raise UsageError(f"{self._at(key_node)}: << takes a mapping, such as *name, or a list of them")
                for key, value in found.items():
                    out.setdefault(key, value)
        return out

    def _at(self, node: yaml.Node) -> str:
        return f"{self.origin}:{node.start_mark.line + 1}"


def read_csv(path: Path, origin: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file of streams, as (`file:line`, entry). `labels.site` becomes `labels: {site: ...}`.

    Raises:
        UsageError: it cannot be read, or is not CSV with a column `name`.
    """
    text = read_text(path, "the CSV file")
    lines = csv.reader(text.splitlines(), strict=True)
    try:
        head = [cell.strip() for cell in next(lines, [])]
        if "name" not in head or len(set(head)) < len(head):
            raise UsageError(f"{origin}:1: the first line names the columns, each once, one of them `name`")
        for row in lines:
            at = f"{origin}:{lines.line_num}"
            if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
                continue
            if len(row) > len(head):
                raise UsageError(f"{at}: {len(row)} cells; the first line names {len(head)} columns")
            entry: dict[str, Any] = {}
            for column, cell in zip(head, row, strict=False):
                if cell := cell.strip():
                    group, _, key = column.rpartition(".")
                    (entry.setdefault(group, {}) if group else entry)[key] = cell
            yield at, entry
    except csv.Error as error:
        raise UsageError(f"{origin}:{lines.line_num}: this is not valid CSV: {error}") from None
