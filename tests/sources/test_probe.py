"""What `probe` finds in generated films, on servers in this process, and where there is nothing. RTSP: system tests."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamkp.errors import UsageError
from streamkp.sources import probe as probe_module
from streamkp.sources.orientation import Orientation
from streamkp.sources.probe import Probe, probe, turned
from streamkp.sources.probe_hints import hints
from streamkp.sources.timeline import Picture
from tests.sources.films import Film
from tests.sources.test_network import Motion, Quiet, serve
from tests.sources.videos import MakeClip, picture, write_clip


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    yield from serve(partial(Quiet, directory=str(tmp_path)))


@pytest.fixture
def camera() -> Iterator[str]:
    yield from serve(Motion)


@pytest.fixture
def refused() -> str:
    """The address of a port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("suffix", "codec", "container", "name", "every"),
    [
        ("mp4", "libx264", "mov", "h264", 10),
        ("mkv", "libx264", "matroska", "h264", 10),
        ("ts", "libx264", "mpegts", "h264", 10),
        ("webm", "libvpx-vp9", "matroska", "vp9", None),  # one keyframe only
        ("avi", "mpeg4", "avi", "mpeg4", 10),
    ],
)
def test_films(tmp_path: Path, suffix: str, codec: str, container: str, name: str, every: int | None) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", codec=codec, frames=30, plain=True, keyframes_every=every)
    found = probe(str(path))
    assert found.problem is None
    assert found.container is not None
    assert container in found.container
    assert (found.codec, found.pixel_format, found.audio) == (name, "yuv420p", ())
    assert (found.width, found.height, found.rotation, found.mirrored) == (64, 48, 0, False)
    assert (found.frames, found.complete, found.damaged, found.live) == (30, True, 0, False)
    assert found.measured_fps == pytest.approx(30, rel=0.01)
    assert found.keyframe_interval_frames == every
    if every is not None:
        assert found.keyframe_interval_seconds == pytest.approx(every / 30, abs=0.02)
    assert found.duration_seconds == pytest.approx(1.0, abs=0.1)
    assert found.open_seconds is not None
    assert found.first_frame_seconds is not None
    assert 0 < found.open_seconds <= found.first_frame_seconds
    assert found.connect_seconds is None


def test_announced_and_measured_rate_of_a_film_of_varying_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 1000, 1040, 1500, 2000]
    found = probe(str(Film("mkv", "libx264", times=times).write(tmp_path)))
    assert found.announced_fps is not None
    assert found.measured_fps == pytest.approx(7 / 2)
    assert found.frames_seconds == pytest.approx(2.0)


def test_a_film_on_its_side_with_wide_pixels(tmp_path: Path) -> None:
    film = Film("mp4", "libx264", aspect=Fraction(4, 3), matrix=(0, 1, -1, 0))
    found = probe(str(film.write(tmp_path)))
    assert (found.width, found.height) == film.shown == (64, 128)
    assert (found.stored_width, found.stored_height) == (96, 64)
    assert (found.rotation, found.mirrored) == (90, False)
    assert found.pixel_aspect == pytest.approx(4 / 3, abs=1e-3)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Orientation(False, False, False), (0, False)),
        (Orientation(True, True, False), (90, False)),
        (Orientation(False, True, True), (180, False)),
        (Orientation(True, False, True), (270, False)),
        (Orientation(False, True, False), (0, True)),
        (Orientation(False, False, True), (180, True)),
        (Orientation(True, False, False), (90, True)),
        (Orientation(True, True, True), (270, True)),
    ],
)
def test_turns(turn: Orientation, expected: tuple[int, bool]) -> None:
    assert turned(turn) == expected


def test_sound(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=16000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound.layout = "mono"
        for _ in range(10):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "bgr24")))
        out.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        samples.sample_rate = 16000
        out.mux(sound.encode(samples))
        out.mux(sound.encode(None))
    found = probe(str(path))
    assert found.audio == ("aac",)
    assert found.frames == 10


