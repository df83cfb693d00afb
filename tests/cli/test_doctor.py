"""`streamkp doctor` and `streamkp cameras`: what they find, and that one failing check does not end the others."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkp.cli import cameras as cameras_module
from streamkp.cli import doctor
from streamkp.cli.main import app
from streamkp.sources.webcams import Webcam


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STREAMKP_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def found(about: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.about.startswith(about))


def test_every_check_answers() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    rows = json.loads(done.stdout)
    about = " ".join(row["about"] for row in rows)
    for word in ("streamkp", "processor", "OpenVINO", "torch", "camera", "port 8765", "cache", "models", "clock"):
        assert word in about
    assert done.exit_code == any(row["verdict"] == "problem" for row in rows)


def test_a_port_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {port: "a test"})
        finding = found(f"port {port}")
    assert finding.verdict == "note"
    assert "a test" in finding.found


def test_a_check_that_fails_is_a_problem_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Webcam]:
        raise RuntimeError("the driver is upset")

    monkeypatch.setattr(doctor, "webcams", broken)
    finding = found("cameras")
    assert finding.verdict == "problem"
    assert "the driver is upset" in finding.found
    assert found("clock")
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "the driver is upset" in done.stdout


def test_models_that_are_not_there_are_told_with_the_command(cache: Path) -> None:
    assert "streamkp models pull efficientdet-lite0 blazepose-full" in found("models").advice


def test_a_camera_that_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (doctor, cameras_module):
        monkeypatch.setattr(module, "webcams", lambda: [Webcam(3, "Door [hall]", "busy", " (cheese, process 7)")])
        monkeypatch.setattr(module, "why_not", lambda index: f"close what uses {index}")
    assert found("camera 3").advice == "close what uses 3"
    shown = CliRunner().invoke(app, ["cameras"]).stdout
    assert "3  Door [hall]  busy (cheese, process 7)" in shown
    assert json.loads(CliRunner().invoke(app, ["cameras", "--json"]).stdout)[0]["state"] == "busy"


def test_the_clock_is_compared_with_a_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def answer() -> None:
            _, client = server.recvfrom(512)
            now = time.time() + 2_208_988_800 + 100
            stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
            server.sendto(bytes(32) + stamp + stamp, client)

        thread = threading.Thread(target=answer)
        thread.start()
        offset = doctor.clock_offset("127.0.0.1", server.getsockname()[1], 10)
        thread.join()
    assert offset == pytest.approx(100, abs=5)


def test_what_linux_says_of_the_processor(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n")
    assert doctor.processor_flags(info) == {"fpu", "avx2", "avx512f"}
    assert doctor.processor_flags(tmp_path / "none") == set()
