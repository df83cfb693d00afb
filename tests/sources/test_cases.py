"""Files from reports of people of this field, and the kinds of fault behind them."""

from __future__ import annotations

import gc
import io
import logging
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from streamkp.errors import SourceError
from streamkp.sources import heif
from streamkp.sources.complete import is_cut_off
from streamkp.sources.decode import Decode
from tests.sources.films import SIZE, Film, check_scene, scene
from tests.sources.videos import MakeClip, Watch

PLAIN = {"threads": "1", "bf": "0"}


def times(watch: Watch, path: Path) -> list[float]:
    seen = watch(path)
    assert seen.error is None
    assert {p.epoch for p in seen.packets} == {0}
    return [p.pts / 1e9 for p in seen.packets]


@pytest.mark.parametrize(("name", "frames"), [("pattern.avi", 30), ("squat_bf.avi", 60)])
def test_avi_with_b_frames(cases: Path, watch: Watch, name: str, frames: int) -> None:
    got = times(watch, cases / "avi-h264-bframes" / name)
    assert len(got) == frames
    assert np.diff(got) == pytest.approx(1 / 30, abs=1e-3)
    assert got[0] == pytest.approx(2 / 30, abs=1e-3)  # as FFmpeg shows


def test_a_pause_in_a_film(cases: Path, watch: Watch) -> None:
    got = times(watch, cases / "gap-over-5s" / "squat_pause.mp4")
    assert got[29:32] == pytest.approx([0.968, 7.007, 7.040], abs=1e-3)
    assert got[-1] == pytest.approx(7.975, abs=1e-3)
    assert times(watch, cases / "gap-over-5s" / "lapse.mp4") == pytest.approx(range(0, 80, 10))


@pytest.mark.parametrize("name", ["ana", "ana2", "sq"])
def test_pixels_that_are_not_square(cases: Path, watch: Watch, name: str) -> None:
    seen, square = watch(cases / "anamorphic" / f"{name}.mp4"), watch(cases / "anamorphic" / "sq.mp4")
    assert {(p.width, p.height) for p in seen.packets} == {(304, 540)}
    for packet, other in zip(seen.packets, square.packets, strict=True):
        assert packet.image is not None
        assert other.image is not None
        assert np.abs(packet.image.astype(int) - other.image).mean() < 6


@pytest.mark.parametrize("name", ["skier_pal.png", "skier_pal16.png", "skier_pal.bmp"])
def test_pictures_with_a_palette(cases: Path, watch: Watch, name: str) -> None:
    seen = watch(cases / "paletted-png" / name)
    assert seen.error is None
    expected = cv2.imread(str(cases / "paletted-png" / name))
    assert expected is not None
    assert seen.packets[0].image is not None
    assert np.abs(seen.packets[0].image.astype(int) - expected).max() <= 2
    gc.collect()  # its colour profile was freed twice


@pytest.mark.parametrize("name", [f"skier_exif{n}.jpg" for n in range(1, 9)])
def test_mirrored_photos(cases: Path, watch: Watch, name: str) -> None:
    image = watch(cases / "exif-mirrored" / name).packets[0].image
    expected = cv2.imread(str(cases / "exif-mirrored" / name))
    assert image is not None
    assert expected is not None
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_a_photo_made_of_tiles(cases: Path, watch: Watch) -> None:
    image = watch(cases / "tiled-avif" / "grid.avif").packets[0].image
    expected = cv2.imread(str(cases / "tiled-avif" / "grid.avif"))
    assert image is not None
    assert expected is not None
    assert image.shape == expected.shape == (512, 640, 3)
    assert np.abs(image.astype(int) - expected).mean() < 3


def test_tiles_that_cannot_be_put_together_are_refused(cases: Path, watch: Watch, tmp_path: Path) -> None:
    data = (cases / "tiled-avif" / "grid.avif").read_bytes()
    path = tmp_path / "photo.avif"
    path.write_bytes(data.replace(b"dimg", b"dimh", 1))
    seen = watch(path)
    assert not seen.packets
    assert "photo.avif is a picture made of tiles that cannot be put together: it has 0 tiles" in seen.message


def test_damaged_descriptions_of_tiles(cases: Path) -> None:
    data = (cases / "tiled-avif" / "grid.avif").read_bytes()
    for at in range(400):
        broken = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        try:
            heif.read_primary(io.BytesIO(broken))
        except heif.NotAGrid:
            continue
    with pytest.raises(heif.NotAGrid):
        heif.read_primary(io.BytesIO(data[:100]))


def test_a_size_that_changes(cases: Path, watch: Watch) -> None:
    seen = watch(cases / "resolution-switch" / "switch.ts")
    assert [(p.epoch, p.width, p.height) for p in seen.packets] == [(0, 304, 540)] * 150


@pytest.mark.parametrize("name", ["mjpeg.avi", "mpeg4.avi", "flv1.flv", "wmv2.wmv"])
def test_a_last_picture_that_stands(cases: Path, watch: Watch, name: str, caplog: pytest.LogCaptureFixture) -> None:
    seen = watch(cases / "still-end-cut-off" / f"still_end_{name}")
    assert seen.error is None
    assert len(seen.packets) == 30
    assert [m for m in caplog.messages if "its header says 4.0 s, its last frame is at 1.0 s" in m] == caplog.messages


