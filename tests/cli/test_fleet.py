"""`streamkp fleet` and `streamkp node`, as far as they need no broker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.cli.node import labels
from streamkp.errors import UsageError
from streamkp.fleet.broker import Broker

FLEET = """\
version: 1
group: g
graph:
  stages:
    decode: {use: decode}
    publish: {use: publish-mqtt, broker: localhost}
limits: {streams: 4}
templates:
  t: {uri: "rtsp://{host}/", require: {site: "{site}"}}
streams:
  a: {template: t, host: a, site: north}
  b: {template: t, host: b, site: south}
  c: rtsp://c/
  d: "rtsp://me:${D_PASSWORD}@d/"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_a_plan_says_where_streams_go_and_what_waits(file: Path) -> None:
    words = ["fleet", "plan", str(file), "--json", "--node", "n1:3,site=north", "--node", "n2,site=west"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, "something waits"
    found = json.loads(done.stdout)
    assert found["waiting"] == {"b": "no node has site: south"}
    assert sorted(name for names in found["nodes"].values() for name in names) == ["a", "c", "d"]
    assert "a" in found["nodes"]["n1.plan"]


def test_a_password_is_refused_unless_the_file_allows_it(file: Path) -> None:
    text = FLEET.replace("${D_PASSWORD}", "secret")
    words = ["fleet", "plan", str(file), "--nodes", "1"]
    file.write_text(text)
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert "fleet.yaml:14: streams.d.uri: a password stands here" in str(done.exception)
    assert "write ${NAME} instead" in str(done.exception)
    assert "secret" not in str(done.exception)
    file.write_text("insecure: true\n" + text)
    done = CliRunner().invoke(app, words)
    assert "insecure: passwords stand in the fleet file (streams: d; 1 in all)" in done.stderr
    assert "secret" not in done.output


def test_a_plan_as_a_table(file: Path) -> None:
    file.write_text(
        FLEET.replace(', require: {site: "{site}"}', "").replace(", site: north", "").replace(", site: south", "")
    )
    done = CliRunner().invoke(app, ["fleet", "plan", str(file), "--nodes", "2"])
    assert done.exit_code == 0
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [["node-1", "2"], ["node-2", "2"]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["fleet", "plan", "nowhere.yaml"], "cannot be read"),
        (["fleet", "plan", "FILE"], "no broker"),
        (["fleet", "plan", "FILE", "--node", "n:many"], "NAME:CAPACITY"),
        (["fleet", "run", "FILE", "--broker", "http://x"], "is not mqtt://"),
        (["fleet", "run", "FILE", "--broker", "mqtt://${NOT_THERE}@x"], "NOT_THERE is not set"),
        (["fleet", "run", "FILE", "--broker", "http://x"], "mqtt://HOST:PORT"),
        (["fleet", "plan", "FILE", "--node", "n:nan"], "capacity above 0"),
        (["fleet", "plan", "FILE", "--node", "n:-1"], "capacity above 0"),
        (["fleet", "plan", "FILE", "--node", "n", "--node", "n:2"], "the same name"),
        (["fleet", "status", "--broker", "x", "--group", "a/#"], "--group a/#"),
        (["node", "--broker", "x", "--group", "a/+"], "--group a/+"),
        (["node", "--broker", "x", "--name", "x/+"], "--name x/+"),
        (["fleet", "status"], "say where the fleet is"),
        (["node", "--broker", "mqtt://x", "--label", "north"], "write it as KEY=VALUE"),
        (["run", "FILE", "--engine", "ray", "--source", "0"], "those of the fleet file"),
        (["run", "--address", "auto"], "go with --engine ray"),
    ],
)
def test_wrong_words_are_told(file: Path, words: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, [str(file) if word == "FILE" else word for word in words])
    assert isinstance(done.exception, UsageError)
    assert complaint in str(done.exception)


def test_labels() -> None:
    assert labels(["site=north", "gpu=true"]) == {"site": "north", "gpu": "true"}


def test_a_brokers_password_does_not_show() -> None:
    broker = Broker("mqtts://me:${P}@broker.example", "g", env={"P": "s3cret/@"})
    assert broker.shown == "mqtts://***@broker.example"
    assert broker.topic("state", "n") == "streamkp-fleet/g/state/n"
    assert broker.parts("streamkp-fleet/g/state/n") == ["state", "n"]
