"""`streamkp probe` and a real RTSP server that wants a password."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from streamkp.bench.servers import RtspServer
from streamkp.sources.probe import probe
from tests.sources.videos import write_clip
from tests.system.conftest import Start, Streamkp

pytestmark = [pytest.mark.system, pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")]

LOGIN = "joe:s3cret"


@pytest.fixture(scope="module")
def server(rtsp: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    folder = tmp_path_factory.mktemp("rtsp")
    clip = write_clip(folder / "clip.mp4", size=(320, 240), frames=30, plain=True, keyframes_every=10)
    running = RtspServer(clip, audio=True, login=LOGIN)
    yield running
    running.kill()


def with_login(uri: str, login: str = LOGIN) -> str:
    return uri.replace("//", f"//{login}@")


def test_a_camera_as_the_program_tells_it(server: RtspServer, streamkp: Streamkp) -> None:
    address = with_login(server.uri, "joe:${CAM_PASSWORD}")
    done = streamkp("probe", address, "--seconds", 1, "--json", env={"CAM_PASSWORD": "s3cret"})
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["container"], found["transport"], found["live"]) == ("rtsp", "tcp", True)
    assert (found["codec"], found["pixel_format"], found["audio"]) == ("h264", "yuv420p", ["pcm_alaw"])
    assert (found["width"], found["height"]) == (320, 240)
    assert found["measured_fps"] == pytest.approx(30, rel=0.1)
    assert found["keyframe_interval_frames"] == 10
    assert found["keyframe_interval_seconds"] == pytest.approx(1 / 3, abs=0.05)
    assert found["connect_seconds"] < found["open_seconds"] <= found["first_frame_seconds"]
    assert found["problem"] is None
    assert "s3cret" not in done.out + done.err

    done = streamkp("probe", with_login(server.uri, "joe:wr0ng"))
    assert done.code == 3
    assert "another user name or password" in done.complaint()
    assert "lock out" in done.complaint()
    assert "wr0ng" not in done.out + done.err


def test_what_the_server_refuses(server: RtspServer) -> None:
    found = probe(with_login(server.uri) + "/nowhere")
    assert (found.frames, found.trouble) == (0, "path")
    assert any("Hikvision" in hint for hint in found.hints)
    found = probe(server.uri)
    assert (found.frames, found.trouble) == (0, "access")
    assert any("USER:" in hint for hint in found.hints)


def test_udp(server: RtspServer) -> None:
    found = probe(with_login(server.uri), seconds=0.3, transport="udp")
    assert (found.transport, found.problem) == ("udp", None)
    assert found.frames > 1


@pytest.mark.parametrize("fault", [lambda server: server.mode("silent"), RtspServer.freeze])
def test_a_silent_camera(server: RtspServer, fault: Callable[[RtspServer], None]) -> None:
    fault(server)
    try:
        found = probe(with_login(server.uri), timeout=0.5)
    finally:
        server.thaw()
        server.mode("video")
    assert (found.frames, found.trouble) == (0, "silent"), found.problem
    assert any("--transport udp" in hint for hint in found.hints)


def test_ctrl_c(start: Start) -> None:
    """While it waits for an answer that never comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = start("probe", f"rtsp://joe:s3cret@127.0.0.1:{silent.getsockname()[1]}/live", "--timeout", 30)
        first, _ = silent.accept()  # only whether somebody is there
        second, _ = silent.accept()
        assert second.recv(16).startswith(b"OPTIONS")
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
        first.close()
        second.close()
    assert (program.returncode, out, err) == (130, "", "streamkp: interrupted\n")
