"""The control API of a running program, asked everything that its OpenAPI document allows and much that it does not."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutate import mutated
from tests.sources.videos import write_clip
from tests.system.running import Running

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform == "win32", reason="the harness sends POSIX signals"),
]

GRAPH = """\
streams:
  clip: {uri: clip.mp4, loop: true, realtime: true, live: true}
stages:
  decode: {use: decode}
  keep: {use: keep.py:Keep}
  record: {use: record, path: out.jsonl}
control: {port: 0}
"""
KEEP = """\
from pydantic import Field
from streamkp.plugin import MapStage, StageOptions

class Keep(MapStage):
    class Options(StageOptions):
        above: float = Field(0.5, ge=0, le=1, description="A number.", json_schema_extra={"live": True})
        words: tuple[str, ...] = ("a",)

    def process(self, packet):
        return packet
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("api")
    write_clip(folder / "clip.mp4")
    (folder / "graph.yaml").write_text(GRAPH)
    (folder / "keep.py").write_text(KEEP)
    running = Running("run", "graph.yaml", env=os.environ, cwd=folder)
    running.wait_frames("clip")
    yield running
    running.kill()


def test_every_operation(program: Running) -> None:
    document = schemathesis.openapi.from_url(f"{program.page}/api/v1/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:

        @settings(
            max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
        )
        @given(operation.as_strategy())
        def ask(case: Any) -> None:
            if case.method == "DELETE" and (case.path_parameters or {}).get("name") == "clip":
                case.path_parameters["name"] = "another"  # the stream that shows that all is well
            case.validate_response(case.call(timeout=10))

        ask()


@pytest.mark.parametrize("seed", range(3))
def test_requests_that_are_damaged(program: Running, seed: int) -> None:
    body = b'{"name": "x", "uri": "nothing.mp4", "loop": true, "labels": {"a": "b"}}'
    request = (
        b"POST /api/v1/streams HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    )
    for n in range(40):
        with socket.create_connection(("127.0.0.1", urlsplit(program.page).port or 0), timeout=10) as client:
            client.sendall(mutated(request, 1000 * seed + n))
            client.shutdown(socket.SHUT_WR)
            try:
                answer = client.makefile("rb").readline()
            except ConnectionResetError:
                continue
            assert not answer.startswith(b"HTTP/1.1 5"), answer


def test_afterwards_all_is_well(program: Running) -> None:
    assert program.get("/healthz")[0] == 200
    program.wait_frames("clip")
    assert "Traceback" not in program.said
    assert program.stop() == 3, program.said[-2000:]  # streams were added that name no file
