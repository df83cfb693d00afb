"""Packets of a person who walks on the spot, for the tests of every sink."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamkp.packet import Keypoints2D, Keypoints3D, Packet, Person

# Human3.6M joints of a standing person, metres, pelvis at the origin, y down.
STANDING = np.array(
    [
        [0, 0, 0], [-0.13, 0.02, 0], [-0.14, 0.46, 0], [-0.14, 0.88, 0.03],
        [0.13, 0.02, 0], [0.14, 0.46, 0], [0.14, 0.88, 0.03],
        [0, -0.24, 0], [0, -0.48, 0], [0, -0.58, -0.06], [0, -0.7, 0],
        [0.17, -0.46, 0], [0.24, -0.2, 0.02], [0.27, 0.04, -0.08],
        [-0.17, -0.46, 0], [-0.24, -0.2, 0.02], [-0.27, 0.04, -0.08],
    ],
    np.float32,
)  # fmt: skip


def walking(seq: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The pose at one frame: arms and legs swing."""
    pose = STANDING.copy()
    swing = np.float32(0.3 * np.sin(seq / 5))
    for joints, sign in (((2, 3), 1), ((5, 6), -1), ((12, 13), 1), ((15, 16), -1)):
        pose[list(joints), 2] += sign * swing * np.array([0.5, 1], np.float32)
        pose[list(joints), 0] += sign * swing * np.array([0.15, 0.3], np.float32)
    return pose


def make_packet(
    seq: int = 0, stream: str = "cam", people: int = 1, width: int = 320, height: int = 240, **fields: Any
) -> Packet:
    """One frame with `people` walkers side by side, on a grey image that nobody may write to."""
    image = np.full((height, width, 3), 60, np.uint8)
    image.flags.writeable = False
    persons = []
    for track in range(people):
        pose = walking(seq + 3 * track)
        middle = width * (track + 1) / (people + 1)
        size = height / 2
        points = np.ones((17, 3), np.float32)
        points[:, 0] = middle + pose[:, 0] * size
        points[:, 1] = height * 0.48 + pose[:, 1] * size
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        persons.append(
            Person(
                track + 1,
                "tracked",
                np.concatenate([low, high - low]).astype(np.float32),
                0.9,
                Keypoints2D("h36m17", points),
                Keypoints3D("h36m17", pose, seq),
            )
        )
    fields = {"epoch": 0, "pts": seq * 40_000_000, "captured_at": 1_700_000_000_000_000_000 + seq * 40_000_000} | fields
    return Packet(stream=stream, seq=seq, image=image, width=width, height=height, persons=persons, **fields)
