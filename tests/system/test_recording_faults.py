"""A recording of cameras on a disk that fills up: it pauses, says so, counts, and goes on when there is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.sources.videos import write_clip
from tests.system.running import Running, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a small filesystem"),
]

GRAPH = """\
streams:
  cam: {{uri: "{clip}", loop: true, realtime: true, live: true}}
stages:
  decode: {{use: decode}}
  web: {{use: publish-websocket, port: 0}}
  record: {{use: record, from: decode, path: "{disk}/out.jsonl"}}
"""
SIZE = 64 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a filesystem here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_pauses_the_recording(disk: Path, program_env: dict[str, str], tmp_path: Path) -> None:
    (disk / "filler").write_bytes(bytes(SIZE - 3 * 4096))
    graph = tmp_path / "graph.yaml"
    graph.write_text(GRAPH.format(clip=write_clip(tmp_path / "clip.mp4"), disk=disk))
    program = Running("run", graph, env=program_env, cwd=tmp_path)
    try:
        program.wait_said("out.jsonl", "pause")
        until(lambda: program.stats()["stages"]["record"]["cam"]["dropped"]["undelivered"] > 10, "losses are counted")
        program.wait_frames("cam", 10)
        assert program.status("cam")["state"] == "live", "the others go on"
        (disk / "filler").unlink()
        program.wait_said("out.jsonl", "goes on")
        written = (disk / "out.jsonl").stat().st_size
        until(lambda: (disk / "out.jsonl").stat().st_size > written + 2000, "further lines")
        assert program.stop() == 0, program.said
        rows = [json.loads(line) for line in (disk / "out.jsonl").read_text().splitlines()]
    finally:
        program.kill()
    assert all(now["seq"] == before["seq"] + 1 + now["dropped"] for before, now in pairwise(rows))
    assert max(row["dropped"] for row in rows) > 10, "the hole is told"
    assert "Traceback" not in program.said
