"""What a graph file may say, and what people are told when it says something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkp.errors import UsageError
from streamkp.graph.graph import Graph
from streamkp.graph.spec import GraphSpec
from streamkp.graph.validation import GraphError
from tests.graph.stages import Numbers, Print, Scale

GOOD = """\
version: 1
streams:
  cam: {uri: "rtsp://user:${CAM_PASSWORD}@10.0.0.5/live"}
stages:
  source: {use: tests/graph/stages.py:Numbers}
  double: {use: tests/graph/stages.py:Scale, factor: 2, queue: {size: 2, full: drop-oldest}}
  out: {use: tests/graph/stages.py:Print, port: 1}
"""
BASE = Path(__file__).parents[2]
ENV = {"CAM_PASSWORD": "hunter2"}


def parse(text: str, **more: object) -> GraphSpec:
    return Graph.from_text(text, "g.yaml", base=BASE, env=ENV, **more).validate()  # type: ignore[arg-type]


def problems(text: str, **more: object) -> list[str]:
    with pytest.raises(GraphError) as error:
        parse(text, **more)
    return str(error.value).splitlines()


def test_a_good_graph() -> None:
    graph = parse(GOOD)
    assert [stage.name for stage in graph.stages] == ["source", "double", "out"]
    assert graph.stages[1].inputs == ("source",)
    assert graph.stages[1].options.factor == 2
    assert graph.stages[1].settings.queue.size == 2
    assert graph.streams["cam"].uri.get_secret_value() == "rtsp://user:hunter2@10.0.0.5/live"
    assert "hunter2" not in repr(graph)


def test_the_stage_above_a_sink_is_not_the_sink() -> None:
    graph = parse(GOOD + "  more: {use: tests/graph/stages.py:Print, port: 2}\n")
    assert graph.stages[-1].inputs == ("double",)


def test_every_problem_is_reported_with_its_line() -> None:
    text = """\
version: 1
streams:
  cam: {uri: "x", lvie: true}
stages:
  source: {use: tests/graph/stages.py:Numbers}
  double:
    use: tests/graph/stages.py:Scale
    facter: 2
    queue: {sise: 2}
  triple: {use: tests/graph/stages.py:Scale, factor: many}
  lost: {use: tests/graph/stages.py:Scale, from: tripel}
  out: {use: publish-websockt}
