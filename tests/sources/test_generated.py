"""Containers x codecs x pixel formats x rotation x aspect x rates x stamps: every frame, time, size and colour."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.sources.films import SIZE, Film, check_scene, scene
from tests.sources.videos import Watch

B_FRAMES = {"bf": "2", "g": "8", "threads": "1"}
PLAIN = {"threads": "1"}
X264 = PLAIN | {"bf": "0"}
GOOD = {"qscale": "2", "flags": "+qscale", "global_quality": "236"} | PLAIN
NTSC = Fraction(30000, 1001)


def by(rate: Fraction, count: int = 8) -> tuple[float, ...]:
    return tuple(float(1000 * n / rate) for n in range(count))


CODECS = [
    *(Film(s, "libx264", options=o) for s in ("mp4", "mov", "mkv", "ts", "flv", "nut") for o in (X264, B_FRAMES)),
    *(Film(s, "mpeg4", options=GOOD) for s in ("mp4", "mkv", "avi", "ts")),
    *(Film(s, "mpeg4", options=GOOD | {"bf": "2"}) for s in ("mp4", "mkv")),
    *(Film("avi", "libx264", options=o, base=Fraction(1, 25)) for o in (X264, B_FRAMES)),
    *(Film(s, "mjpeg", "yuvj420p", options=GOOD) for s in ("avi", "mov", "mkv")),
    *(Film(s, c, options=GOOD, base=Fraction(1, 25)) for s in ("mpg", "ts") for c in ("mpeg1video", "mpeg2video")),
    Film("mpg", "mpeg2video", options=GOOD | {"bf": "2"}, base=Fraction(1, 25)),
    Film("mpg", "mpeg2video", options=GOOD, base=1 / NTSC, rate=NTSC, times=by(NTSC)),
    *(Film("wmv", c, options=GOOD) for c in ("wmv2", "msmpeg4v3")),
    Film("flv", "flv1", options=GOOD),
    *(Film("webm", c, options={"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "2M"})
      for c in ("libvpx", "libvpx-vp9")),
    *(Film("mkv", "ffv1", f) for f in ("yuv420p", "yuv444p", "yuv420p10le", "yuv422p16le", "bgr0", "bgra", "gbrp10le")),
    *(Film("mkv", "ffv1", f, grey=True) for f in ("gray", "gray16le")),
    *(Film("avi", "huffyuv", f) for f in ("yuv422p", "rgb24")),
    *(Film("mov", c, f) for c, f in [("qtrle", "rgb24"), ("png", "rgb48be"), ("prores_ks", "yuv422p10le")]),
    *(Film("avi", "rawvideo", f) for f in ("bgr24", "yuv420p", "uyvy422")),
    Film("mkv", "libx265", options={"x265-params": "log-level=none:pools=1:bframes=2"}),
    Film("mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    Film("gif", "gif", "rgb8", tolerance=40, precision=10),
    Film("apng", "apng", "rgb24"),
]  # fmt: skip
# Those that a NUT file names without doubt.
RAW = ["rgb555le", "nv12", "nv21", "yuyv422", "yuv411p", "yuv440p", "rgba64le",
                   "abgr", "0rgb", "gbrpf32le", "yuva420p", "bgr48le", "gbrap12be", "y210le"]  # fmt: skip


def encoders() -> set[str]:
    found = set()
    for name in {film.codec for film in CODECS}:
        try:
            av.codec.Codec(name, "w")
            found.add(name)
        except av.codec.codec.UnknownCodecError:
            continue
    return found


@pytest.mark.parametrize("film", CODECS, ids=str)
def test_codecs(film: Film, tmp_path: Path, watch: Watch) -> None:
    if film.codec not in encoders():
        pytest.skip(f"this PyAV has no encoder {film.codec}")
    seen = watch(film.write(tmp_path))
    assert seen.error is None
    film.check(seen.packets)


@pytest.mark.parametrize("pix_fmt", RAW)
def test_pixel_formats(pix_fmt: str, tmp_path: Path, watch: Watch) -> None:
    film = Film("nut", "rawvideo", pix_fmt)
    seen = watch(film.write(tmp_path))
    assert seen.error is None
    film.check(seen.packets)


STAMPS = {
    "25": by(Fraction(25)),
    "ntsc": by(NTSC),
    "variable": (0, 33, 100, 133, 150, 400, 410, 2192),
    "gap": (0, 40, 80, 120, 20_000, 20_040, 20_080, 20_120),
    "late": tuple(5000 + t for t in by(Fraction(50))),
    "lapse": tuple(10_000.0 * n for n in range(8)),
    "held": (0, 40, 80, 120, 160, 200, 240, 5000),
}


@pytest.mark.parametrize("times", STAMPS.values(), ids=STAMPS)
@pytest.mark.parametrize("options", [X264, B_FRAMES], ids=["plain", "b-frames"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "ts", "flv", "nut"])
def test_stamps(suffix: str, options: dict[str, str], times: tuple[float, ...], tmp_path: Path, watch: Watch) -> None:
    film = Film(suffix, "libx264", times=times, options=options)
    seen = watch(film.write(tmp_path))
    assert seen.error is None
    film.check(seen.packets)


# (a, b, c, d) of the display matrix, x' = a x + c y, y' = b x + d y, and the quarters as they are then seen.
MATRICES = [
    ((1, 0, 0, 1), (0, 1, 2, 3)),
    ((-1, 0, 0, 1), (1, 0, 3, 2)),
    ((-1, 0, 0, -1), (3, 2, 1, 0)),
    ((1, 0, 0, -1), (2, 3, 0, 1)),
    ((0, 1, 1, 0), (0, 2, 1, 3)),
    ((0, 1, -1, 0), (2, 0, 3, 1)),
    ((0, -1, -1, 0), (3, 1, 2, 0)),
    ((0, -1, 1, 0), (1, 3, 0, 2)),
]


@pytest.mark.parametrize(("matrix", "quarters"), MATRICES)
@pytest.mark.parametrize("aspect", [None, Fraction(4, 3), Fraction(1, 2)], ids=str)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_geometry(
    suffix: str,
    aspect: Fraction | None,
    matrix: tuple[int, int, int, int],
    quarters: tuple[int, int, int, int],
    tmp_path: Path,
    watch: Watch,
) -> None:
    film = Film(suffix, "libx264", times=by(NTSC, 2), aspect=aspect, matrix=matrix, quarters=quarters, options=X264)
    seen = watch(film.write(tmp_path))
    assert seen.error is None
    film.check(seen.packets)


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi"])
@pytest.mark.parametrize("aspect", [Fraction(19, 13), Fraction(2)], ids=str)
def test_aspect_of_other_containers(suffix: str, aspect: Fraction, tmp_path: Path, watch: Watch) -> None:
    film = Film(suffix, "libx264", aspect=aspect, options=X264, base=Fraction(1, 25))
    film.check(watch(film.write(tmp_path)).packets)


@pytest.mark.parametrize(("rotate", "quarters"), [
    (0, (0, 1, 2, 3)), (90, (2, 0, 3, 1)), (180, (3, 2, 1, 0)), (270, (1, 3, 0, 2)), ("auto", (3, 2, 1, 0)),
])  # fmt: skip
def test_rotate(rotate: int | str, quarters: tuple[int, ...], tmp_path: Path, watch: Watch) -> None:
    """Clockwise, in the place of what the file says."""
    film = Film("mp4", "libx264", times=(0, 40), matrix=(-1, 0, 0, -1), options=X264)
    for number, packet in enumerate(watch(film.write(tmp_path), rotate=rotate).packets):
        assert packet.image is not None
        check_scene(packet.image, number, quarters)
        assert (packet.width, packet.height) == (SIZE if rotate in (0, 180, "auto") else SIZE[::-1])


# -- stills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff", "ppm", "avif", "jp2"])
def test_pictures(suffix: str, tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / f"50%d.{suffix}"  # not a pattern
    path.write_bytes(cv2.imencode(f".{suffix}", scene(3))[1].tobytes())
    seen = watch(path)
    assert seen.error is None
    assert [(p.width, p.height, p.seq) for p in seen.packets] == [(*SIZE, 0)]
    assert seen.packets[0].image is not None
    check_scene(seen.packets[0].image, 3)


@pytest.mark.parametrize("codec", ["png", "bmp", "tiff", "gif"])
def test_palettes(codec: str, tmp_path: Path, watch: Watch) -> None:
    """Pictures of at most 256 colours, the rule for graphics of the web."""
    colours = np.unique(scene(3).reshape(-1, 3), axis=0)
    indices = (scene(3)[:, :, None] == colours).all(3).argmax(2).astype(np.uint8)
    palette = np.zeros((256, 4), np.uint8)
    palette[: len(colours)] = np.insert(colours, 3, 255, axis=1)
    frame = av.VideoFrame(*SIZE, "pal8")
    plane = np.zeros((SIZE[1], frame.planes[0].line_size), np.uint8)
    plane[:, : SIZE[0]] = indices
    frame.planes[0].update(plane.tobytes())
    frame.planes[1].update(palette[:, [0, 1, 2, 3]].tobytes())
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *SIZE, "pal8", Fraction(1, 25)
    path = tmp_path / f"graphic.{codec}"
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    if codec == "gif":
        with av.open(str(path), "w") as out:
            video = out.add_stream("gif", rate=25)
            video.width, video.height, video.pix_fmt = *SIZE, "pal8"
            frame.pts = 0
            out.mux([*video.encode(frame), *video.encode(None)])
    else:
        path.write_bytes(b"".join(bytes(packet) for packet in packets))
    seen = watch(path)
    assert seen.error is None
    assert len(seen.packets) == 1
    assert seen.packets[0].image is not None
    check_scene(seen.packets[0].image, 3, tolerance=1)


def with_exif(suffix: str, orientation: int) -> bytes:
    data = cv2.imencode(f".{suffix}", scene(3))[1].tobytes()
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + tag + struct.pack("<I", 0)
    if suffix == "jpg":
        exif = b"Exif\0\0" + tiff
        return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    chunk = b"eXIf" + tiff
    return data[:33] + struct.pack(">I", len(tiff)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_as_opencv_shows_them(orientation: int, suffix: str, tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / f"photo.{suffix}"
    path.write_bytes(with_exif(suffix, orientation))
    image = watch(path).packets[0].image
    expected = cv2.imread(str(path))
    assert image is not None
    assert expected is not None
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 3
    turned = [
        (0, 1, 2, 3),
        (1, 0, 3, 2),
        (3, 2, 1, 0),
        (2, 3, 0, 1),
        (0, 2, 1, 3),
        (2, 0, 3, 1),
        (3, 1, 2, 0),
        (1, 3, 0, 2),
    ]
    check_scene(image, 3, turned[orientation - 1])