def test_damaged_frames_and_a_film_that_was_cut_off(tmp_path: Path, make_clip: MakeClip) -> None:
    path = make_clip("clip.ts", frames=30, keyframes_every=10)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 2, 997):
        data[at] ^= 0xFF
    path.write_bytes(data)
    found = probe(str(path))
    assert 0 < found.frames < 30
    assert found.damaged > 0

    whole = make_clip("whole.mp4", frames=30).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])
    found = probe(str(tmp_path / "half.mp4"))
    assert 0 < found.frames < 30
    assert found.problem is not None
    assert "was cut off" in found.problem


def test_reading_ends_after_the_wanted_seconds(make_clip: MakeClip) -> None:
    found = probe(str(make_clip(frames=30)), seconds=0)
    assert (found.frames, found.complete, found.measured_fps, found.problem) == (1, False, None, None)


def test_a_film_on_a_server(make_clip: MakeClip, files: str) -> None:
    make_clip(plain=True, keyframes_every=10)
    found = probe(f"{files.replace('//', '//joe:s3cret@')}/clip.mp4?token=hidden")
    assert (found.frames, found.complete, found.live, found.problem) == (30, True, False, None)
    assert found.connect_seconds is not None
    assert found.open_seconds is not None
    assert found.connect_seconds <= found.open_seconds
    assert found.transport is None
    text = json.dumps(asdict(found))
    assert "s3cret" not in text
    assert "hidden" not in text


def test_a_camera_that_hangs_up(camera: str) -> None:
    found = probe(f"{camera}/live.mjpg")
    assert (found.live, found.container, found.codec, found.frames) == (True, "mpjpeg", "mjpeg", 5)
    assert found.keyframe_interval_frames == 1
    assert (found.problem or "").endswith("the server ended the connection")
    assert found.trouble == "lost"


@pytest.mark.parametrize(
    ("path", "trouble", "hint"), [("closed.mjpg", "access", "lock out"), ("other.mjpg", "path", "browser")]
)
def test_refusals_of_a_server(camera: str, path: str, trouble: str, hint: str) -> None:
    found = probe(f"{camera.replace('//', '//joe:s3cret@')}/{path}")
    assert (found.frames, found.trouble) == (0, trouble)
    assert any(hint in each for each in found.hints)
    assert "s3cret" not in repr(found)


def test_not_a_video(tmp_path: Path, files: str) -> None:
    (tmp_path / "page.html").write_text("<html>" + "nothing to see " * 500)
    found = probe(f"{files}/page.html")
    assert (found.frames, found.trouble) == (0, "no-video")
    assert any("rtsp://" in hint for hint in found.hints)


def test_a_host_that_speaks_something_else(files: str) -> None:
    found = probe(f"{files.replace('http', 'https')}/clip.mp4")
    assert (found.frames, found.trouble) == (0, "no-video")
    assert "it may not speak https at this port" in (found.problem or "")


def test_a_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.jpg"), picture((64, 48), 0))
    found = probe(str(tmp_path / "photo.jpg"))
    assert (found.codec, found.width, found.height, found.frames, found.complete) == ("mjpeg", 64, 48, 1, True)
    assert found.announced_fps is None
    assert found.measured_fps is None
    assert found.duration_seconds is None


def test_a_finished_playlist(make_clip: MakeClip, files: str) -> None:
    make_clip("list.m3u8", frames=75, keyframes_every=25, plain=True)
    found = probe(f"{files}/list.m3u8")
    assert (found.container, found.live, found.frames, found.keyframe_interval_frames) == ("hls", False, 75, 25)
    assert (found.announced_fps, found.measured_fps) == (pytest.approx(30), pytest.approx(30, rel=0.01))


def test_nothing_listens(refused: str) -> None:
    for scheme in ("rtsp", "http", "rtmp"):
        found = probe(f"{scheme}://joe:s3cret@{refused}/live")
        assert (found.frames, found.trouble, found.connect_seconds) == (0, "refused", None)
        assert found.hints
        assert "s3cret" not in repr(found)
    assert any("554" in hint for hint in probe(f"rtsp://{refused}/live").hints)


