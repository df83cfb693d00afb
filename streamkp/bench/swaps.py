"""What the left/right swap filter does to recorded 2D keypoints: crossed limbs and jumps, without it and with it.

Recordings hold what the 2D network said if their graph has no `smooth-one-euro`; a video is put through such a graph
first. Where nobody knows the truth, these counts are the evidence: a filter that helps lowers both.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamkp import skeletons, wire
from streamkp.errors import UsageError
from streamkp.graph.engine import ThreadEngine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import Sink
from streamkp.motion.side_swaps import SwapFilter
from streamkp.packet import Packet

JUMP: Final = 0.15  # of the person's size, from one frame to the next
SEEN: Final = 0.5  # least score of the joints that are counted
LIMBS: Final = {
    "forearms": ("elbow", "wrist"),
    "upper arms": ("shoulder", "elbow"),
    "trunk": ("shoulder", "hip"),
    "thighs": ("hip", "knee"),
    "shins": ("knee", "ankle"),
}
JOINTS: Final = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
RECORDINGS: Final = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, slots=True)
class Pose:
    """One person in one frame: points [K, 3], pixels and score; `size` in pixels, `pts` in nanoseconds."""

    person: tuple[str, int, int]  # stream, epoch, track
    pts: int
    skeleton: str
    points: NDArray[Any]
    size: float


def run(source: str) -> dict[str, Any]:
    """Counts of a recording or a video: `poses`, and of `crossed` forearms and shins and `jumps`, `without` and `with`.

    Raises:
        StreamkpError: the source cannot be read.
    """
    poses = list(recorded(Path(source)) if source.endswith(RECORDINGS) else estimated(source))
    filtered = count(list(swapped_back(poses)))
    plain = count(poses)
    return {"source": Path(source).name, "poses": len(poses), "without": plain, "with": filtered}


def swapped_back(poses: Iterable[Pose]) -> Iterator[Pose]:
    """The poses after the filter, one filter per person."""
    filters: defaultdict[tuple[str, int, int], SwapFilter] = defaultdict(SwapFilter)
    for pose in poses:
        points = filters[pose.person](pose.skeleton, pose.points, pose.pts, pose.size)
        yield replace(pose, points=points)


def count(poses: list[Pose]) -> dict[str, int]:
    """Crossed forearms, crossed shins, and joints of the limbs that jump."""
    counts = dict.fromkeys((*LIMBS, "jumps"), 0)
    before: dict[tuple[str, int, int], Pose] = {}
    for pose in poses:
        joints = skeletons.get(pose.skeleton).joints
        for limb, (near, far) in LIMBS.items():
            ends = [joints.index(f"{side}_{joint}") for side in ("left", "right") for joint in (near, far)]
            a, b, c, d = pose.points[ends, :2].astype(float)
            if (pose.points[ends, 2] >= SEEN).all() and _cross(a, b, c, d):
                counts[limb] += 1
        last = before.get(pose.person)
        if last is not None and last.skeleton == pose.skeleton:
            ends = [joints.index(f"{side}_{joint}") for side in ("left", "right") for joint in JOINTS]
            moved = np.linalg.norm((pose.points - last.points)[ends, :2], axis=1)
            seen = np.minimum(pose.points[ends, 2], last.points[ends, 2]) >= SEEN
            counts["jumps"] += int(((moved > JUMP * pose.size) & seen).sum())
        before[pose.person] = pose
    return counts


def recorded(path: Path) -> Iterator[Pose]:
    """The poses of a recording (JSON Lines, gzip or not) that were seen in their frames, not predicted."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            messages = [wire.decode(line, "json") for line in file]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    for message in messages:
        for person in message["persons"]:
            if person["state"] == "predicted" or "keypoints_2d" not in person:
                continue
            keypoints = person["keypoints_2d"]
            yield Pose(
                (message["stream"], message["epoch"], person["track"]), message["pts"],
                keypoints["skeleton"], np.array(keypoints["points"], np.float32), float(max(person["box"][2:])),
            )  # fmt: skip


def estimated(source: str) -> list[Pose]:
    """The poses that the 2D network of the default graph finds in a video."""
    poses: list[Pose] = []
    graph = (
        Graph().stream("bench", source).add("decode").add("detect", "detect-person").add("keypoints", "keypoints-2d")
    )
    with ThreadEngine(graph.add("gather", Gather).validate(), bound={"gather": poses}) as engine:
        engine.wait()
    if engine.errors:
        raise engine.errors[0]
    return poses


class Gather(Sink):
    """Puts the poses of everybody who is seen into the list that is bound to it."""

    def process(self, packet: Packet) -> None:
        """Keep this frame's."""
        for person in packet.persons:
            if person.state != "predicted" and (keypoints := person.keypoints_2d) is not None:
                who, size = (packet.stream, packet.epoch, person.track), float(max(person.box[2:]))
                self.context.bound.append(Pose(who, packet.pts, keypoints.skeleton, keypoints.points, size))


def _cross(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any], d: NDArray[Any]) -> bool:
    """Whether the segments ab and cd cross."""

    def side(p: NDArray[Any], q: NDArray[Any], r: NDArray[Any]) -> float:
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
