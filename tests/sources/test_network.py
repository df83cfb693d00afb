"""Video over HTTP, from a server in this process. RTSP has a system test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import cv2
import pytest

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.sources.network import session
from streamkp.sources.timeline import Picture
from tests.sources.films import Film
from tests.sources.videos import InstantClock, MakeClip, Watch, picture


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Motion(BaseHTTPRequestHandler):
    """A camera that sends five JPEG pictures per connection and then hangs up."""

    def do_GET(self) -> None:
        if self.path not in ("/live.mjpg", "/live.jpg"):
            self.send_error(401 if self.path == "/closed.mjpg" else 404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for number in range(5):
            jpeg = cv2.imencode(".jpg", picture((64, 48), number))[1].tobytes()
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Unmeasured(Quiet):
    """Says neither how long a file is nor of what kind."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword.lower() not in ("content-length", "content-type", "last-modified"):
            super().send_header(keyword, value)


def serve(handler: type[BaseHTTPRequestHandler] | partial[SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    yield from serve(partial(Quiet, directory=str(tmp_path)))


@pytest.fixture
def unmeasured(tmp_path: Path) -> Iterator[str]:
    yield from serve(partial(Unmeasured, directory=str(tmp_path)))


@pytest.fixture
def camera() -> Iterator[str]:
    yield from serve(Motion)


def test_a_file_on_a_server_ends_like_any_file(make_clip: MakeClip, watch: Watch, files: str) -> None:
    make_clip()
    seen = watch(f"{files}/clip.mp4".replace("http", "HTTP"))
    assert seen.error is None
    assert [p.seq for p in seen.packets] == list(range(30))
    assert seen.stream.frames_total == 30


@pytest.mark.parametrize("name", ["photo.webp", "photo.bmp", "photo.tiff", "photo.png", "photo", "photo.cgi?id=4"])
def test_a_picture_on_a_server_is_one_picture(tmp_path: Path, watch: Watch, files: str, name: str) -> None:
    kind = name.partition(".")[2] if "." in name and "?" not in name else "jpg"
    image = picture((64, 48), 0)
    (tmp_path / name.partition("?")[0]).write_bytes(cv2.imencode(f".{kind}", image)[1].tobytes())
    seen = watch(f"{files}/{name}")
    assert seen.error is None
    assert [(p.seq, p.width, p.height) for p in seen.packets] == [(0, 64, 48)]
    assert not seen.stream.live
    assert seen.packets[0].expires_at is None


@pytest.mark.parametrize("suffix", ["ts", "mpg", "flv", "gif", "mkv", "mp4"])
def test_a_film_on_a_server_ends_whatever_its_name(tmp_path: Path, watch: Watch, files: str, suffix: str) -> None:
    codec = {"gif": "gif", "mpg": "mpeg2video"}.get(suffix, "libx264")
    film = Film(
        suffix, codec, "rgb8" if suffix == "gif" else "yuv420p", base=Fraction(1, 25), tolerance=40, precision=10
    )
    film.write(tmp_path).rename(tmp_path / "film")
    for address in (f"{files}/film", f"{files}/film?from=app#t"):
        seen = watch(address)
        assert seen.error is None
        film.check(seen.packets)
        assert not seen.stream.live


@pytest.mark.parametrize(("suffix", "connections"), [("jpg", 1), ("mp4", 1), ("ts", 2)])
def test_a_server_that_says_nothing_of_what_it_sends(
    make_clip: MakeClip, watch: Watch, unmeasured: str, tmp_path: Path, suffix: str, connections: int
) -> None:
    """A picture and a known duration are a file's; what ends the same way twice is one, too."""
    frames = 1 if suffix == "jpg" else 20
    if suffix == "jpg":
        (tmp_path / "thing").write_bytes(cv2.imencode(".jpg", picture((64, 48), 0))[1].tobytes())
    else:
        make_clip(f"clip.{suffix}", frames=frames).rename(tmp_path / "thing")
    seen = watch(f"{unmeasured}/thing", clock=InstantClock())
    assert seen.error is None
    assert len(seen.packets) == frames * connections


def test_a_camera_whose_name_is_that_of_a_picture(watch: Watch, camera: str) -> None:
    seen = watch(f"{camera}/live.jpg", stop_after=8)
    assert [p.seq for p in seen.packets] == list(range(8))
    assert seen.stream.live


def test_tiles_over_http(watch: Watch, files: str, tmp_path: Path, cases: Path) -> None:
    (tmp_path / "photo").write_bytes((cases / "tiled-avif" / "grid.avif").read_bytes())
    assert [(p.width, p.height) for p in watch(f"{files}/photo").packets] == [(640, 512)]


def test_video_that_stops_while_other_data_come() -> None:
    """No frame ever comes out of the reader, yet it can be stopped, and the silence is noticed."""
    clock = InstantClock()
    stream = StreamContext("cam", "rtsp://cam/", "rtsp://cam/", clock, live=True)

    class Chatty:
        format, damaged, unsupported, announced_end = "rtsp", 0, 0, None

        def __init__(self, mine: bool) -> None:
            self.mine = mine

        def __enter__(self) -> Chatty:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def pictures(self, look: Callable[[bool], bool]) -> Iterator[Picture]:
            while not look(self.mine):
                clock.time += 100_000_000
            yield from ()

    with pytest.raises(SourceError, match=r"no video for 2\.5 s, although other data come"):
        list(session(stream, cast(Any, Chatty(False)), 2.5))
    with pytest.raises(SourceError, match="no picture that can be decoded for 15 s"):
        list(session(stream, cast(Any, Chatty(True)), 2.5))
    stream.stop()
    assert list(session(stream, cast(Any, Chatty(False)), 2.5)) == []


def test_a_finished_playlist_ends(tmp_path: Path, make_clip: MakeClip, watch: Watch, files: str) -> None:
    path = make_clip("list.m3u8", frames=75, keyframes_every=25)
    assert path.read_text().count(".ts") > 1
    seen = watch(f"{files}/list.m3u8")
    assert seen.error is None
    assert [(p.seq, p.epoch) for p in seen.packets] == [(n, 0) for n in range(75)]


def test_a_camera_that_hangs_up_is_called_again(watch: Watch, camera: str) -> None:
    seen = watch(f"{camera}/live.mjpg", stop_after=8)
    assert seen.error is None
    assert [p.seq for p in seen.packets] == list(range(8))
    assert [p.epoch for p in seen.packets] == [0] * 5 + [1] * 3
    assert all(p.expires_at is not None for p in seen.packets)


def test_wrong_path(watch: Watch, camera: str) -> None:
    assert "the server has no such stream; check the path" in watch(f"{camera}/other.mjpg").message


def test_wrong_password(watch: Watch, camera: str) -> None:
    seen = watch(f"{camera.replace('//', '//user:secret@')}/closed.mjpg")
    assert "another user name or password" in seen.message
    assert seen.message.startswith("http://***@127.0.0.1")
    assert "secret" not in seen.message


def test_not_a_video(tmp_path: Path, watch: Watch, files: str) -> None:
    (tmp_path / "page.html").write_text("<html>" + "nothing to see " * 500)
    assert "the server sends something else than video" in watch(f"{files}/page.html").message
