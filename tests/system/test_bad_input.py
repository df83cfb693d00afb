"""Input that is not what it should be: one message, an exit code, and what could be read is kept."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from tests.sources.videos import MakeClip, picture
from tests.system.conftest import Done, Streamkp, lines

pytestmark = pytest.mark.system
Record = Callable[..., tuple[Done, list[dict[str, Any]]]]


def whole(done: Done, rows: list[dict[str, Any]], frames: int) -> None:
    assert done.code == 0, done.err
    assert [row["seq"] for row in rows] == list(range(frames))


class TestSources:
    def test_missing_file(self, record: Record) -> None:
        done, rows = record("nothing.mp4")
        assert done.code == 3
        assert "there is no file nothing.mp4" in done.complaint()
        assert rows == []

    def test_not_a_video(self, record: Record, tmp_path: Path) -> None:
        (tmp_path / "notes.mp4").write_text("to do: buy milk\n" * 500)
        done, _ = record("notes.mp4")
        assert done.code == 3
        assert "notes.mp4 is not a video" in done.complaint()

    def test_truncated(self, record: Record, make_clip: MakeClip) -> None:
        clip = make_clip(frames=120, size=(320, 240))
        os.truncate(clip, clip.stat().st_size // 2)
        done, rows = record(clip)
        assert done.code == 3
        assert "was cut off" in done.complaint()
        assert 10 < len(rows) < 110
        assert [row["seq"] for row in rows] == list(range(len(rows)))

    def test_truncated_before_its_index(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "late.mp4"
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=30)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for n in range(30):
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture((64, 48), n), "bgr24")))
            out.mux(video.encode(None))
        os.truncate(path, path.stat().st_size // 2)
        done, rows = record(path)
        assert done.code == 3
        assert "without its index" in done.complaint()
        assert rows == []

    def test_no_frames(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "empty.mkv"
        with av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=30)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            out.start_encoding()
        done, _ = record(path)
        assert done.code == 3
        assert "empty.mkv" in done.complaint()

    def test_image(self, record: Record, tmp_path: Path) -> None:
        cv2.imwrite(str(tmp_path / "photo.jpg"), picture((640, 480), 1))
        done, rows = record("photo.jpg")
        whole(done, rows, 1)
        assert (rows[0]["width"], rows[0]["height"]) == (640, 480)

    def test_audio_only(self, record: Record, tmp_path: Path) -> None:
        path = tmp_path / "song.wav"
        with av.open(str(path), "w") as out:
            audio = out.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
        done, _ = record(path)
        assert done.code == 3
        assert "song.wav" in done.complaint()
        assert "video" in done.complaint()

    @pytest.mark.parametrize("size", [(7680, 4320), (16, 16), (606, 1078)])
    def test_unusual_sizes(self, record: Record, make_clip: MakeClip, size: tuple[int, int]) -> None:
        done, rows = record(make_clip(size=size, frames=3, plain=True))
        whole(done, rows, 3)
        assert (rows[0]["width"], rows[0]["height"]) == size

    def test_odd_size(self, record: Record, make_clip: MakeClip) -> None:
        done, rows = record(make_clip("odd.avi", size=(607, 1079), frames=3, codec="mjpeg"))
        whole(done, rows, 3)
        assert (rows[0]["width"], rows[0]["height"]) == (607, 1079)

    def test_rotation_is_upright(self, record: Record, make_clip: MakeClip) -> None:
        done, rows = record(make_clip(size=(320, 240), frames=3, rotation=90))
        whole(done, rows, 3)
        assert (rows[0]["width"], rows[0]["height"]) == (240, 320)

    def test_variable_frame_rate_keeps_its_times(self, record: Record, make_clip: MakeClip) -> None:
        times = [0, 40, 50, 200, 1000, 1010]
        done, rows = record(make_clip(times=times, frames=6))
        whole(done, rows, 6)
        assert [round((row["pts"] - rows[0]["pts"]) / 1e6) for row in rows] == times

    def test_a_bad_source_does_not_harm_a_good_one(self, record: Record, make_clip: MakeClip) -> None:
        done, rows = record(make_clip(frames=40), "nothing.mp4")
        assert done.code == 3
        assert "nothing.mp4" in done.complaint()
        assert [row["seq"] for row in rows] == list(range(40))

    def test_a_password_never_shows(self, record: Record) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        done, _ = record(f"rtsp://viewer:hunter2@127.0.0.1:{port}/live")
        assert done.code == 3
        assert f"127.0.0.1:{port}" in done.complaint()
        assert "hunter2" not in done.err + done.out


class TestGraphs:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("stages:\n  decode: {use: decod}\n", ["bad.yaml:2", "did you mean decode?"]),
            ("stages:\n  decode: {use: decode, timeout: soon}\n", ["bad.yaml:2", "timeout", "valid number", "'soon'"]),
            (
                "stages:\n  decode: {use: decode}\n  a: {use: smooth-one-euro, from: b}\n"
                "  b: {use: smooth-one-euro, from: a}\n  out: {use: record, path: x}\n",
                ["bad.yaml:1", "circle", "a <- b <- a"],
            ),
            (
                "stages:\n  decode: {use: decode}\n  a: {use: publish-websocket}\n  b: {use: publish-websocket}\n",
                ["bad.yaml:4", "port 8765 is already used by stage a"],
            ),
            (
                "stages:\n  decode: {use: decode}\n  k: {use: keypoints-2d, model: blazepose-ful}\n"
                "  out: {use: record, path: x}\n",
                ["bad.yaml:3", "did you mean blazepose-full"],
            ),
            (
                "stages:\n  decode: {use: decode}\n  out: {use: record, path: '${NOT_SET}'}\n",
                ["bad.yaml:3", "NOT_SET is not set"],
            ),
        ],
        ids=["typo", "type", "cycle", "port", "model", "variable"],
    )
    def test_wrong_graph(self, streamkp: Streamkp, tmp_path: Path, text: str, words: list[str]) -> None:
        (tmp_path / "bad.yaml").write_text(text)
        done = streamkp("run", "bad.yaml", "--source", "x.mp4")
        assert done.code == 2
        for word in words:
            assert word in done.complaint()

    def test_no_such_graph(self, streamkp: Streamkp) -> None:
        done = streamkp("run", "dmo")
        assert done.code == 2
        assert "demo" in done.complaint()


class TestModels:
    def test_a_damaged_file_is_found_and_fetched_again(
        self, streamkp: Streamkp, program_env: dict[str, str], make_clip: MakeClip
    ) -> None:
        assert streamkp("models", "pull", "blazepose-detector").code == 0
        file = Path(streamkp("models", "path", "blazepose-detector").out.strip())
        good = file.read_bytes()
        file.write_bytes(good[:-100] + b"x" * 100)
        verified = streamkp("models", "verify", "blazepose-detector")
        assert verified.code == 4
        assert "damaged" in verified.out + verified.err
        assert streamkp("models", "pull", "blazepose-detector").code == 0
        assert file.read_bytes() == good

    def test_a_file_with_another_checksum_is_refused(self, streamkp: Streamkp, tmp_path: Path) -> None:
        (tmp_path / "pose_detection.tflite").write_bytes(b"TFL3" * 1000)
        cache = {"STREAMKP_HOME": str(tmp_path / "cache")}
        done = streamkp("models", "pull", "blazepose-detector", "--from", "pose_detection.tflite", env=cache)
        assert done.code == 4
        assert "sha256" in done.complaint()
        assert not list((tmp_path / "cache").rglob("*.tflite"))


class TestOutputs:
    def test_port_in_use(self, streamkp: Streamkp, make_clip: MakeClip, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            (tmp_path / "g.yaml").write_text(
                f"stages:\n  decode: {{use: decode}}\n  page: {{use: publish-websocket, port: {port}}}\n"
            )
            clip = make_clip()
            done = streamkp("run", "g.yaml", "--source", clip)
            assert done.code == 0, "a file is not kept waiting for the page"
            assert f"port {port} is in use" in done.err
            done = streamkp("run", "g.yaml", "--source", clip, "--set", f"stages.page.port={port}")
        assert done.code == 5
        assert f"port {port}" in done.complaint()
        assert "--set stages.page.port=" in done.complaint()

    def test_full_disk(self, record: Record, make_clip: MakeClip, tmp_path: Path) -> None:
        limit = 4000  # bytes a file may have; writing more fails as on a full disk

        def small_disk() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done, rows = record(make_clip(frames=60), preexec_fn=small_disk)
        assert done.code == 5
        assert "out.jsonl" in done.complaint()
        assert 0 < len(rows) < 60
        assert [row["seq"] for row in rows] == list(range(len(rows)))

    def test_folder_that_does_not_exist(self, record: Record, make_clip: MakeClip, tmp_path: Path) -> None:
        done, _ = record(make_clip(), out=tmp_path / "no" / "out.jsonl")
        assert done.code == 2
        assert "there is no folder" in done.complaint()

    def test_a_recording_is_not_replaced_by_a_graph_file(
        self, record: Record, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        (tmp_path / "out.jsonl").write_text('{"old": true}\n')
        done, rows = record(make_clip())
        assert done.code == 2
        assert "overwrite: true" in done.complaint()
        assert rows == lines(tmp_path / "out.jsonl") == [{"old": True}]
