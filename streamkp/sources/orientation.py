"""Frames come upright, whichever way the camera was held."""

from __future__ import annotations

from typing import NamedTuple

import av
import cv2
import numpy as np
from av.sidedata.sidedata import SideData

from streamkp.packet import Image


class Orientation(NamedTuple):
    """How a stored picture becomes the shown one: first transposed, then mirrored."""

    transpose: bool
    mirror_x: bool
    mirror_y: bool


UPRIGHT = Orientation(False, False, False)
_TURNS = (  # counterclockwise by 0, 90, 180, 270 degrees
    UPRIGHT,
    Orientation(True, mirror_x=False, mirror_y=True),
    Orientation(False, mirror_x=True, mirror_y=True),
    Orientation(True, mirror_x=True, mirror_y=False),
)


def orientation(frame: av.VideoFrame) -> Orientation:
    """The quarter turn and mirroring that the file asks for (display matrix of MP4 and Matroska, EXIF of JPEG).

    An angle in between is rounded to the nearest quarter turn, as players do.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV does not know the type of some other side data of this frame (EXIF, as of 18.1): no mirroring then.
        return _TURNS[round(frame.rotation / 90) % 4]
    if not isinstance(matrix, SideData):
        return UPRIGHT
    # Rows of (16.16, 16.16, 2.30) fixed point: x' = a x + c y, y' = b x + d y, y down.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, mirror_x=bool(c < 0), mirror_y=bool(b < 0))
    return Orientation(False, mirror_x=bool(a < 0), mirror_y=bool(d < 0))


def upright(image: Image, turn: Orientation) -> Image:
    """The picture as it is meant to be seen: (H, W, 3) uint8, contiguous; the same array if nothing is to be done."""
    if turn.transpose:
        image = cv2.transpose(image)
    if turn.mirror_x or turn.mirror_y:
        image = cv2.flip(image, -1 if turn.mirror_x and turn.mirror_y else int(turn.mirror_x))
    return image
