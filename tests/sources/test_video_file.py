"""Files, good and bad."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamkp.errors import SourceError
from tests.sources.videos import InstantClock, MakeClip, Watch, picture


def spans(path: Path) -> list[tuple[int, int]]:
    """Where each video packet lies in the file: position and size."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def cut(path: Path, size: int) -> Path:
    short = path.with_stem("short")
    short.write_bytes(path.read_bytes()[:size])
    return short


def scramble(path: Path, numbers: range) -> Path:
    data = bytearray(path.read_bytes())
    for position, size in (spans(path)[n] for n in numbers):
        data[position : position + size] = b"\xff" * size
    path.write_bytes(data)
    return path


class TestGoodFiles:
    def test_every_frame_becomes_a_packet(self, make_clip: MakeClip, watch: Watch) -> None:
        seen = watch(make_clip())
        assert seen.error is None
        assert [p.seq for p in seen.packets] == list(range(30))
        assert {p.epoch for p in seen.packets} == {0}
        assert [p.pts for p in seen.packets] == pytest.approx([n * 1e9 / 30 for n in range(30)], abs=1e6)
        assert all((p.stream, p.width, p.height, p.expires_at) == ("cam", 64, 48, None) for p in seen.packets)
        assert seen.stream.frames_total == 30
        assert seen.stream.duration == pytest.approx(1e9, rel=0.05)

    @pytest.mark.parametrize(("size", "codec", "name"), [
        ((64, 48), "libx264", "even.mp4"),
        ((607, 1079), "mpeg4", "odd.mkv"),
        ((16, 16), "libx264", "tiny.mp4"),
    ])  # fmt: skip
    def test_pixels_are_those_of_ffmpeg_s_own_conversion(
        self, make_clip: MakeClip, watch: Watch, size: tuple[int, int], codec: str, name: str
    ) -> None:
        path = make_clip(name, size=size, codec=codec, frames=3)
        with av.open(str(path)) as container:
            expected = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        seen = watch(path)
        assert seen.error is None
        assert len(seen.packets) == 3
        for packet, image in zip(seen.packets, expected, strict=True):
            assert packet.image is not None
            assert packet.image.flags.c_contiguous
            assert packet.image.shape == (size[1], size[0], 3)
            np.testing.assert_array_equal(packet.image, image)

    def test_images_stay_as_they_are_when_later_frames_come(self, make_clip: MakeClip, watch: Watch) -> None:
        path = make_clip()
        kept = watch(path).packets
        for first, second in zip(kept, watch(path).packets, strict=True):
            np.testing.assert_array_equal(first.image, second.image)

    def test_8k(self, make_clip: MakeClip, watch: Watch) -> None:
        seen = watch(make_clip("8k.mkv", size=(7680, 4320), codec="mjpeg", frames=1, plain=True))
        assert seen.error is None
        assert [(p.width, p.height) for p in seen.packets] == [(7680, 4320)]

    def test_variable_frame_rate_keeps_its_times(self, make_clip: MakeClip, watch: Watch) -> None:
        times = [0, 10, 100, 105, 900, 1000, 1700]
        seen = watch(make_clip(times=times, frames=len(times)))
        assert seen.error is None
        assert [p.pts for p in seen.packets] == pytest.approx([t * 1e6 for t in times], abs=1e6)

    def test_an_image_is_a_stream_of_one_frame(self, tmp_path: Path, watch: Watch) -> None:
        image = picture((41, 30), 1)
        cv2.imwrite(str(tmp_path / "still.png"), image)
        seen = watch(tmp_path / "still.png")
        assert seen.error is None
        assert [(p.seq, p.pts) for p in seen.packets] == [(0, 0)]
        np.testing.assert_array_equal(seen.packets[0].image, image)

    def test_a_name_with_signs_that_ffmpeg_would_take_for_its_own(
        self, make_clip: MakeClip, watch: Watch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_clip("made.mp4", frames=2).rename(make_clip("made.mp4", frames=2).with_name("a:50% #1?.mp4"))
        assert len(watch(path).packets) == 2
        assert len(watch(path.as_uri()).packets) == 2
        monkeypatch.chdir(path.parent)
        assert len(watch(path.name).packets) == 2

    def test_loop_starts_again_in_a_new_epoch(self, make_clip: MakeClip, watch: Watch) -> None:
        seen = watch(make_clip(frames=4), loop=True, stop_after=10)
        assert [p.epoch for p in seen.packets] == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
        assert [p.seq for p in seen.packets] == list(range(10))
        assert [p.pts for p in seen.packets[:4]] == [p.pts for p in seen.packets[4:8]]

    def test_realtime_waits_for_each_frame_s_time(self, make_clip: MakeClip, watch: Watch) -> None:
        times = [0, 100, 150, 1000]
        clock = InstantClock()
        seen = watch(make_clip(times=times, frames=4), realtime=True, clock=clock)
        first = seen.packets[0]
        assert [p.captured_at - first.captured_at for p in seen.packets] == pytest.approx(
            [p.pts for p in seen.packets], abs=1000
        )
        assert clock.now() > seen.packets[-1].captured_at, "the last frame lasts as well"

    def test_a_file_in_place_of_a_camera_has_fresh_frames_however_slow_it_is(
        self, make_clip: MakeClip, watch: Watch
    ) -> None:
        seen = watch(make_clip(times=[0, 2000, 5000], frames=3), realtime=True, live=True, clock=InstantClock())
        expires = [p.expires_at or 0 for p in seen.packets]
        assert [at - expires[0] for at in expires] == pytest.approx([p.pts for p in seen.packets], abs=1000)

    def test_stopping_ends_after_the_current_frame(self, make_clip: MakeClip, watch: Watch) -> None:
        assert len(watch(make_clip(), stop_after=3).packets) == 3

    @pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
    def test_a_file_deleted_while_it_plays(self, make_clip: MakeClip, watch: Watch) -> None:
        path = make_clip()
        seen = watch(path, clock=_DeletingClock(path))
        assert not path.exists()
        assert seen.error is None
        assert len(seen.packets) == 30

    @pytest.mark.parametrize("name", ["sports2d_demo_walk_enter_leave", "squat_single_person", "pose2sim_single_cam02"])
    def test_nothing_is_missing_from_real_clips(
        self, assets: Path, watch: Watch, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = watch(assets / "clips" / f"{name}.mp4")
        assert seen.error is None
        assert len(seen.packets) == seen.stream.frames_total
        assert not caplog.records


class _DeletingClock(InstantClock):
    """Deletes a file when the first frame has been read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._begun = path, False

    def now(self) -> int:
        if self._begun:  # the first time is that of the stream's beginning
            self._path.unlink(missing_ok=True)
        self._begun = True
        return super().now()


class TestClockBreaks:
    def test_pts_going_back_opens_an_epoch_and_sizes_may_change(
        self, make_clip: MakeClip, watch: Watch, tmp_path: Path
    ) -> None:
        first, second = make_clip("a.ts", frames=5), make_clip("b.ts", frames=5, size=(80, 60))
        joined = tmp_path / "joined.ts"
        joined.write_bytes(first.read_bytes() + second.read_bytes())
        seen = watch(joined)
        assert [p.seq for p in seen.packets] == list(range(10))
        assert [p.epoch for p in seen.packets] == [0] * 5 + [1] * 5
        assert [(p.width, p.height) for p in seen.packets] == [(64, 48)] * 5 + [(80, 60)] * 5


class TestCutOff:
    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    @pytest.mark.parametrize("inside_a_packet", [True, False])
    def test_what_is_there_comes_first_then_the_error(
        self, make_clip: MakeClip, watch: Watch, suffix: str, inside_a_packet: bool
    ) -> None:
        path = make_clip(f"clip.{suffix}", frames=60)
        position, size = spans(path)[30]
        seen = watch(cut(path, position + (size // 2 if inside_a_packet else 0)))
        assert 25 <= len(seen.packets) <= 30
        assert isinstance(seen.error, SourceError)
        assert re.match(rf"short\.{suffix} was cut off: it should last 2\.0 s and ends at .* frames", seen.message)

    def test_a_hair_s_breadth_before_the_end(self, make_clip: MakeClip, watch: Watch) -> None:
        path = make_clip(frames=60)
        seen = watch(cut(path, path.stat().st_size - 1))
        assert len(seen.packets) == 59
        assert "cut off" in seen.message

    def test_mp4_without_its_index(self, tmp_path: Path, make_clip: MakeClip, watch: Watch) -> None:
        path = make_clip()
        data = path.read_bytes()
        index, media = data.index(b"moov") - 4, data.index(b"mdat") - 4
        path.write_bytes(data[:index] + data[media:])
        seen = watch(path)
        assert not seen.packets
        assert "clip.mp4 is an MP4 without its index (moov)" in seen.message


class TestDamage:
    def test_damaged_packets_are_left_out_and_counted(
        self, make_clip: MakeClip, watch: Watch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        seen = watch(scramble(make_clip(codec="mpeg4", name="clip.mp4", frames=30), range(10, 13)))
        assert seen.error is None
        assert len(seen.packets) == 27
        assert [p.seq for p in seen.packets] == list(range(27))
        assert "clip.mp4: 3 damaged frames were left out, 27 were read" in caplog.messages

    def test_nothing_can_be_decoded(self, make_clip: MakeClip, watch: Watch) -> None:
        seen = watch(scramble(make_clip(codec="mpeg4", frames=8), range(8)))
        assert not seen.packets
        assert "none of its 8 frames can be decoded" in seen.message


class TestNotAVideo:
    def test_missing(self, tmp_path: Path, watch: Watch) -> None:
        assert "there is no file nothing.mp4; check the path" in watch(tmp_path / "nothing.mp4").message

    def test_directory(self, tmp_path: Path, watch: Watch) -> None:
        assert "is a directory; name a video or image file in it" in watch(tmp_path).message

    def test_empty(self, tmp_path: Path, watch: Watch) -> None:
        (tmp_path / "empty.mp4").touch()
        assert "empty.mp4 is empty (0 bytes)" in watch(tmp_path / "empty.mp4").message

    @pytest.mark.parametrize("name", ["notes.txt", "notes.mp4", "notes"])
    def test_text(self, tmp_path: Path, watch: Watch, name: str) -> None:
        (tmp_path / name).write_text("not a video\n" * 100)
        seen = watch(tmp_path / name)
        assert not seen.packets
        assert re.match(rf"{name} is (a text file, not a video|not a video or image)", seen.message)

    def test_noise(self, tmp_path: Path, watch: Watch) -> None:
        (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
        assert "noise.mp4 is not a video or image that can be read" in watch(tmp_path / "noise.mp4").message

    def test_audio_only(self, tmp_path: Path, watch: Watch) -> None:
        with av.open(str(tmp_path / "song.m4a"), "w") as out:
            audio = out.add_stream("aac", rate=16000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
        assert "song.m4a has no video in it, only audio" in watch(tmp_path / "song.m4a").message

    def test_no_frames(self, tmp_path: Path, watch: Watch) -> None:
        with av.open(str(tmp_path / "none.avi"), "w") as out:
            video = out.add_stream("mpeg4", rate=30)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            out.start_encoding()
        assert "none.avi has a video track without a single frame" in watch(tmp_path / "none.avi").message

    def test_too_large(self, make_clip: MakeClip, watch: Watch) -> None:
        seen = watch(make_clip(), max_pixels=3000)
        assert not seen.packets
        assert "clip.mp4 is 64x48 pixels, more than the limit of 3000 (option max_pixels" in seen.message

    @pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX users")
    def test_permission_denied(self, make_clip: MakeClip, watch: Watch) -> None:
        path = make_clip()
        path.chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            seen = watch(path)
        finally:
            if root:
                os.seteuid(0)
        assert "no permission to read clip.mp4" in seen.message
