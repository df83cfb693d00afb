from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from streamkp.errors import OutputError, UsageError
from streamkp.sinks import render
from streamkp.sinks.render import Render
from streamkp.testing import ManualClock
from streamkp.vision import draw
from tests.sinks.walker import make_packet

Open = Callable[..., Any]


def _read(path: Path) -> tuple[list[float], list[np.ndarray[Any, Any]]]:
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [float(f.time) for f in frames if f.time is not None], [f.to_ndarray(format="bgr24") for f in frames]


def test_frames_keep_their_times_and_show_the_person(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = open_sink(Render, path=path)
    times = [7.0, 7.04, 7.05, 7.5, 7.54]  # a clock that does not start at 0, and a gap
    packets = [make_packet(i, pts=round(t * 1e9)) for i, t in enumerate(times)]
    for packet in packets:
        sink.process(packet)
    sink.close()
    got, images = _read(path)
    np.testing.assert_allclose(np.subtract(got, got[0]), np.subtract(times, 7), atol=1e-3)
    assert images[0].shape == (240, 320, 3)
    for packet, image in zip(packets, images, strict=True):
        wanted = sink.picture(packet)
        assert np.abs(wanted.astype(int) - image).mean() < 6
        assert_array_equal(np.unique(packet.image), [60])  # type: ignore[arg-type]
    assert (np.abs(images[0][60:, :240].astype(int) - draw.LEFT).max(axis=2) < 70).sum() > 20


def test_odd_sizes_and_sizes_that_change(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4")
    for seq, (width, height) in enumerate([(161, 121), (161, 121), (640, 480), (16, 16)]):
        sink.process(make_packet(seq, width=width, height=height))
    sink.close()
    _, images = _read(tmp_path / "out.mp4")
    assert [image.shape for image in images] == [(122, 162, 3)] * 4


def test_a_break_in_the_clock_runs_on(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mkv")
    for seq, (epoch, pts) in enumerate([(0, 9_000), (0, 9_040), (1, 0), (1, 40), (1, 40)]):
        sink.process(make_packet(seq, epoch=epoch, pts=pts * 1_000_000))
    sink.close()
    times, _ = _read(tmp_path / "out.mkv")
    assert len(times) == 5
    assert times == sorted(times)
    assert times[-1] - times[0] < 0.2


def test_one_file_per_stream(open_sink: Open, tmp_path: Path) -> None:
    plain = open_sink(Render, path=tmp_path / "out.mp4")
    named = open_sink(Render, path=tmp_path / "{stream}.mp4")
    for stream in ("a", "b", "c/d"):
        for sink in (plain, named):
            sink.process(make_packet(0, stream))
    for sink in (plain, named):
        sink.stream_ended("a")
        sink.process(make_packet(0, "a"))
        sink.close()
    names = {"out.mp4", "out-b.mp4", "out-c_d.mp4", "out-a.mp4", "a.mp4", "a-2.mp4", "b.mp4", "c_d.mp4"}
    assert {p.name for p in tmp_path.iterdir()} == names
    for path in tmp_path.iterdir():
        assert len(_read(path)[1]) == 1


def test_an_image_that_is_gone_is_black(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4", inset=0)
    packet = make_packet(0, people=0)
    packet.image = None
    assert_array_equal(sink.picture(packet), np.zeros((240, 320, 3), np.uint8))


def test_what_is_written_can_be_read_before_the_end(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4")
    for seq in range(150):
        sink.process(make_packet(seq, width=64, height=64))
    assert len(_read(tmp_path / "out.mp4")[1]) >= 30


def test_names_and_files_that_will_not_do(open_sink: Open, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.mp4, \.mov, \.mkv"):
        open_sink(Render, path=tmp_path / "out.txt")
    with pytest.raises(UsageError, match="there is no folder"):
        open_sink(Render, path=tmp_path / "none" / "out.mp4")
    (tmp_path / "cam.mp4").write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        open_sink(Render, path=tmp_path / "cam.mp4")
    sink = open_sink(Render, path=tmp_path / "{stream}.mp4")
    with pytest.raises(UsageError, match="exists"):
        sink.process(make_packet(0, "cam"))
    assert (tmp_path / "cam.mp4").read_text() == "precious"


def test_a_file_that_cannot_grow(open_sink: Open, tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = open_sink(Render, path=path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)

    def write_until_full() -> None:
        for seq in range(200):
            packet = make_packet(seq)
            packet.image = noise
            sink.process(packet)
        sink.close()

    try:
        with pytest.raises(OutputError, match=r"out\.mp4"):
            write_until_full()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_video_goes_on_in_further_files(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4", rotate_mb=0.02, keep_files=4)
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    for seq in range(200):
        for stream in ("a", "b"):
            packet = make_packet(seq, stream)
            packet.image = noise
            sink.process(packet)
    sink.stream_ended("a")
    sink.close()
    for stem in ("out-2", "out-b-2"):
        paths = [path for path in tmp_path.iterdir() if path.name.startswith(stem)]
        assert len(paths) == 4
        for path in paths:
            assert len(_read(path)[1]) > 2


def test_a_full_disk_pauses_the_video_of_a_camera(
    open_sink: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, lost, room = ManualClock(), list[int](), [0]
    sink = open_sink(Render, path=tmp_path / "out.mp4")
    sink.context.clock = clock
    sink.context.on_undelivered = lambda _, count: lost.append(count)
    monkeypatch.setattr(render, "free_bytes", lambda _: room[0])
    for seq in range(30):
        sink.process(make_packet(seq, expires_at=1))
    monkeypatch.setattr(render._Video, "write", _full)
    for seq in range(30, 60):
        sink.process(make_packet(seq, expires_at=1))
        clock.advance(0.5)
    monkeypatch.undo()
    monkeypatch.setattr(render, "free_bytes", lambda _: room[0])
    sink.process(make_packet(60, expires_at=1))
    assert sum(lost) == 31
    room[0] = render.ROOM + 1
    for seq in range(61, 90):
        sink.process(make_packet(seq, expires_at=1))
    sink.close()
    assert [len(_read(tmp_path / name)[0]) for name in ("out.mp4", "out-cam.mp4")] == [30, 29]
    assert "31 frames are missing" in caplog.messages[-1]


def _full(video: Any, *_: Any) -> None:
    raise video._problem(OSError(errno.ENOSPC, "No space left on device"))


def _inset_at(sink: Any, packet: Any) -> str | None:
    """Where the 3D corner was drawn: the only part of the grey background that is not grey."""
    picture = sink.picture(packet)
    ends = {"top right": (0, -1), "top left": (0, 0), "bottom right": (-1, -1), "bottom left": (-1, 0)}
    changed = [corner for corner, at in ends.items() if np.abs(picture[at].astype(int) - 60).max() > 10]
    assert len(changed) <= 1
    return changed[0] if changed else None


def _moved(packet: Any, x: float, y: float) -> Any:
    """The person of a packet in a box of 90 x 90 there."""
    (person,) = packet.persons
    person.box = np.array((x, y, 90, 90), np.float32)
    person.keypoints_2d = None
    return packet


def test_3d_poses_go_where_nobody_is_and_stay_there(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4")
    assert _inset_at(sink, _moved(make_packet(0), 228, 2)) == "top left"  # somebody is top right
    assert _inset_at(sink, _moved(make_packet(1), 2, 2)) == "top left"  # it does not jump for a passer-by
    for seq in range(2, 100):
        last = _inset_at(sink, _moved(make_packet(seq), 2, 2))
    assert last in ("bottom left", "bottom right", "top right")  # but makes room for those who stay
    assert _inset_at(sink, _moved(make_packet(0, stream="other"), 2, 2)) == "top right"


def test_3d_poses_beside_the_picture(open_sink: Open, tmp_path: Path) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4", beside=True)
    packet = make_packet(0, width=304, height=540)
    picture = sink.picture(packet)
    assert picture.shape == (540, 608, 3)
    assert_array_equal(picture[:, :304], draw.overlay(packet.image, packet.persons))
    poses = picture[118:422, 304:]
    assert_array_equal(poses, draw.inset(packet.persons, 304, 0.0, 12.0))
    assert (poses != np.array(draw.DARK)).any()
    packet.persons = []
    assert sink.picture(packet).shape == picture.shape  # a video has one size


def test_3d_poses_take_two_fifths_of_the_shorter_side_and_let_the_picture_through(
    open_sink: Open, tmp_path: Path
) -> None:
    sink = open_sink(Render, path=tmp_path / "out.mp4")
    packet = make_packet(0, width=304, height=540)
    bare = make_packet(0, width=304, height=540)
    bare.persons = []
    assert_array_equal(sink.picture(bare), 60)  # nothing is drawn before there is a 3D pose
    background = sink.picture(packet)[3:100, -100:-3].reshape(-1, 3).min(axis=0)
    assert (background > np.array(draw.DARK)).all()
    assert (background < 60).all()
    assert_array_equal(sink.picture(packet)[130:140, -20:], 60)