# -- the same kinds, of files made here ------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "codec", "base"), [
    ("avi", "mpeg4", 25), ("avi", "mjpeg", 25), ("flv", "flv1", 1000), ("wmv", "wmv2", 1000), ("mkv", "libx264", 1000),
    ("mp4", "libx264", 1000), ("mov", "mpeg4", 1000), ("webm", "libvpx", 1000),
])  # fmt: skip
@pytest.mark.parametrize("held", [True, False])
def test_complete_or_cut(
    suffix: str, codec: str, base: int, held: bool, tmp_path: Path, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """A last picture that stands for three seconds is not a cut; a file that ends in the middle is."""
    stamps = [*(40.0 * n for n in range(8)), *([3000.0] if held else [])]
    film = Film(
        suffix, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", times=stamps, base=Fraction(1, base),
        options={"threads": "1", "qscale": "2", "flags": "+qscale"} if codec != "libvpx" else {"deadline": "realtime"},
    )  # fmt: skip
    path = film.write(tmp_path)
    seen = watch(path)
    assert seen.error is None
    assert len(seen.packets) == len(stamps)
    assert not is_cut_off(path)
    data = path.read_bytes()
    short = tmp_path / f"short.{suffix}"
    short.write_bytes(data[: len(data) - 30])
    assert is_cut_off(short)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_the_film_and_not_its_poster(suffix: str, first: bool, tmp_path: Path, watch: Watch) -> None:
    """A larger single picture beside the film, before or behind it."""
    path = tmp_path / f"film.{suffix}"
    with av.open(str(path), "w") as out:

        def film() -> av.VideoStream:
            stream = out.add_stream("libx264", rate=25, options=PLAIN)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            return stream

        def poster() -> av.VideoStream:
            stream = out.add_stream("mjpeg", rate=25)
            stream.width, stream.height, stream.pix_fmt = 256, 192, "yuvj420p"
            return stream

        streams = (poster(), film()) if first else (film(), poster())
        one, many = streams if first else streams[::-1]
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(scene(number), "bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(many.encode(frame))
            if not number:
                picture = av.VideoFrame.from_ndarray(np.zeros((192, 256, 3), np.uint8), "bgr24")
                picture.pts, picture.time_base = 0, Fraction(1, 25)
                out.mux(one.encode(picture))
        out.mux(one.encode(None))
        out.mux(many.encode(None))
    seen = watch(path)
    assert seen.error is None
    # Matroska does not say how many frames a track has: there the larger one is taken.
    if suffix != "mkv":
        assert {(p.width, p.height) for p in seen.packets} == {SIZE}
        assert len(seen.packets) == 8


@pytest.mark.parametrize("suffix", ["h264", "m2v", "mjpeg"])
def test_a_bare_stream_goes_by_the_rate_in_its_own_header(suffix: str, tmp_path: Path, watch: Watch) -> None:
    """Demuxers assume 25 frames a second, whatever was filmed."""
    codec = {"h264": "libx264", "m2v": "mpeg2video", "mjpeg": "mjpeg"}[suffix]
    rate = Fraction(25) if suffix == "mjpeg" else Fraction(50)
    Film(
        suffix, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p", rate=Fraction(50), base=Fraction(1, 50),
        times=[20.0 * n for n in range(8)], options={"threads": "1"} | ({"bf": "0"} if codec != "mjpeg" else {}),
    ).write(tmp_path)  # fmt: skip
    seen = watch(tmp_path / f"film.{suffix}")
    assert seen.error is None
    assert np.diff([p.pts for p in seen.packets]) == pytest.approx(float(1e9 / rate), abs=1e6)


def test_two_recordings_in_one_file(tmp_path: Path, watch: Watch) -> None:
    one = tmp_path / "a"
    one.mkdir()
    late = (
        Film("ts", "libx264", times=[60_000 + 40.0 * n for n in range(8)], options=PLAIN).write(tmp_path).read_bytes()
    )
    early = Film("ts", "libx264", options=PLAIN).write(one).read_bytes()
    path = tmp_path / "both.ts"
    path.write_bytes(late + early)
    seen = watch(path)
    assert seen.error is None
    assert len(seen.packets) == 16
    assert [p.epoch for p in seen.packets] == [0] * 8 + [1] * 8
    assert all(a.pts < b.pts for a, b in zip(seen.packets, seen.packets[1:], strict=False) if a.epoch == b.epoch)


def test_a_single_picture_whatever_its_name(tmp_path: Path, watch: Watch) -> None:
    for name in ("download", "photo.mp4", "photo.jpg"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", scene(3))[1].tobytes())
        image = watch(tmp_path / name).packets[0].image
        assert image is not None
        check_scene(image, 3)


@pytest.mark.skipif(os.name == "nt", reason="links to devices are a matter of POSIX")
def test_links_to_cameras_are_followed(tmp_path: Path, watch: Watch, make_clip: MakeClip) -> None:
    link = tmp_path / "usb-camera"
    link.symlink_to("/dev/video97")
    assert Decode.is_live(str(link))
    assert Decode.is_live(link.as_uri())
    assert "there is no camera 97" in watch(link).message
    film = tmp_path / "film-link"
    film.symlink_to(make_clip(frames=2))
    assert not Decode.is_live(str(film))
    assert len(watch(film).packets) == 2


def test_results_read_before_a_cut_are_kept(make_clip: MakeClip, watch: Watch, tmp_path: Path) -> None:
    data = make_clip(frames=60).read_bytes()
    (tmp_path / "short.mp4").write_bytes(data[: len(data) * 2 // 3])
    seen = watch(tmp_path / "short.mp4")
    assert len(seen.packets) > 20
    assert isinstance(seen.error, SourceError)


def test_what_is_not_supported_is_not_called_damage(
    make_clip: MakeClip, watch: Watch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    def fail(*_: object, **__: object) -> None:
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr("streamkp.sources.container.VideoReformatter", lambda: type("R", (), {"reformat": fail})())
    seen = watch(make_clip(frames=2))
    assert "pictures of the pixel format yuv420p are not supported" in seen.message
    assert "damaged" not in seen.message
