"""Fleet files: templates, anchors, CSV, and errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkp.errors import UsageError
from streamkp.fleet import spec
from streamkp.graph.validation import GraphError

GRAPH = """\
graph:
  stages:
    decode: {use: decode}
    publish: {use: publish-mqtt, broker: localhost}
"""


def read(text: str, base: Path | None = None) -> spec.FleetSpec:
    return spec.from_text(GRAPH + text, "fleet.yaml", base=base, env={})


def complaint(text: str, base: Path | None = None) -> list[str]:
    with pytest.raises(GraphError) as error:
        read(text, base)
    return str(error.value).splitlines()


def test_templates_fill_in_and_are_written_over() -> None:
    fleet = read("""
templates:
  door: {uri: "rtsp://me:${PASSWORD}@{host}/live", require: {site: "{site}"}, weight: 2}
streams:
  a: {template: door, host: 10.0.0.1, site: north}
  b: {template: door, host: 10.0.0.2, site: south, weight: 3, require: {gpu: true}}
  c: rtsp://10.0.0.3/live
""")
    assert fleet.streams["a"] == spec.FleetStream(
        {"uri": "rtsp://me:${PASSWORD}@10.0.0.1/live"}, frozenset({("site", "north")}), 2.0
    )
    assert fleet.streams["b"].require == {("site", "south"), ("gpu", "true")}
    assert fleet.streams["b"].weight == 3.0
    assert fleet.streams["c"].definition == {"uri": "rtsp://10.0.0.3/live"}
    assert "10.0.0.1" not in repr(fleet)


def test_anchors_and_merge_keys() -> None:
    fleet = read("""
