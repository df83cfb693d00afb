"""The loop without an engine that graphs are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from streamkp.bench import bare
from streamkp.packet import Detections
from streamkp.poses import Pose
from tests.sources.films import Film

REGION = np.array([8, 8, 16, 16, 0], np.float32)


class Networks:
    """A detector and an estimator that sees a person in `seen` frames out of the first."""

    def __init__(self, seen: int) -> None:
        self.detected = self.lifted = 0
        self.regions: list[float] = []
        self._seen = seen

    skeleton = "blazepose33"

    def lift(self, *pose: Any) -> None:
        self.lifted += 1

    def detect(self, images: Any) -> list[Detections]:
        self.detected += 1
        return [Detections(np.array([[0, 0, 16, 16]], np.float32), np.array([0.9], np.float32))]

    def region_from_detection(self, found: Detections, i: int) -> Any:
        return REGION

    def estimate(self, crops: Any) -> list[Pose]:
        ((_, region),) = crops
        self.regions.append(float(region[0]))
        presence = 1.0 if len(self.regions) <= self._seen else 0.1
        return [Pose(np.zeros((33, 3), np.float32), presence, region + np.array([1, 0, 0, 0, 0], np.float32))]


def test_a_person_is_followed_until_lost_and_then_looked_for(tmp_path: Path) -> None:
    clip = Film("mp4", "mpeg4", times=[40.0 * n for n in range(10)]).write(tmp_path)
    networks: Any = Networks(seen=6)
    assert bare._follow(str(clip), networks, networks, networks, every=5) == 10
    assert networks.regions == [8, 9, 10, 11, 12, 13, 14, 8, 8, 8]  # frame 6 shows nobody, nor do those after it
    assert networks.lifted == 6
    assert networks.detected == 2 + 3  # frames 0 and 5, and each after somebody was lost
