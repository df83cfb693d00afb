"""Turns frames upright, by the orientation that the file gives."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, cast

import av
import cv2
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideData

from streamkp.graph.stream_options import Rotate as Rotate
from streamkp.packet import Image


class Orientation(NamedTuple):
    """How a stored picture becomes the shown one: first transposed, then mirrored."""

    transpose: bool
    mirror_x: bool
    mirror_y: bool


UPRIGHT = Orientation(False, False, False)
TURNS: dict[Rotate, Orientation] = {  # degrees clockwise
    0: UPRIGHT,
    90: Orientation(True, mirror_x=True, mirror_y=False),
    180: Orientation(False, mirror_x=True, mirror_y=True),
    270: Orientation(True, mirror_x=False, mirror_y=True),
}
_MATRIX = 6  # AV_FRAME_DATA_DISPLAYMATRIX
_OTHER_SIDE_DATA = [number for number in range(64) if number != _MATRIX]


def orientation(frame: av.VideoFrame) -> Orientation:
    """The quarter turn and mirroring that the file asks for (display matrix of MP4 and Matroska, EXIF of photos).

    An angle in between is rounded to the nearest quarter turn, as players do. Of a frame in the memory of a GPU only
    the turn is seen, not the mirroring.
    """
    if frame.format.name == "cuda":
        return TURNS.get(cast(Rotate, round(-frame.rotation / 90) * 90 % 360), UPRIGHT)
    # Of a tiny copy: PyAV ties a frame whose side data is asked for into a cycle, and its pixels would wait for the
    # garbage collector, to which it is a small thing. In BGR: not every format can be written.
    tiny = _with_matrix_only(frame.reformat(width=16, height=16, format="bgr24"))
    matrix = tiny.side_data.get("DISPLAYMATRIX")
    return of_matrix(bytes(matrix)) if isinstance(matrix, SideData) else UPRIGHT


def of_matrix(matrix: bytes) -> Orientation:
    """The orientation that a display matrix (nine int32) means."""
    # Rows of (16.16, 16.16, 2.30) fixed point: x' = a x + c y, y' = b x + d y, y down.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, mirror_x=bool(c < 0), mirror_y=bool(b < 0))
    return Orientation(False, mirror_x=bool(a < 0), mirror_y=bool(d < 0))


def _with_matrix_only(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame without other side data: of some PyAV does not know the type (EXIF), and what has a name of its own
    (colour profiles) it frees twice, as of 18.1."""
    graph = Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))]
    nodes += [graph.add("sidedata", f"mode=delete:type={number}") for number in _OTHER_SIDE_DATA]
    nodes.append(graph.add("buffersink"))
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    graph.push(frame)
    plain = graph.pull()
    assert isinstance(plain, av.VideoFrame)
    return plain


def upright(image: Image, turn: Orientation) -> Image:
    """The picture as it is meant to be seen: (H, W, 3) uint8, contiguous; the same array if nothing is to be done."""
    if turn.transpose:
        image = cv2.transpose(image)
    if turn.mirror_x or turn.mirror_y:
        image = cv2.flip(image, -1 if turn.mirror_x and turn.mirror_y else int(turn.mirror_x))
    return image
