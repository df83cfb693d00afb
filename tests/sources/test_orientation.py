"""A white quarter that was filmed at the top left must be where the display matrix puts it."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.sources.videos import MakeClip, Watch, picture

ONE = 1 << 16
CORNERS = ["top left", "top right", "bottom left", "bottom right"]


def white_corner(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    quarters = [image[y : y + height // 2, x : x + width // 2] for y in (0, height // 2) for x in (0, width // 2)]
    return CORNERS[int(np.argmax([quarter.mean() for quarter in quarters]))]


@pytest.mark.parametrize(("degrees", "corner", "size"), [
    (0, "top left", (64, 48)),
    (90, "bottom left", (48, 64)),  # counterclockwise
    (-90, "top right", (48, 64)),
    (180, "bottom right", (64, 48)),
    (270, "top right", (48, 64)),
])  # fmt: skip
def test_rotation(make_clip: MakeClip, watch: Watch, degrees: int, corner: str, size: tuple[int, int]) -> None:
    seen = watch(make_clip(rotation=degrees, frames=2))
    assert seen.error is None
    for packet in seen.packets:
        assert packet.image is not None
        assert packet.image.flags.c_contiguous
        assert (packet.width, packet.height) == size == packet.image.shape[1::-1]
        assert white_corner(packet.image) == corner


@pytest.mark.parametrize(("matrix", "corner"), [
    ([-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30], "top right"),  # a front camera's mirror
    ([ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30], "bottom left"),
    ([0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30], "top left"),  # transposed
    ([0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30], "bottom right"),
])  # fmt: skip
def test_mirrored(make_clip: MakeClip, watch: Watch, matrix: list[int], corner: str) -> None:
    packet = watch(make_clip(matrix=matrix, frames=1)).packets[0]
    assert packet.image is not None
    assert white_corner(packet.image) == corner


def test_photo_with_exif_orientation(tmp_path: Path, watch: Watch) -> None:
    _, jpeg = cv2.imencode(".jpg", picture((64, 48), 0))
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # Orientation: turn 90 degrees clockwise to show
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + tag + struct.pack("<I", 0)
    exif = b"Exif\0\0" + tiff
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg.tobytes()[2:])
    packet = watch(path).packets[0]
    assert packet.image is not None
    assert (packet.width, packet.height) == (48, 64)
    assert white_corner(packet.image) == "top right"
