"""The code blocks of a Markdown page, and what is done with each.

* A block of `bash` or `python` is run, in the order of the page, in a folder of the page's own.
* `# needs a webcam` (or an engine, a network, ...) as its first line: it is not run. Its syntax is checked, and every
  `streamkp` command in it must be one that the program takes.
* `# runs until Ctrl-C`: it runs beside the blocks that follow, until the next such block or the end of the page.
* `# count.py` (or another file name): it is saved under that name, for the blocks that follow.
* `yaml` with `version: 1` is a graph and must pass `streamkp graph check`; other YAML, JSON and TOML must parse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w+-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_NOTE = re.compile(r"^(?:#|//|<!--) ?(?P<note>.*?)(?: ?-->)?$")
_FILE = re.compile(r"[\w./-]+\.(?:py|yaml|yml|json|html|toml|js|env)")


@dataclass(frozen=True)
class Block:
    """One block: its language, its code, where it is, and what its first line says about it."""

    page: Path
    line: int
    language: str
    code: str

    @property
    def note(self) -> str:
        """The comment in the first line, if it begins with one."""
        found = _NOTE.match(self.code.partition("\n")[0])
        return found["note"].strip() if found else ""

    @property
    def needs(self) -> bool:
        """It needs what a test does not have."""
        return self.note.startswith("needs ")

    @property
    def in_background(self) -> bool:
        """It ends when it is told to."""
        return self.note.startswith("runs until Ctrl-C")

    @property
    def file(self) -> str | None:
        """The name under which it is to be saved."""
        return self.note if _FILE.fullmatch(self.note) else None


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order, then indented ones, whose language is guessed."""
    text = page.read_text("utf-8")
    found = [
        Block(
            page, text.count("\n", 0, found.start()) + 2, found["language"], _dedented(found["code"], found["indent"])
        )
        for found in FENCE.finditer(text)
    ]
    return found + list(_indented(page, FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)))


def _dedented(code: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))


def _indented(page: Path, text: str) -> Iterator[Block]:
    for match in re.finditer(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n|\n(?= {4}))+", text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        if re.match(r"\s*(?:[*-]|\d+\.) ", before) or before.startswith(" "):
            continue  # a paragraph of a list
        code = _dedented(match[0].strip("\n") + "\n", "    ")
        yield Block(page, text.count("\n", 0, match.start()) + 1, _guess(code), code)


def _guess(code: str) -> str:
    if re.match(r"(?:streamkp|pip|python3?|docker|\.venv|ros2|npx) ", code):
        return "indented-bash"
    if code.startswith("version: 1"):
        return "yaml"
    return "indented"
