"""What a pipeline may be given, as a source of a graph: files, addresses, pictures in memory, OpenCV captures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from streamkp.errors import SourceError, UsageError
from streamkp.graph.stage import StreamContext
from streamkp.packet import Packet
from streamkp.sources.container import NANO
from streamkp.sources.decode import Decode
from streamkp.sources.timeline import Picture, Timeline
from streamkp.uris import mask
from streamkp.vision.color import as_bgr

IMAGE_FILES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FRAME_RATE = 30.0  # of pictures that come without times

Pictures = Callable[[], Iterator[Picture]]


@dataclass(frozen=True)
class Clip:
    """One input: an address, or pictures that may be gone through more than once.

    `still` says that it is one image rather than a film of any length.
    """

    uri: str
    pictures: Pictures | None = None
    still: bool = False


def clip_of(given: Any, fps: float = FRAME_RATE) -> Clip:
    """Recognise an input.

    Args:
        given: a path or address; an image as `vision.color.as_bgr` takes it; a film, uint8 (T, H, W, 3); or an opened
            `cv2.VideoCapture`, read from where it stands to its end.
        fps: frames per second of a film given as an array.

    Raises:
        UsageError: it is none of these, or a camera, which has no end.
        SourceError: the capture is not open.
    """
    if isinstance(given, str | os.PathLike):
        uri = os.fspath(given)
        if Decode.is_live(uri):
            raise UsageError(
                f"{mask(uri)} is a camera, whose results never are complete; "
                "take them as they come: async for result in streamkp.stream(...)"
            )
        return Clip(uri, still=uri.lower().endswith(IMAGE_FILES))
    if isinstance(given, cv2.VideoCapture):
        return Clip("capture", _captured(given))
    if isinstance(given, np.ndarray) and given.ndim == 4:
        if not len(given):
            raise UsageError(f"the film has no frames: its shape is {given.shape}")
        step = round(NANO / fps)
        return Clip("pictures", lambda: (Picture(as_bgr(image), None, step) for image in given))
    if isinstance(given, np.ndarray):
        image = as_bgr(given)
        return Clip("picture", lambda: iter([Picture(image, None, round(NANO / FRAME_RATE))]), still=True)
    raise UsageError(
        "give a path, an address, an image (height, width, 3), a film (frames, height, width, 3), a cv2.VideoCapture, "
        f"or a list of these, not {type(given).__name__}"
    )


def _captured(capture: cv2.VideoCapture) -> Pictures:
    if not capture.isOpened():
        raise SourceError(
            "the cv2.VideoCapture is not open: OpenCV could not read what it was given, or it is released"
        )
    start = capture.get(cv2.CAP_PROP_POS_FRAMES)

    def pictures() -> Iterator[Picture]:
        if capture.get(cv2.CAP_PROP_POS_FRAMES) != start and not capture.set(cv2.CAP_PROP_POS_FRAMES, start):
            raise SourceError("this cv2.VideoCapture cannot go back to draw the video: give the file or address itself")
        rate = capture.get(cv2.CAP_PROP_FPS)
        step = round(NANO / (rate if rate > 0 else FRAME_RATE))
        while True:
            read, image = capture.read()
            if not read:
                return
            yield Picture(as_bgr(image), None, step)

    return pictures


class Footage(Decode):
    """`decode`, which also plays the clips that the engine binds to it: `Clip` by stream id."""

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        clip: Clip = self.context.bound[stream.stream]
        if clip.pictures is None:
            return super().frames(stream)
        return self._pictures(stream, clip.pictures)

    def _pictures(self, stream: StreamContext, pictures: Pictures) -> Iterator[Packet]:
        timeline = Timeline(stream, stale_after=1.0)
        for picture in pictures():
            yield timeline.packet(picture)
            if stream.stopping:
                return
        if not timeline.frames:
            raise SourceError("the cv2.VideoCapture gave no frame: it is at its end, or what it reads is damaged")
