"""Reads a graph file: YAML with line numbers, `${NAME}` from the environment, and overrides from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from streamkp.errors import UsageError
from streamkp.graph.validation import Problem
from streamkp.uris import VARIABLE, expand, mask

MAX_BYTES = 500_000
MAX_NODES = 40_000  # a thousand streams with all their options have half as many
MAX_DEPTH = 32
_Scanner: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # quick; the slow one has the better messages


def read_file(path: Path, shown: str) -> str:
    """The text of a graph file.

    Raises:
        UsageError: it cannot be read, is not text, or is larger than a graph file may be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"the graph file {shown} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the graph file {shown} cannot be read: it is not UTF-8 text ({error.reason})") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{shown} is larger than a graph file may be ({MAX_BYTES // 1000} kB)")
    return text


class GraphFileReader:
    """Turns the text of one graph file into plain data, remembering where everything stood.

    Args:
        origin: the file's name, for messages.
        env: where `${NAME}` is looked up.
    """

    def __init__(self, origin: str, env: Mapping[str, str]) -> None:
        self.origin = origin
        self.env = env
        self.place: dict[str, str] = {}  # dotted path -> "file:line"
        self.problems: list[Problem] = []
        self.secrets: dict[str, str] = {}  # value -> ${NAME}
        self._nodes = 0

    def read(self, text: str) -> dict[str, Any]:
        """The file as plain data.

        Raises:
            UsageError: it is not a YAML mapping, or absurdly large.
        """
        node = self._compose(text, self.origin)
        data = self._value(node, "") if node is not None else None
        if not isinstance(data, dict):
            raise UsageError(f"{self.origin}: a graph file is a mapping with the keys version, streams and stages")
        return data

    def override(self, data: dict[str, Any], text: str) -> None:
        """Apply one `--set path=value` to the data; the value is read as YAML.

        Raises:
            UsageError: it is not of that form, or names a stage that is not there.
        """
        dotted, sep, value = text.partition("=")
        if not sep or not dotted:
            raise UsageError(f"--set {mask(text)}: write it as path=value, for example stages.detect.every=5")
        node = self._compose(value, f"--set {mask(dotted)}", override=True)
        parts = dotted.split(".")
        stages = data.get("stages")
        names = [str(name) for name in stages] if isinstance(stages, dict) else []
        if parts[0] == "stages" and len(parts) > 1 and parts[1] not in names:
            raise UsageError(
                f"--set {mask(dotted)}: {self.origin} has no stage named {mask(parts[1])}; it has {', '.join(names)}"
            )
        # What was wrong with the value that is replaced, such as a variable that is not set, does not matter any more.
        self.problems = [p for p in self.problems if p.where != dotted and not p.where.startswith(f"{dotted}.")]
        assign(data, parts, self._value(node, dotted) if node is not None else None)
        self.place[dotted] = "--set"

    def set_stream(self, data: dict[str, Any], stream: str, text: str) -> None:
        """Give a stream an option, from `max_fps=10` on the command line; the value is read as YAML.

        Raises:
            UsageError: it is not of that form.
        """
        dotted, sep, value = text.partition("=")
        if not sep or not dotted:
            raise UsageError(f"--option {mask(text)}: write it as name=value, for example max_fps=10")
        node = self._compose(value, f"--option {mask(dotted)}", override=True)
        parts = ["streams", stream, *dotted.split(".")]
        assign(data, parts, self._value(node, dotted) if node is not None else None)
        self.place[".".join(parts)] = "--option"

    def hide(self, text: str) -> str:
        """Put the name of a variable back where its value would show."""
        for value, name in sorted(self.secrets.items(), key=lambda item: -len(item[0])):
            text = text.replace(value, name)
        return text

    def address(self, uri: str) -> str:
        """A source address given outside the file, with `${NAME}` put in as in the file.

        Raises:
            UsageError: a variable is not set.
        """
        for name in VARIABLE.findall(uri):
            if name not in self.env:
                raise UsageError(f"{mask(uri)}: the environment variable {name} is not set")
        self._remember(uri)
        return expand(uri, self.env)

    def _compose(self, text: str, where: str, *, override: bool = False) -> yaml.Node | None:
        """The nodes of one document, whose size and depth are known to be bearable before they are made."""
        if len(text) > MAX_BYTES:
            raise UsageError(f"{where}: larger than a graph file may be ({MAX_BYTES // 1000} kB)")
        try:
            self._check_size(text, _Scanner)
        except yaml.YAMLError:
            with suppress(yaml.YAMLError):  # said below
                self._check_size(text, yaml.SafeLoader)  # the scanner in C has limits of its own
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = f"{where}:{mark.line + 1}" if mark and not override else where
            reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
            what = "the value" if override else "this"
            raise UsageError(f"{at}: {what} is not valid YAML: {mask(str(reason))}") from None
        return node

    def _check_size(self, text: str, loader: Any) -> None:
        depth = 0
        for number, event in enumerate(yaml.parse(text, Loader=loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if number > 2 * MAX_NODES or depth > MAX_DEPTH:
                raise self._too_large(event)

    def _too_large(self, at: Any) -> UsageError:
        return UsageError(f"{self.origin}:{at.start_mark.line + 1}: this graph file is too large or too deep")

    def _value(self, node: yaml.Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or path.count(".") > MAX_DEPTH:  # aliases can make a small file huge
            raise self._too_large(node)
        if path:
            self.place[path] = f"{self.origin}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, f"{path}.{i}") for i, child in enumerate(node.value)]
        try:
            value = yaml.SafeLoader("").construct_object(node)
            str(value)  # a number of 6,000 hexadecimal digits is read, but cannot be shown
        except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
            # 2020-99-99 is no date, a number of 6,000 digits is none that Python reads, !!python/object is refused
            text = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
            reason = getattr(error, "problem", None) or str(error).partition(";")[0]
            self.problems.append(Problem(path, f"{mask(text)!r} cannot be read: {mask(reason)}; put it in quotes?"))
            return None
        return self._expand(value, path) if isinstance(value, str) else value

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for key_node, child in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                at = f"{self.origin}:{key_node.start_mark.line + 1}"
                raise UsageError(f"{at}: the keys of a graph file are words, not lists or mappings")
            key = key_node.value
            below = f"{path}.{key}" if path else str(key)
            self.place[below] = f"{self.origin}:{key_node.start_mark.line + 1}"
            if key in out:
                self.problems.append(Problem(below, "is given twice"))
            out[key] = self._value(child, below)
            self.place[below] = f"{self.origin}:{key_node.start_mark.line + 1}"
        return out

    def _expand(self, text: str, path: str) -> Any:
        missing = [name for name in VARIABLE.findall(text) if name not in self.env]
        for name in missing:
            self.problems.append(Problem(path, f"the environment variable {name} is not set"))
        if missing or not VARIABLE.search(text):
            return text
        self._remember(text)
        return expand(text, self.env)

    def _remember(self, text: str) -> None:
        for name in VARIABLE.findall(text):
            value = self.env[name]
            for shown in (value, expand(f"x://a:${{{name}}}@", {name: value})[6:-1]):
                if len(shown) > 2:
                    self.secrets[shown] = f"${{{name}}}"


def assign(data: dict[str, Any], parts: list[str], value: Any) -> None:
    """Set the entry at a path of keys, making the mappings on the way; None takes the entry away."""
    for part in parts[:-1]:
        below = data.get(part)
        if not isinstance(below, dict):
            below = data[part] = {}
        data = below
    if value is None:
        data.pop(parts[-1], None)
    else:
        data[parts[-1]] = value
