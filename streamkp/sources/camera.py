"""Cameras attached to this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import cv2

from streamkp.errors import SourceError
from streamkp.graph.stage import StreamContext
from streamkp.sources.container import USUAL_RATE
from streamkp.sources.orientation import TURNS, UPRIGHT, Rotate, upright
from streamkp.sources.timeline import NANO, Picture
from streamkp.sources.webcams import why_not


def camera_session(
    stream: StreamContext,
    index: int,
    timeout: float,
    rotate: Rotate = "auto",
    opened: Callable[[cv2.VideoCapture], None] | None = None,
) -> Iterator[Picture]:
    """The pictures of camera `index` until it is unplugged, turned by `rotate`; `pts` counts from the first one.

    `opened` may ask the open camera what it is.

    Raises:
        SourceError: there is no such camera, another program has it, or it delivers no more pictures.
    """
    # Read by OpenCV's V4L2 driver when it first waits for a picture; otherwise an unplugged camera blocks for 10 s.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, round(timeout))))
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not capture.isOpened():
            raise SourceError(why_not(index))
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the oldest of a queue
        if opened is not None:
            opened(capture)
        rate = capture.get(cv2.CAP_PROP_FPS)
        step = round(NANO / (rate if 1 <= rate <= 1000 else USUAL_RATE))
        began = None
        while not stream.stopping:
            got, image = capture.read()
            if not got:
                raise SourceError(f"camera {index} delivers no more pictures; check that it is plugged in")
            now = stream.clock.monotonic()
            began = now if began is None else began
            yield Picture(upright(image, TURNS.get(rotate, UPRIGHT)), now - began, step)
    finally:
        capture.release()
