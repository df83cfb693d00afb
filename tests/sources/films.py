"""A generator of films and pictures whose truth is known: frames, times, size and colours, in any container."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamkp.packet import Packet

SIZE = (96, 64)
# Top left, top right, bottom left, bottom right; BGR.
QUARTERS = ((40, 40, 200), (40, 180, 60), (190, 60, 40), (230, 230, 230))
UPRIGHT = (0, 1, 2, 3)


def scene(number: int, size: tuple[int, int] = SIZE, grey: bool = False) -> np.ndarray:
    """Four coloured quarters, and in the middle a grey square that says which frame it is."""
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    for at, colour in enumerate(QUARTERS):
        y, x = (at // 2) * height // 2, (at % 2) * width // 2
        image[y : y + height // 2, x : x + width // 2] = colour
    image[height * 3 // 8 : height * 5 // 8, width * 3 // 8 : width * 5 // 8] = 20 + 25 * number
    if grey:
        image[:] = image.mean(2, keepdims=True)
    return image


@dataclass(frozen=True)
class Film:
    """What to write. `times` are in milliseconds; `matrix` is a display matrix's (a, b, c, d), `quarters` then says
    which quarter of the scene is to be seen where (top left, top right, bottom left, bottom right)."""

    suffix: str
    codec: str
    pix_fmt: str = "yuv420p"
    times: Sequence[float] = tuple(40.0 * n for n in range(8))
    rate: Fraction = Fraction(25)
    base: Fraction = Fraction(1, 1000)
    aspect: Fraction | None = None
    matrix: tuple[int, int, int, int] | None = None
    quarters: tuple[int, int, int, int] = UPRIGHT
    options: dict[str, str] = field(default_factory=dict)
    tolerance: float = 14.0
    precision: float = 1.0  # ms
    grey: bool = False

    def __str__(self) -> str:
        parts = [self.suffix, self.codec, self.pix_fmt, *map(str, self.options.values())]
        return "-".join(parts + [str(x).replace("/", ":") for x in (self.aspect, self.matrix) if x])

    def write(self, folder: Path) -> Path:
        path = folder / f"film.{self.suffix}"
        # In a thread of its own: SVT-AV1 gives its caller real-time priority where it may, which starves all others.
        with ThreadPoolExecutor(1) as encoder:
            encoder.submit(self._write, path).result()
        return path

    def _write(self, path: Path) -> None:
        with av.open(str(path), "w") as out:
            video = out.add_stream(self.codec, rate=self.rate, options=dict(self.options))
            video.width, video.height = SIZE
            video.pix_fmt = self.pix_fmt
            video.codec_context.time_base = self.base
            if self.aspect is not None:
                video.codec_context.sample_aspect_ratio = self.aspect
            if self.matrix is not None:
                a, b, c, d = (each << 16 for each in self.matrix)
                video.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
            for number, time in enumerate(self.times):
                frame = av.VideoFrame.from_ndarray(scene(number, grey=self.grey), "bgr24")
                frame.pts, frame.time_base = round(time / 1000 / self.base), self.base
                out.mux(video.encode(frame.reformat(format=self.pix_fmt)))
            out.mux(video.encode(None))

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height with square pixels, the right way up."""
        width, height = SIZE
        if self.aspect is not None and self.aspect > 1:
            width = round(width * self.aspect)
        elif self.aspect is not None:
            height = round(height / self.aspect)
        turned = self.matrix is not None and not self.matrix[0]
        return (height, width) if turned else (width, height)

    def check(self, packets: Sequence[Packet]) -> None:
        """Compare what was read with what was written."""
        assert len(packets) == len(self.times)
        assert {p.epoch for p in packets} == {0}
        got = [(p.pts - packets[0].pts) / 1e6 for p in packets]
        assert got == [pytest.approx(t - self.times[0], abs=self.precision) for t in self.times]
        for number, packet in enumerate(packets):
            assert packet.image is not None
            assert (packet.width, packet.height) == self.shown == packet.image.shape[1::-1]
            check_scene(packet.image, number, self.quarters, self.tolerance, self.grey)


def check_scene(
    image: np.ndarray,
    number: int,
    quarters: Sequence[int] = UPRIGHT,
    tolerance: float = 14.0,
    grey: bool = False,
) -> None:
    """Assert that an image shows scene `number`, with that quarter at each of the four places."""
    height, width = image.shape[:2]
    for place, quarter in enumerate(quarters):
        # The outer part of a quarter: the middle of the image is taken, and edges blur.
        y, x = (height // 16, height * 5 // 16), (width // 16, width * 5 // 16)
        rows = slice(*y) if place < 2 else slice(height - y[1], height - y[0])
        columns = slice(*x) if place % 2 == 0 else slice(width - x[1], width - x[0])
        colour = np.array(QUARTERS[quarter], float)
        colour = np.full(3, colour.mean()) if grey else colour
        assert image[rows, columns].mean((0, 1)) == pytest.approx(colour, abs=tolerance)
    middle = image[height * 7 // 16 : height * 9 // 16, width * 7 // 16 : width * 9 // 16].mean()
    assert abs(middle - (20 + 25 * number)) <= tolerance
