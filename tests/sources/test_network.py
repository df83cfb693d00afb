"""Video over HTTP, from a server in this process. RTSP has a system test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from tests.sources.videos import MakeClip, Watch, picture


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Motion(BaseHTTPRequestHandler):
    """A camera that sends five JPEG pictures per connection and then hangs up."""

    def do_GET(self) -> None:
        if self.path != "/live.mjpg":
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
def camera() -> Iterator[str]:
    yield from serve(Motion)


def test_a_file_on_a_server_ends_like_any_file(make_clip: MakeClip, watch: Watch, files: str) -> None:
    make_clip()
    seen = watch(f"{files}/clip.mp4".replace("http", "HTTP"))
    assert seen.error is None
    assert [p.seq for p in seen.packets] == list(range(30))
    assert seen.stream.frames_total == 30


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
