"""`streamkp probe`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamkp.cli.main import app
from streamkp.errors import SourceError, UsageError
from tests.sources.videos import write_clip


def test_a_film(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", plain=True, keyframes_every=10, rotation=90)
    done = CliRunner().invoke(app, ["probe", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    lines = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:])
    assert re.fullmatch(r"h264 \(.*, yuv420p\)", lines["video"])
    assert lines["audio"] == "none"
    assert lines["size"] == "48x64 (stored as 64x48, turned by 270 degrees)"
    assert re.fullmatch(r"announced 29\.99\d*, measured 29\.99", lines["frames/s"])  # of times in milliseconds
    assert lines["frames"] == "30 over 0.97 s, all there are; 0 damaged"
    assert lines["keyframes"] == "every 10 frames (0.33 s)"
    assert lines["duration"].endswith(" s")


def test_json(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    done = CliRunner().invoke(app, ["probe", str(path), "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (found["codec"], found["frames"], found["problem"], found["hints"]) == ("h264", 30, None, [])
    done = CliRunner().invoke(app, ["probe", str(tmp_path / "none.mp4"), "--json"])
    assert done.exit_code == 3
    assert "there is no file" in json.loads(done.stdout)["problem"]


def test_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAM_PASSWORD", "s3:cr@t")
    with pytest.raises(SourceError, match=r"(?s)there is no host.*try:\n  - the IP address") as failure:
        CliRunner().invoke(app, ["probe", "rtsp://joe:${CAM_PASSWORD}@no-such-host.invalid/"], catch_exceptions=False)
    assert "s3" not in str(failure.value)
    for wrong in (["foo://x"], ["rtsp://${NO_SUCH_NAME}@host/"], ["0", "--transport", "pigeon"]):
        with pytest.raises(UsageError):
            CliRunner().invoke(app, ["probe", *wrong], catch_exceptions=False)
