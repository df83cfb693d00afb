"""What a URI is taken for."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from streamkp.hub import store
from streamkp.sources.decode import Decode
from tests.sources.videos import MakeClip, Watch


@pytest.mark.parametrize("uri", [
    "0", "12", "/dev/video1", "rtsp://cam/live", "RTSP://cam/live", "rtsps://cam/live", "rtmp://host/app", "udp://:5000",
    "http://cam/video.mjpg", "https://host/list.m3u8?token=1",
])  # fmt: skip
def test_live(uri: str) -> None:
    assert Decode.is_live(uri)


@pytest.mark.parametrize("uri", [
    "clip.mp4", "./0", "0.mp4", "/videos/0", "C:\\clips\\a.mp4", "file:///a/clip.mp4", "sample:walk", "photo.jpg",
    "https://host/clip.MP4?token=1", "",
])  # fmt: skip
def test_not_live(uri: str) -> None:
    assert not Decode.is_live(uri)


def test_unknown_kind_of_source(watch: Watch) -> None:
    assert "sources of the kind ftp:// are unknown" in watch("ftp://host/clip.mp4").message


def test_no_such_camera(watch: Watch, capfd: pytest.CaptureFixture[str]) -> None:
    assert "there is no camera 97" in watch("97").message
    assert capfd.readouterr().err == ""  # nothing of OpenCV's own


def test_home_is_expanded(make_clip: MakeClip, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_clip(frames=2)
    monkeypatch.setenv("HOME", str(path.parent))
    monkeypatch.setenv("USERPROFILE", str(path.parent))
    assert len(watch("~/clip.mp4").packets) == 2


def test_sample_comes_from_the_hub(
    make_clip: MakeClip, watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = make_clip(frames=2)
    monkeypatch.setattr(store, "sample", {"walk": path}.__getitem__)
    assert len(watch("sample:walk").packets) == 2


@pytest.mark.parametrize("options", [{"timeout": 0}, {"rtsp_transport": "smoke"}, {"speed": 2}, {"stale_after": -1}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Decode.Options(**options)
