"""Reads a graph file: YAML with line numbers, `${NAME}` from the environment, and overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from streamkp.errors import UsageError
from streamkp.graph.spec import Problem

MAX_NODES = 100_000
MAX_DEPTH = 32
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Reader:
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
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            at = f"{self.origin}:{mark.line + 1}" if mark else self.origin
            raise UsageError(f"{at}: this is not valid YAML: {getattr(error, 'problem', error)}") from None
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
            raise UsageError(f"--set {text}: write it as path=value, for example stages.detect.every=5")
        try:
            node = yaml.compose(value, Loader=yaml.SafeLoader)
        except yaml.YAMLError:
            raise UsageError(f"--set {dotted}: the value is not valid YAML") from None
        parts = dotted.split(".")
        if parts[0] == "stages" and len(parts) > 1 and parts[1] not in (data.get("stages") or {}):
            known = ", ".join(str(name) for name in data.get("stages") or {})
            raise UsageError(f"--set {dotted}: {self.origin} has no stage named {parts[1]}; it has {known}")
        assign(data, parts, self._value(node, dotted) if node is not None else None)
        self.place[dotted] = "--set"

    def hide(self, text: str) -> str:
        """Put the name of a variable back where its value would show."""
        for value, name in sorted(self.secrets.items(), key=lambda item: -len(item[0])):
            text = text.replace(value, name)
        return text

    def _value(self, node: yaml.Node, path: str) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or path.count(".") > MAX_DEPTH:  # aliases can make a small file huge
            raise UsageError(f"{self.origin}:{node.start_mark.line + 1}: this graph file is too large or too deep")
        if path:
            self.place[path] = f"{self.origin}:{node.start_mark.line + 1}"
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, f"{path}.{i}") for i, child in enumerate(node.value)]
        value = yaml.SafeLoader("").construct_object(node)
        return self._expand(value, path) if isinstance(value, str) else value

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        for key_node, child in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node)
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

        def expand(match: re.Match[str]) -> str:
            value = self.env[match[1]]
            if len(value) > 2:
                self.secrets[value] = match[0]
            return value

        return VARIABLE.sub(expand, text)


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
