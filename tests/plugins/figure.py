"""A stick figure that squats, as a pose network would see it from the side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import Keypoints2D, Packet, Person, skeleton
from streamkp.testing import make_packet

COCO = skeleton("coco17")


def squatter(
    progress: float, *, scale: float = 100.0, at: tuple[float, float] = (320.0, 400.0), mirrored: bool = False
) -> NDArray[np.float32]:
    """(17, 3): x, y in pixels and score, of somebody at 0 (upright) to 1 (thighs level); ankles at `at`."""
    bend = math.radians(8 + 82 * progress)
    shank, thigh, trunk = 0.45 * bend, -0.55 * bend, 0.5 * bend
    knee = np.array([math.sin(shank), -math.cos(shank)])
    hip = knee + np.array([math.sin(thigh), -math.cos(thigh)])
    shoulder = hip + 1.2 * np.array([math.sin(trunk), -math.cos(trunk)])
    elbow, wrist = shoulder + np.array([0.15, 0.65]), shoulder + np.array([0.3, 1.2])
    head = shoulder + np.array([0.05, -0.4])
    spots = {"ankle": np.zeros(2), "knee": knee, "hip": hip, "shoulder": shoulder, "elbow": elbow, "wrist": wrist}
    points = np.ones((len(COCO), 3), np.float32)
    for i, joint in enumerate(COCO.joints):
        place = spots.get(joint.split("_")[-1], head) + (0.02 if joint.startswith("left") else 0.0)
        points[i, :2] = np.array([-1 if mirrored else 1, 1]) * place * scale + at
    return points


def repetitions(
    count: int, *, period: float = 2.0, fps: float = 30.0, depth: float = 1.0, lead: float = 1.0, pause: float = 0.3
) -> list[float]:
    """Progress by frame: some standing, then that many squats with pauses between them."""
    still = [0.0] * round(lead * fps)
    way = [depth * math.sin(math.pi * i / (period * fps)) ** 2 for i in range(round(period * fps) + 1)]
    return [*still, *((way + [0.0] * round(pause * fps)) * count), *still]


def person(points: NDArray[np.float32], track: int = 1) -> Person:
    """Somebody with these keypoints."""
    low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    box = np.array([*low, *(high - low)], np.float32)
    return Person(track, "tracked", box, 1.0, Keypoints2D("coco17", points))


def packets(frames: Iterable[list[Person]], *, fps: float = 30.0, epoch: int = 0, first: int = 0) -> Iterator[Packet]:
    """One packet for each list of people, 640 x 480."""
    for seq, people in enumerate(frames, first):
        yield make_packet(
            seq=seq, pts=round(seq * 1e9 / fps), image=None, width=640, height=480, persons=people, epoch=epoch,
            tracks=frozenset(p.track for p in people),
        )  # fmt: skip
