"""Whether a file is shorter than its own structure says: by sizes, not by times, which headers often get wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEGMENT = 0x18538067  # of Matroska
_FLV_HEAD = 11  # bytes in front of a tag's data


def is_cut_off(path: Path) -> bool:
    """True where bytes are certainly missing at the end; False also where the format does not tell.

    Looks at the sizes of RIFF chunks (AVI), boxes (MP4), the segment (Matroska), the file properties (ASF) and at the
    size that FLV writes behind each tag.
    """
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            head = file.read(16)
            if head[:4] == b"RIFF":
                return _chunks(file, length) > length
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return _boxes(file, length) > length
            if head[:4] == b"\x1a\x45\xdf\xa3":
                return _segment(file) > length
            if head == _ASF_HEADER:
                return _asf_size(file) > length
            if head[:3] == b"FLV":
                return not _flv_ends(file, length)
    except (OSError, IndexError):
        pass
    return False


def _chunks(file: BinaryIO, length: int) -> int:
    end = 0
    while end + 8 <= length:
        file.seek(end)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not size:  # something else behind it, or a recorder that never wrote the size
            break
        end += 8 + size
    return end


def _boxes(file: BinaryIO, length: int) -> int:
    end = 0
    while end < length:
        file.seek(end)
        head = file.read(16)
        if len(head) < 8:
            break
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # up to the end of the file
            break
        end += size
    return end


def _segment(file: BinaryIO) -> int:
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        width = 9 - head[0].bit_length()  # of the id
        number = int.from_bytes(head[:width], "big")
        size_width = 9 - head[width].bit_length()
        size = int.from_bytes(head[width : width + size_width], "big") & ((1 << 7 * size_width) - 1)
        if size == (1 << 7 * size_width) - 1:  # unknown
            return 0
        end = at + width + size_width + size
        if number == _SEGMENT:
            return end
        at = end


def _asf_size(file: BinaryIO) -> int:
    file.seek(0)
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE_PROPERTIES)
    return int.from_bytes(head[at + 40 : at + 48], "little") if at >= 0 else 0


def _flv_ends(file: BinaryIO, length: int) -> bool:
    file.seek(length - 4)
    size = int.from_bytes(file.read(4), "big")
    if not _FLV_HEAD <= size <= length - 4:
        return False
    file.seek(length - 4 - size)
    tag = file.read(4)
    return tag[0] & 31 in (8, 9, 18) and int.from_bytes(tag[1:4], "big") + _FLV_HEAD == size