def test_an_unknown_host() -> None:
    found = probe("rtsp://no-such-host.invalid/live")
    assert found.trouble == "host"
    assert "there is no host no-such-host.invalid" in (found.problem or "")


def test_a_server_that_never_says_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = probe(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/live", timeout=0.2)
    assert (found.frames, found.trouble) == (0, "silent")
    assert found.connect_seconds is not None
    assert any("--transport udp" in hint for hint in found.hints)


def test_a_read_that_never_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe ends all the same, and leaves the thread to itself."""
    release = threading.Event()

    def hang(*_: object, **__: object) -> Iterator[Picture]:
        release.wait(60)
        yield from ()

    monkeypatch.setattr(probe_module, "camera_session", hang)
    for name, seconds in (("CAMERA_START", 0.0), ("FRAME_TIMEOUT", 0.0), ("SPARE", 0.05)):
        monkeypatch.setattr(probe_module, name, seconds)
    try:
        found = probe("7", timeout=0.1)
    finally:
        release.set()
    assert "the read does not come back" in (found.problem or "")


def test_whatever_a_camera_does_is_the_cameras_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Iterator[Picture]:
        raise AttributeError("no codec")

    monkeypatch.setattr(probe_module, "camera_session", broken)
    assert "the connection failed (AttributeError)" in (probe("7").problem or "")


def test_a_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    class Capture:
        def get(self, what: int) -> float:
            return {3: 64.0, 4: 48.0, 5: 30.0, 6: float(int.from_bytes(b"MJPG", "little"))}[what]

    def session(*_: object, **options: object) -> Iterator[Picture]:
        opened = options["opened"]
        assert callable(opened)
        opened(Capture())
        for number in range(11):
            yield Picture(np.zeros((48, 64, 3), np.uint8), number * 50_000_000, 50_000_000)

    monkeypatch.setattr(probe_module, "camera_session", session)
    found = probe("7")
    assert (found.container, found.codec, found.width, found.height) == ("webcam", "MJPG", 64, 48)
    assert (found.announced_fps, found.measured_fps) == (30.0, 20.0)
    assert found.live


def test_missing_files(tmp_path: Path) -> None:
    found = probe(str(tmp_path / "none.mp4"))
    assert "there is no file" in (found.problem or "")
    assert found.hints == ()
    assert probe("10.0.0.5:554/live").hints == ("rtsp:// in front, if this is the address of a camera",)


@pytest.mark.parametrize(
    ("uri", "wrong"),
    [
        ("", "is empty"),
        ("foo://joe:s3cret@host/", "foo:// cannot be probed"),
        ("browser://me", "browser:// cannot be probed"),
        ("rtsp:///live", "names no host"),
        ("rtsp://joe:s3cret@host:99999/live", "port"),
        ("rtsp://joe:s3cret@host:camera/live", "port"),
    ],
)
def test_what_is_no_address(uri: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong) as failure:
        probe(uri)
    assert "s3cret" not in str(failure.value)


def test_hints_fit_the_address() -> None:
    assert any("--transport tcp: a firewall" in hint for hint in hints("silent", "rtsp://cam/live", "udp"))
    assert any("Hikvision" in hint for hint in hints("path", "rtsp://cam/live", "tcp"))
    assert any("USER:" in hint for hint in hints("access", "rtsp://cam/live", "tcp"))
    assert hints("transport", "rtsp://cam/live", "udp") == ("--transport tcp",)
    assert not any("transport" in hint for hint in hints("silent", "udp://@:5000", "tcp"))


def test_results_are_plain(make_clip: MakeClip) -> None:
    found = probe(os.fspath(make_clip()))
    assert Probe(**asdict(found)) == found
    assert json.loads(json.dumps(asdict(found)))["codec"] == "h264"
