"""HEIF and AVIF pictures that are stored as a grid of tiles (every photo of an iPhone).

Facts: ISO/IEC 23008-12 (HEIF): the primary item is of type `grid`, its data give rows, columns and the size of the
whole, `dimg` references name its tiles, `irot` and `imir` say how to show it. FFmpeg's demuxer gives each tile as a
stream whose id is that of the item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import cv2
import numpy as np

from streamkp.packet import Image
from streamkp.sources.orientation import UPRIGHT, Orientation, upright

BRANDS = {"avif", "heic", "heix", "heim", "heis", "mif1"}  # of single pictures
MAX_META = 8 << 20  # bytes of the box that describes the items

_TURNS = (  # `irot`: counterclockwise by quarters
    UPRIGHT,
    Orientation(True, mirror_x=False, mirror_y=True),
    Orientation(False, mirror_x=True, mirror_y=True),
    Orientation(True, mirror_x=True, mirror_y=False),
)


class NotAGrid(Exception):
    """The primary picture cannot be put together; the text says why."""


@dataclass(frozen=True)
class Grid:
    """Tiles by item id, row by row, the size of the whole in pixels, and how it is shown."""

    tiles: tuple[int, ...]
    columns: int
    width: int
    height: int
    turns: tuple[Orientation, ...] = ()

    def assemble(self, tiles: Mapping[int, Image]) -> Image:
        """The whole picture from its decoded tiles (h, w, 3), which all have one size."""
        rows = [self.tiles[at : at + self.columns] for at in range(0, len(self.tiles), self.columns)]
        whole = cv2.vconcat([cv2.hconcat([tiles[item] for item in row]) for row in rows])
        image: Image = np.ascontiguousarray(whole[: self.height, : self.width], dtype=np.uint8)
        if image.shape[:2] != (self.height, self.width):
            raise NotAGrid(f"its tiles cover {image.shape[1]}x{image.shape[0]} of {self.width}x{self.height} pixels")
        for turn in self.turns:
            image = upright(image, turn)
        return image


def read_primary(file: BinaryIO) -> Grid | int:
    """The primary picture of an opened HEIF or AVIF file: a grid, or the id of a single item.

    Raises:
        NotAGrid: it is put together in another way, or damaged.
    """
    try:
        return _primary(file)
    except (IndexError, KeyError, ValueError, OverflowError):
        raise NotAGrid("its description is damaged") from None


def _primary(file: BinaryIO) -> Grid | int:
    meta = _meta(file)
    boxes = dict(_boxes(meta[4:]))
    primary = _number(boxes["pitm"][4:], 0, 4 if boxes["pitm"][0] else 2)
    kind = _item_types(boxes["iinf"]).get(primary)
    if kind in ("iden", "iovl", "tmap", None):
        raise NotAGrid(f"its main picture is of the kind {kind}")
    if kind != "grid":
        return primary
    data = _item_data(file, boxes, primary)
    size = 4 if data[1] & 1 else 2
    rows, columns = data[2] + 1, data[3] + 1
    width, height = _number(data, 4, size), _number(data, 4 + size, size)
    tiles = _references(boxes["iref"], b"dimg", primary)
    if len(tiles) != rows * columns:
        raise NotAGrid(f"it has {len(tiles)} tiles for {rows} rows of {columns}")
    turns = []
    for kind, value in _properties(boxes["iprp"], primary):
        if kind == "irot":
            turns.append(_TURNS[value[0] & 3])
        elif kind == "imir":  # 0: top and bottom change places, 1: left and right
            turns.append(Orientation(False, mirror_x=bool(value[0] & 1), mirror_y=not value[0] & 1))
        elif kind == "clap":
            raise NotAGrid("it shows only a part of its tiles (clap)")
    return Grid(tuple(tiles), columns, width, height, tuple(turns))


def _number(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise ValueError("the box is too short")
    return int.from_bytes(data[at : at + size], "big")


def _meta(file: BinaryIO) -> bytes:
    while len(head := file.read(16)) >= 8:
        size, start = _number(head, 0, 4), 8
        if size == 1:
            size, start = _number(head, 8, 8), 16
        file.seek(start - len(head), 1)
        if head[4:8] == b"meta":
            if not start < size <= MAX_META:
                break
            return file.read(size - start)
        if size < start:
            break
        file.seek(size - start, 1)
    raise NotAGrid("its description is missing")


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size = _number(data, at, 4) or len(data) - at
        if size < 8:
            raise ValueError("a box without end")
        yield data[at + 4 : at + 8].decode("latin-1"), data[at + 8 : at + size]
        at += size


def _item_types(iinf: bytes) -> dict[int, str]:
    types = {}
    for kind, entry in _boxes(iinf[8 if iinf[0] else 6 :]):
        if kind == "infe" and entry[0] in (2, 3):
            size = 2 if entry[0] == 2 else 4
            types[_number(entry, 4, size)] = entry[6 + size : 10 + size].decode("latin-1")
    return types


def _references(iref: bytes, kind: bytes, item: int) -> list[int]:
    size = 4 if iref[0] else 2
    for name, entry in _boxes(iref[4:]):
        if name.encode("latin-1") == kind and _number(entry, 0, size) == item:
            return [_number(entry, size + 2 + size * n, size) for n in range(_number(entry, size, 2))]
    return []


def _properties(iprp: bytes, item: int) -> Iterator[tuple[str, bytes]]:
    """What is associated with an item, in order."""
    parts = dict(_boxes(iprp))
    known = list(_boxes(parts["ipco"]))
    ipma = parts["ipma"]
    id_size, long = 4 if ipma[0] else 2, bool(ipma[3] & 1)
    at = 8
    for _ in range(_number(ipma, 4, 4)):
        this, count = _number(ipma, at, id_size), _number(ipma, at + id_size, 1)
        at += id_size + 1
        for _ in range(count):
            index = _number(ipma, at, 2 if long else 1) & (0x7FFF if long else 0x7F)
            at += 2 if long else 1
            if this == item and index:
                yield known[index - 1]


def _item_data(file: BinaryIO, boxes: Mapping[str, bytes], item: int) -> bytes:
    iloc = boxes["iloc"]
    version = iloc[0]
    offset_size, length_size = iloc[4] >> 4, iloc[4] & 15
    base_size, index_size = iloc[5] >> 4, (iloc[5] & 15 if version else 0)
    id_size = 4 if version == 2 else 2
    at = 6 + id_size
    for _ in range(_number(iloc, 6, id_size)):
        this = _number(iloc, at, id_size)
        at += id_size
        method = _number(iloc, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2
        base = _number(iloc, at, base_size)
        at += base_size
        count = _number(iloc, at, 2)
        at += 2
        data = b""
        for _ in range(count):
            at += index_size
            start, length = base + _number(iloc, at, offset_size), _number(iloc, at + offset_size, length_size)
            at += offset_size + length_size
            if this == item and length <= 64:
                if method == 1:
                    data += boxes["idat"][start : start + length]
                else:
                    file.seek(start)
                    data += file.read(length)
        if this == item:
            return data
    raise KeyError(item)
