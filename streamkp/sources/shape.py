"""Fewer and smaller pictures, where a stream asks for them (`max_fps`, `max_side`)."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from streamkp.graph.clock import Clock
from streamkp.packet import Image, pixels_of
from streamkp.sources.orientation import TURNS, UPRIGHT, Rotate, upright
from streamkp.sources.timeline import NANO, Picture

SLACK = NANO // 1000  # by how much a frame may come before its time: stamps are rounded


class Thinning:
    """Chooses the frames that are kept, evenly over time, so that there are at most `max_fps` a second."""

    def __init__(self, max_fps: float | None, clock: Clock | None = None) -> None:
        self.period = 0 if max_fps is None else round(NANO / max_fps)
        self._clock = clock or Clock()
        self._last = self._due = 0
        self._first = True

    def keep(self, pts: int | None) -> bool:
        """Whether the frame of this time (ns; None: now) is kept. To be asked once for each frame, in order."""
        if not self.period:
            return True
        time = self._clock.monotonic() if pts is None else pts
        back, self._last = time < self._last, time
        if self._first or back:  # the clock has been set
            self._first = False
            self._due = time + self.period
            return True
        if time + SLACK < self._due:
            return False
        self._due = self._due + self.period if time < self._due + self.period else time + self.period
        return True

    def total(self, frames: int | None, duration: int | None) -> int | None:
        """How many of `frames` over `duration` ns are kept, about."""
        if frames is None or duration is None or not self.period:
            return frames
        return min(frames, 1 + duration // self.period)


def fitted(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """The size of a picture whose longer side may have `max_side` pixels; its shape stays."""
    longer = max(width, height)
    if max_side is None or longer <= max_side:
        return width, height
    return max(1, round(width * max_side / longer)), max(1, round(height * max_side / longer))


def resized(image: Image, size: tuple[int, int]) -> Image:
    """The picture in another size (width, height); every pixel counts when it gets smaller."""
    if size == (image.shape[1], image.shape[0]):
        return image
    smaller = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.uint8)


def shaped(
    pictures: Iterator[Picture], thinning: Thinning, max_side: int | None, rotate: Rotate = "auto"
) -> Iterator[Picture]:
    """The pictures of a source that cannot do it itself."""
    turn = TURNS.get(rotate, UPRIGHT)
    for picture in pictures:
        if not thinning.keep(picture.pts):
            continue
        image = picture.image
        size = fitted(image.shape[1], image.shape[0], max_side)
        if size != (image.shape[1], image.shape[0]) or turn != UPRIGHT:
            image = upright(np.ascontiguousarray(resized(pixels_of(image), size)), turn)
        yield Picture(image, picture.pts, max(picture.step, thinning.period))
