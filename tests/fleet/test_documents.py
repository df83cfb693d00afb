"""The files for Kubernetes and Grafana name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.fleet import discovery, spec
from streamkp.fleet.supervisor import Supervisor
from streamkp.graph.statistics import StageFigures, prometheus_text

DOCKER = Path(__file__).parents[2] / "docker"
SECRETS = {"MQTT_LOGIN": "me:secret", "CAM_PASSWORD": "secret", "CTL_TOKEN": "0123456789abcdef"}


@pytest.fixture(scope="module")
def manifest() -> dict[tuple[str, str], dict[str, Any]]:
    found = yaml.safe_load_all((DOCKER / "kubernetes" / "fleet.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def test_the_fleet_file_in_the_manifest_is_valid(manifest: dict[tuple[str, str], dict[str, Any]]) -> None:
    text = manifest["ConfigMap", "streamkp-fleet"]["data"]["fleet.yaml"]
    fleet = spec.from_text(text, env=SECRETS)
    assert fleet.group == "campus"
    assert fleet.open_credentials() == []
    assert fleet.graph is not None
    assert [stage.name for stage in fleet.graph.stages][-1] == "publish"


@pytest.mark.parametrize(("name", "command"), [("supervisor", ["fleet", "run"]), ("node", ["node"])])
def test_the_commands_in_the_manifest_exist(
    manifest: dict[tuple[str, str], dict[str, Any]], name: str, command: list[str]
) -> None:
    pod = manifest["Deployment", f"streamkp-{name}"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    args = container["args"]
    assert args[: len(command)] == command
    known = CliRunner().invoke(app, [*command, "--help"]).output
    for word in args:
        if word.startswith("--"):
            assert word.partition("=")[0] in known
    used = set(re.findall(r"\$\{(\w+)\}", " ".join(args)))
    assert used <= set(SECRETS), "comes from the secret"
    assert container["envFrom"] == [{"secretRef": {"name": "streamkp-fleet"}}]
    assert pod["metadata"]["labels"] == manifest["Deployment", f"streamkp-{name}"]["spec"]["selector"]["matchLabels"]
    for probe in ("readinessProbe", "livenessProbe"):
        if probe in container:
            assert container[probe]["httpGet"]["port"] in [port["name"] for port in container["ports"]]


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    dashboard = json.loads((DOCKER / "grafana" / "streamkp-fleet.json").read_text())
    row = StageFigures("publish", "cam", done=1, latency=[0.1])
    supervisor = Supervisor({})
    text = prometheus_text([row], [("cam", "live")]) + discovery.metrics("g", supervisor.snapshot(0.0))
    there = set(re.findall(rb"^# TYPE (\S+)", text, re.MULTILINE))
    names = {name.decode().removesuffix("_total") for name in there}
    asked = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"streamkp_\w+", target["expr"]))
    assert len(asked) >= 8
    for name in asked:
        assert re.sub(r"_(total|bucket|count|sum)$", "", name) in names, name
