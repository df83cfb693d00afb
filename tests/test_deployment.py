"""The files of docker/: what can be known of them without Docker."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamkp.graph.graph import Graph

DOCKER = Path(__file__).resolve().parent.parent / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
LASTING = [name for name, service in SERVICES.items() if not service.get("healthcheck", {}).get("disable")]
DASHBOARD = json.loads((DOCKER / "grafana/dashboards/streamkp.json").read_text())


def _mounts() -> list[tuple[str, str, str]]:
    found = []
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source, target, *_ = mount.split(":")
            found.append((name, source, target))
    return found


def test_every_file_that_is_mounted_exists() -> None:
    files = [source for _, source, _ in _mounts() if source.startswith(".")]
    assert len(files) == 7
    assert [source for source in files if not (DOCKER / source).exists()] == []
    names = {source for _, source, _ in _mounts() if not source.startswith(".")}
    assert names == set(COMPOSE["volumes"])


def test_images_are_pinned_and_built_from_what_is_there() -> None:
    for name, service in SERVICES.items():
        if service["image"] == "streamkp":
            continue
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-\w+)?", service["image"]), name
    build = SERVICES["clip"]["build"]
    assert (DOCKER / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", LASTING)
def test_services_are_watched_and_bound(name: str) -> None:
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_services_wait_only_for_services_that_say_when_they_are_ready() -> None:
    for service in SERVICES.values():
        for other, wanted in service.get("depends_on", {}).items():
            lasting = "healthcheck" in SERVICES[other] and other in LASTING
            assert wanted["condition"] == ("service_healthy" if lasting else "service_completed_successfully")


def test_the_graph_is_sound_and_speaks_to_the_services() -> None:
    spec = Graph.from_yaml(DOCKER / "graph.yaml").validate()
    (uri,) = [stream.uri.get_secret_value() for stream in spec.streams.values()]
    options = {stage.name: stage.options for stage in spec.stages}
    assert uri.split("/")[2].split(":")[0] in SERVICES
    assert options["mqtt"].broker.split("/")[2].split(":")[0] in SERVICES
    scrape = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    ((target,),) = (job["targets"] for job in scrape["scrape_configs"][0]["static_configs"])
    host, port = target.split(":")
    assert host in SERVICES
    assert host in options["publish"].allowed_hosts
    assert int(port) == options["publish"].port
    assert str(options["record"].path.parent) in [target for name, _, target in _mounts() if name == "engine"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_run_as_nobody_in_particular(name: str) -> None:
    text = (DOCKER / name).read_text()
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["10001:10001"]
    assert text.index("USER 10001") < text.index("ENTRYPOINT")
    assert re.search(r"^HEALTHCHECK ", text, re.M)


def test_the_dashboard_is_provisioned() -> None:
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/streamkp.yaml").read_text())["providers"]
    folders = {target: source for name, source, target in _mounts() if name == "grafana"}
    assert (DOCKER / folders[provider["options"]["path"]] / "streamkp.json").is_file()
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    asked = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert asked == {source["uid"]}
    assert source["url"].split("/")[2].split(":")[0] in SERVICES


def test_the_unit_file(tmp_path: Path) -> None:
    text = (DOCKER / "systemd/streamkp.service").read_text()
    for line in (
        "Type=notify",
        "DynamicUser=yes",
        "ProtectSystem=strict",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
    ):
        assert f"\n{line}\n" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze for the rest")
    unit = tmp_path / "streamkp.service"
    unit.write_text(text.replace("/opt/streamkp/bin/streamkp", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "streamkp.service" in line]
    assert complaints == [], done.stderr