"""
    assert problems(text) == [
        "g.yaml:3: streams.cam.lvie: unknown option; did you mean live?",
        "g.yaml:9: stages.double.queue.sise: unknown option; did you mean size?",
        "g.yaml:8: stages.double.facter: unknown option; did you mean factor?",
        "g.yaml:10: stages.triple.factor: Input should be a valid integer, unable to parse string as an integer "
        "(found 'many')",
        "g.yaml:11: stages.lost.from: there is no stage named tripel; did you mean triple?",
        "g.yaml:12: stages.out.use: there is no stage named publish-websockt; did you mean publish-websocket?",
    ]


def test_a_circle_is_named() -> None:
    text = GOOD.replace("double: {", "double: {from: third, ") + (
        "  third: {use: tests/graph/stages.py:Scale, from: double}\n"
    )
    assert problems(text) == [
        "g.yaml:4: stages: these stages wait for each other in a circle: double <- third <- double"
    ]


def test_two_sinks_on_one_port() -> None:
    assert problems(GOOD + "  more: {use: tests/graph/stages.py:Print, port: 1}\n") == [
        "g.yaml:8: stages.more: port 1 is already used by stage out; choose another"
    ]


def test_a_missing_variable_does_not_matter_where_the_value_is_replaced() -> None:
    text = GOOD.replace("factor: 2", 'factor: "${OTHER}"')
    assert problems(text) == ["g.yaml:6: stages.double.factor: the environment variable OTHER is not set"]
    assert parse(text, overrides=["stages.double.factor=3"]).stages[1].options.factor == 3
    assert problems(text, overrides=["stages.double.factor=${OTHER}"]) == [
        "--set: stages.double.factor: the environment variable OTHER is not set"
    ]


def test_a_missing_variable_is_an_error_and_a_present_one_never_shows() -> None:
    assert problems(GOOD.replace("CAM_PASSWORD", "OTHER")) == [
        "g.yaml:3: streams.cam.uri: the environment variable OTHER is not set"
    ]
    lines = problems(GOOD.replace("factor: 2", 'factor: "${CAM_PASSWORD}"'))
    assert len(lines) == 1
    assert "hunter2" not in lines[0]
    assert "${CAM_PASSWORD}" in lines[0]


def test_keys_given_twice() -> None:
    assert problems(GOOD + "  double: {use: tests/graph/stages.py:Scale}\n") == [
        "g.yaml:8: stages.double: is given twice"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "g.yaml:1: this is not valid YAML"),
        ("- a\n- b\n", "a graph file is a mapping"),
        ("", "a graph file is a mapping"),
        ("stages: !!python/object/apply:os.system ['true']\n", "must be a mapping of stage name"),
    ],
)
def test_not_a_graph(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_aliases_cannot_make_a_small_file_huge() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(UsageError, match="too large or too deep"):
        parse(bomb)


def test_overrides() -> None:
    graph = parse(GOOD, overrides=["stages.double.factor=7", "stages.out.port=9"])
    assert graph.stages[1].options.factor == 7
    with pytest.raises(UsageError, match=r"--set stages.dubble.factor: g.yaml has no stage named dubble"):
        parse(GOOD, overrides=["stages.dubble.factor=7"])
    assert problems(GOOD, overrides=["stages.double.factr=7"]) == [
        "--set: stages.double.factr: unknown option; did you mean factor?"
    ]


def test_sources_from_the_command_line_replace_those_of_the_file() -> None:
    graph = Graph.from_text(GOOD, base=BASE, env=ENV).only_streams({"webcam0": "0"}).validate()
    assert list(graph.streams) == ["webcam0"]


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Graph.from_yaml(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="is no regular file"):
        Graph.from_yaml(tmp_path)


def test_a_name_that_is_nearly_right_is_told() -> None:
    with pytest.raises(UsageError, match=r"fitnes does not exist; did you mean fitness\?$"):
        Graph.from_yaml("fitnes")
    with pytest.raises(UsageError, match=r"zzz does not exist; ready-made graphs: .*fitness"):
        Graph.from_yaml("zzz")


def test_the_same_graph_from_python() -> None:
    graph = Graph().stream("cam", "x").add("source", Numbers).add("double", Scale, factor=2).add("out", Print, port=1)
    spec = graph.validate()
    assert [(s.name, s.use, s.inputs) for s in spec.stages] == [
        ("source", "Numbers", ()),
        ("double", "Scale", ("source",)),
        ("out", "Print", ("double",)),
    ]
    with pytest.raises(GraphError, match="nothing leaves this graph"):
        graph.without_sinks().validate()


STAGES = "stages:\n  decode: {use: decode}\n  out: {use: record, path: out.jsonl}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("streams: {a: {uri: 2020-99-99}}\n" + STAGES, "g.yaml:1: streams.a.uri: '2020-99-99' cannot be read"),
        ("streams: {a: " + "9" * 6000 + "}\n" + STAGES, r"g.yaml:1: streams.a: '9+\.\.\.' cannot be read"),
        ("streams: " + "[" * 3000 + "]" * 3000 + "\n" + STAGES, "too large or too deep"),
        ("streams: " + "{a: " * 3000 + "}" * 3000 + "\n" + STAGES, "too large or too deep"),
        ("a: &x [*x]\n" + STAGES, "too large or too deep"),
        ("? [a]\n: b\n", "g.yaml:1: the keys of a graph file are words"),
        ("a: !!python/object/apply:os.system 'true'\n" + STAGES, "g.yaml:1: a: 'true' cannot be read"),
        ("a: \x00", "not valid YAML"),
        ("#" * 10_000_000, "larger than a graph file may be"),
    ],
)
def test_oddities_are_errors_of_the_graph(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        Graph.from_text(text, "g.yaml").validate()
    assert len(str(error.value)) < 400


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("a" * 10_000_000)
    with pytest.raises(UsageError, match="larger than a graph file may be"):
        Graph.from_yaml(tmp_path / "g.yaml")


@pytest.mark.parametrize("password", ["p/ss", "p#s", "p?s", "12/34", "12#34", "a b", "p%2Fss", "x@y:z"])
def test_a_password_with_any_sign(password: str) -> None:
    text = 'streams: {cam: {uri: "rtsp://admin:${PW}@127.0.0.1:8599/live"}}\n' + STAGES
    spec = Graph.from_text(text, env={"PW": password}).validate()
    host, _, user = spec.streams["cam"].uri.get_secret_value().removeprefix("rtsp://").partition("@")[::-1]
    assert host == "127.0.0.1:8599/live"
    assert not set("/#? @") & set(user)


@pytest.mark.parametrize(
    "text",
    [
        "streams: {'rtsp://u:s3cret@h/a': {uri: x}}\n" + STAGES,
        "streams: {cam: {uri: x, live: 'rtsp://u:s3cret@h'}}\n" + STAGES,
        "'rtsp://u:s3cret@h': 1\n" + STAGES,
        STAGES + "  'rtsp://u:s3cret@h': {use: record}\n",
        STAGES + "  a: {use: 'rtsp://u:s3cret@h'}\n",
        STAGES + "  a: {use: record, path: x, from: 'rtsp://u:s3cret@h'}\n",
        STAGES + "  a: {use: detect-person, every: 'rtsp://u:s3cret@h'}\n",
        STAGES + "  a: {use: publish-mqtt, broker: h, password: [s3cret]}\n",
        STAGES + "  a: {use: publish-mqtt, broker: {s3cret: 1}}\n",
        STAGES + "  a: {use: publish-websocket, tls: {key: 's3cret', cert: 1}}\n",
    ],
)
def test_a_credential_where_none_belongs_is_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as error:
        Graph.from_text(text, "g.yaml").validate()
    assert "s3cret" not in str(error.value)


class TestPlugins:
    def graph(self, folder: Path, code: str) -> Path:
        (folder / "plugin.py").write_text(code)
        path = folder / "g.yaml"
        path.write_text(STAGES + "  mine: {use: 'plugin.py:Mine', whatever: 1}\n")
        return path

    def test_leaving_the_program_is_an_error_of_the_plugin(self, tmp_path: Path) -> None:
        with pytest.raises(GraphError, match=r"plugin\.py cannot be imported: SystemExit\(3\)"):
            Graph.from_yaml(self.graph(tmp_path, "raise SystemExit(3)")).validate()

    def test_a_check_that_breaks(self, tmp_path: Path) -> None:
        code = (
            "from streamkp.graph.stage import MapStage, StageOptions\n"
            "class Mine(MapStage):\n"
            "    class Options(StageOptions):\n        whatever: int\n"
            "    @classmethod\n    def check(cls, options):\n        raise SystemExit(1)\n"
        )
        with pytest.raises(GraphError, match=r"stages\.mine: .*fails when its options are checked: SystemExit"):
            Graph.from_yaml(self.graph(tmp_path, code)).validate()

    def test_no_code_of_theirs_need_run(self, tmp_path: Path) -> None:
        path = self.graph(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        assert Graph.from_yaml(path).validate(plugins=False).unchecked == ("mine",)
        assert not (tmp_path / "ran").exists()