streams:
  a: &base {uri: rtsp://a/live, loop: true, require: {gpu: true}}
  b: {<<: *base, uri: rtsp://b/live}
""")
    assert fleet.streams["b"].definition == {"uri": "rtsp://b/live", "loop": True}
    assert fleet.streams["b"].require == {("gpu", "true")}


def test_csv_rows_are_streams(tmp_path: Path) -> None:
    (tmp_path / "cameras.csv").write_text(
        'name,uri,host,require.site,weight\n# a comment\na,rtsp://a/live,,north,2\n\nb,"rtsp://b/live?x=1,2",,,\n'
    )
    (tmp_path / "doors.csv").write_text("name,host\nd,10.0.0.9\n")
    fleet = read(
        """
templates: {door: {uri: "rtsp://{host}/live"}}
csv:
  - cameras.csv
  - {file: doors.csv, template: door}
""",
        tmp_path,
    )
    assert fleet.streams["a"].require == {("site", "north")}
    assert fleet.streams["a"].weight == 2.0
    assert fleet.streams["b"].definition["uri"] == "rtsp://b/live?x=1,2"
    assert fleet.streams["d"].definition["uri"] == "rtsp://10.0.0.9/live"


def test_every_error_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "cameras.csv").write_text(
        "name,uri,weight\nx,rtsp://x/live,1\ny,rtsp://y/live,heavy\nx,rtsp://z/live,1\n"
    )
    lines = complaint(
        """
lease_s: 1
templates:
  door: {uri: "rtsp://{host}/live"}
streams:
  a: {template: door}
  b: {template: window}
  c: {uri: rtsp://c/live, lop: true}
  "d d": {uri: rtsp://d/live}
  e: {uri: rtsp://e/live, weight: -1}
  f: 5
  f: {uri: rtsp://f/live}
limits: {p95_ms: fast}
csv: cameras.csv
""",
        tmp_path,
    )
    found = {line.partition(": ")[0]: line for line in lines}
    assert "needs a value for host" in found["fleet.yaml:10"]
    assert "no template named window; there are: door" in found["fleet.yaml:11"]
    assert "streams.c.lop: unknown key" in found["fleet.yaml:12"]
    assert "a name has" in found["fleet.yaml:13"]
    assert "streams.e.weight" in found["fleet.yaml:14"]
    assert "given twice" in found["fleet.yaml:16"]
    assert "limits.p95_ms" in found["fleet.yaml:17"]
    assert "weight" in found["cameras.csv:3"]
    assert "a stream named x already" in found["cameras.csv:4"]
    assert any("lease_s" in line and "from 2 to 600" in line for line in lines)


def test_a_graph_that_is_wrong_is_told_with_its_own_lines() -> None:
    with pytest.raises(GraphError, match="unknown option"):
        spec.from_text("graph:\n  stages:\n    decode: {use: decode, tmeout: 3}\nstreams: {}\n", env={})
    with pytest.raises(GraphError, match="does not exist"):
        spec.from_text("graph: no-such-graph\nstreams: {}\n", env={})
    assert "graph: is required" in "".join(str(each) for each in [_error("streams: {}\n")])


def _error(text: str) -> GraphError:
    with pytest.raises(GraphError) as error:
        spec.from_text(text, env={})
    return error.value


@pytest.mark.parametrize(
    "text", ["[1, 2", "- a list", "a: &x [*x]", "x: " + "[" * 40 + "]" * 40, "? [a, b]\n: c", "\x00"]
)
def test_what_is_no_fleet_file_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError, match="fleet"):
        spec.from_text(text, env={})


def test_passwords_in_the_file_are_refused_where_they_stand(tmp_path: Path) -> None:
    (tmp_path / "cameras.csv").write_text("name,template,host,pw\nx,csv,h,${P}\ny,csv,h,secret\n")
    lines = complaint(
        """
templates:
  door: {uri: "rtsp://viewer:secret@{host}/live"}
  csv: {uri: "rtsp://viewer:{pw}@{host}/live"}
streams:
  a: "rtsp://me:secret@a/"
  b: "rtsp://me:${P}@b/"
  c: {uri: "rtsp://c/live?password=secret"}
  d: "rtsp://d/live?password=${P}"
  e: {uri: "rtsp://e/user=${U}_password=secret_channel=1"}
  f: "rtsp://viewer:${P}@f/live?channel=1"
  g: {template: door, host: g}
  h: {template: door, host: h}
csv: cameras.csv
""",
        tmp_path,
    )
    assert [line.partition(" a password stands here")[0] for line in lines] == [
        "fleet.yaml:10: streams.a.uri:", "fleet.yaml:12: streams.c.uri:", "fleet.yaml:14: streams.e.uri:",
        "fleet.yaml:7: templates.door.uri:", "cameras.csv:3: csv.0.3:",
    ]  # fmt: skip
    assert all("write ${NAME} instead" in line and "insecure: true" in line for line in lines)
    assert "secret" not in "".join(lines).replace("@", " ")


def test_credentials_in_the_graph_are_refused_where_they_stand(tmp_path: Path) -> None:
    def graph(broker: str, token: str) -> str:
        return (
            GRAPH.replace("localhost", f'"{broker}"') + f"  control: {{port: 0, token: '{token}'}}\nstreams: {{a: c}}\n"
        )

    with pytest.raises(GraphError) as error:
        spec.from_text(graph("mqtt://me:secret@b", "x" * 32), env={})
    assert [problem.where for problem in error.value.problems] == ["graph.stages.publish.broker", "graph.control.token"]
    assert spec.from_text(graph("mqtt://me:${P}@b", "${T}"), env={"P": "x" * 32, "T": "x" * 32}).streams
    (tmp_path / "graph.yaml").write_text(
        "stages:\n  decode: {use: decode}\n  publish: {use: publish-mqtt, broker: 'mqtt://me:secret@b'}\n"
    )
    with pytest.raises(GraphError, match=r"graph: graph.yaml: stages.publish.broker: a password stands here"):
        spec.from_text("graph: graph.yaml\nstreams: {a: c}\n", base=tmp_path, env={})


def test_insecure_allows_passwords_and_names_them() -> None:
    fleet = read("insecure: true\nstreams: {a: 'rtsp://me:secret@a/', b: 'rtsp://me:${P}@b/', c: 'rtsp://c/'}\n")
    assert fleet.open_credentials() == ["a"]
    text = GRAPH.replace("localhost", "'mqtt://me:secret@b'") + "streams: {a: c}\ninsecure: true\n"
    assert spec.from_text(text, env={}).open_graph_credentials() == ["stages.publish.broker"]
    with pytest.raises(GraphError, match="insecure: is true or false"):
        read("insecure: maybe\nstreams: {}\n")


def test_thousands_of_streams_are_read_whole() -> None:
    rows = "".join(f"  cam-{n}: {{template: t, host: 10.0.{n // 250}.{n % 250}}}\n" for n in range(3000))
    fleet = read("templates: {t: {uri: 'rtsp://{host}/'}}\nstreams:\n" + rows)
    assert len(fleet.streams) == 3000
    assert fleet.streams["cam-2999"].definition["uri"] == "rtsp://10.0.11.249/"
