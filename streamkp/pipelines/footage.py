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
from streamkp.sources.container import VideoReader
from streamkp.sources.decode import Decode
from streamkp.sources.network import is_web
from streamkp.sources.timeline import NANO, Picture, Timeline
from streamkp.uris import mask
from streamkp.vision.color import as_bgr

FRAME_RATE = 30.0  # of pictures that come without times

Pictures = Callable[[], Iterator[Picture]]


@dataclass
class MediaInput:
    """One input: an address, or pictures that may be gone through more than once.

    `still` says that it is one image rather than a video of any length; of an address that is known once it has been
    opened, whatever its name.
    """

    uri: str
    pictures: Pictures | None = None
    still: bool = False
    incomplete: str | None = None  # why what was read is not all of it


def media_input(given: Any, fps: float = FRAME_RATE) -> MediaInput:
    """Recognise an input.

    Args:
        given: a path or address; an image as `vision.color.as_bgr` takes it; a video, uint8 (T, H, W, 3); or an opened
            `cv2.VideoCapture`, read from where it stands to its end.
        fps: frames per second of a video given as an array.

    Raises:
        UsageError: it is none of these, or a camera, which has no end.
        SourceError: the capture is not open.
    """
    if isinstance(given, str | os.PathLike):
        uri = os.fspath(given)
        if Decode.is_live(uri) and not is_web(uri):  # a server has to be asked
            raise _endless(mask(uri))
        return MediaInput(uri)
    if isinstance(given, cv2.VideoCapture):
        return MediaInput("capture", _captured(given))
    if isinstance(given, np.ndarray) and given.ndim == 4:
        if not len(given):
            raise UsageError(f"the video has no frames: its shape is {given.shape}")
        step = round(NANO / fps)
        return MediaInput("pictures", lambda: (Picture(as_bgr(image), None, step) for image in given))
    if isinstance(given, np.ndarray):
        image = as_bgr(given)
        return MediaInput("picture", lambda: iter([Picture(image, None, round(NANO / FRAME_RATE))]), still=True)
    raise UsageError(
        "give a path, an address, an image (height, width, 3), a video (frames, height, width, 3), a cv2.VideoCapture, "
        f"or a list of these, not {type(given).__name__}"
    )


def _endless(label: str) -> UsageError:
    return UsageError(
        f"{label} is a camera, whose results never are complete; "
        "take them as they come: async for result in streamkp.stream(...)"
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
        step = round(NANO / (rate if 1 <= rate <= 1000 else FRAME_RATE))
        last = -1.0
        while True:
            read, image = capture.read()
            if not read:
                return
            # Not the rate, which is a declaration only. Backends without times say 0 or -1 for every frame.
            at = capture.get(cv2.CAP_PROP_POS_MSEC)
            told, last = at > last or at > 0, at
            yield Picture(as_bgr(image), round(at * 1e6) if told else None, step)

    return pictures


class Footage(Decode):
    """`decode`, which also plays the clips that the engine binds to it: `MediaInput` by stream id."""

    def frames(self, stream: StreamContext) -> Iterator[Packet]:
        """See `Source.frames`."""
        clip: MediaInput = self.context.bound[stream.stream]
        if clip.pictures is None:
            return super().frames(stream)
        return self._pictures(stream, clip.pictures)

    def _pictures(self, stream: StreamContext, pictures: Pictures) -> Iterator[Packet]:
        timeline = Timeline(stream, stale_after=1.0)
        for packet in timeline.packets(pictures()):
            yield packet
            if stream.stopping:
                return
        if not timeline.frames:
            raise SourceError("the cv2.VideoCapture gave no frame: it is at its end, or what it reads is damaged")

    def _found_live(self, stream: StreamContext, reader: VideoReader) -> None:
        reader.close()
        raise _endless(stream.label)

    def _found_file(self, stream: StreamContext, reader: VideoReader) -> None:
        self.context.bound[stream.stream].still = reader.still or reader.animation
