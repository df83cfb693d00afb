"""Graph files that are not what they should be: an error in words, soon, and nothing else."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkp.errors import StreamkpError
from streamkp.graph.graph import Graph
from tests.fuzz.mutate import mutated

GRAPHS = sorted((Path(__file__).resolve().parents[2] / "graphs").glob("*.yaml"))
ENV = {"CAM_PASSWORD": "secret-3141"}
LIMIT = 5.0  # seconds for one file: a hang, not a measure of speed


def refused_or_read(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    started = time.monotonic()
    try:
        Graph.from_yaml(path, env=ENV).validate()
    except StreamkpError as error:
        said = str(error)
    else:
        said = "it is a graph"
    assert said
    assert "secret-3141" not in said
    assert time.monotonic() - started < LIMIT


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: path.stem)
def test_damaged_graph_files(graph: Path, tmp_path: Path) -> None:
    data = graph.read_bytes()
    for seed in range(20):
        refused_or_read(tmp_path / "g.yaml", mutated(data, seed))


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.sampled_from(["decode", "record", "keypoints-2d", "${CAM_PASSWORD}", "${NOT_SET}", "rtsp://u:p'w@h/x"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in nested mappings and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for key, value in items for p in ((*path, key), *places(value, (*path, key)))]


@settings(max_examples=80)
@given(st.data())
def test_any_value_in_any_place(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    graph = yaml.safe_load(data.draw(st.sampled_from(GRAPHS)).read_text())
    *way, last = data.draw(st.sampled_from(places(graph)))
    at = graph
    for key in way:
        at = at[key]
    at[last] = data.draw(VALUES)
    folder = tmp_path_factory.getbasetemp() / "any-value"
    folder.mkdir(exist_ok=True)
    refused_or_read(folder / "g.yaml", yaml.safe_dump(graph, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(max_examples=60)
@given(VALUES)
def test_any_yaml(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-yaml"
    folder.mkdir(exist_ok=True)
    refused_or_read(folder / "g.yaml", yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("seed", range(6))
def test_noise(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    marks = "{}[]:,-&*!|>%@`'\"# \n\tabc0.e~"
    for _ in range(30):
        refused_or_read(tmp_path / "g.yaml", "".join(chance.choices(marks, k=chance.randrange(200))).encode())
        refused_or_read(tmp_path / "g.yaml", chance.randbytes(chance.randrange(200)))


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: &d [*c, *c]\ne: &e [*d, *d]\nf: &f [*e, *e]\ng: [*f, *f]\n",
        b"a: &a\n  b: *a\n",
        b"&a : *a\n",
        b"version: 2020-99-99\n",
        b"version: " + b"9" * 6000 + b"\n",
        b"version: 0x" + b"f" * 6000 + b"\n",
        b"version: 1:" + b"59:" * 2000 + b"59\n",
        b"version: " + b"[" * 3000 + b"]" * 3000 + b"\n",
        b"version: " + b"{a: " * 3000 + b"}" * 3000 + b"\n",
        b"- " * 3000 + b"x\n",
        b"version: !!python/object/apply:os.system ['true']\n",
        b"version: !!binary '====='\n",
        b"version: .inf\nstages: {decode: {use: decode, timeout: .nan}}\n",
        b"stages: {? [a, b] : c}\n",
        b"stages: {decode: {use: decode}, decode: {use: decode}}\n",
        b"stages: true\n",
        b"stages: 5\nstreams: 2020-01-01\n",
        b"<<: *nothing\n",
        b"<<: 5\n",
        b"%YAML 9.9\n---\nversion: 1\n",
        b"version: 1\n---\nversion: 1\n",
        b"version: 1\x00\n",
        b"\xff\xfev\0e\0r\0",
        b"stages: {decode: {use: '" + b"x" * 100_000 + b"'}}\n",
        b"stages: {decode: {use: decode, rotate: " + b"a" * 100_000 + b"}}\n",
        b"#" * 600_000,
        b"\n" * 400_000 + b"version: 1\n",
        b"stages:\n" + b"".join(b"  s%d: {use: decode}\n" % n for n in range(8000)),
        b"streams:\n" + b"".join(b"  s%d: {uri: 'x'}\n" % n for n in range(20_000)),
    ],
    ids=lambda text: repr(text[:24]),
)  # fmt: skip
def test_what_breaks_readers_of_yaml(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "g.yaml"
    path.write_bytes(text)
    started = time.monotonic()
    with pytest.raises(StreamkpError):
        Graph.from_yaml(path, env=ENV).validate()
    assert time.monotonic() - started < LIMIT
