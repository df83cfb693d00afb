from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from streamkp import skeletons, wire
from streamkp.bench import swaps
from streamkp.errors import UsageError
from streamkp.packet import Keypoints2D, Person
from streamkp.testing import make_packet

COCO = skeletons.get("coco17")


def standing() -> np.ndarray:
    """Somebody who stands with hanging arms, [17, 3]: 400 pixels tall, left at the right."""
    points = np.ones((17, 3), np.float32)
    for joint, y in (("shoulder", 100), ("elbow", 170), ("wrist", 240), ("hip", 250), ("knee", 350), ("ankle", 440)):
        points[COCO.index(f"left_{joint}"), :2] = 250, y
        points[COCO.index(f"right_{joint}"), :2] = 150, y
    points[:5, :2] = 200, 50
    return points


def write(path: Path, poses: list[np.ndarray]) -> Path:
    box = np.array((100, 40, 200, 400), np.float32)
    with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
        for seq, points in enumerate(poses):
            person = Person(1, "tracked", box, 0.9, Keypoints2D("coco17", points))
            file.write(wire.encode(wire.message(make_packet(seq=seq, persons=[person]), 0, 0), "json") + b"\n")
    return path


@pytest.mark.parametrize("name", ["raw.jsonl", "raw.jsonl.gz"])
def test_an_exchange_of_some_frames_is_counted_and_undone(tmp_path: Path, name: str) -> None:
    poses = [standing()] * 10 + [standing()[list(COCO.mirror)]] * 5 + [standing()] * 10
    figures = swaps.run(str(write(tmp_path / name, poses)))
    assert figures["poses"] == 25
    assert figures["without"]["jumps"] == 2 * 6 * 2  # two joints of six kinds, there and back
    assert figures["with"]["jumps"] == 0


@pytest.mark.parametrize(("joint", "limb"), [("wrist", "forearms"), ("ankle", "shins"), ("hip", "trunk")])
def test_crossed_limbs_are_counted(tmp_path: Path, joint: str, limb: str) -> None:
    crossed = standing()
    pair = [COCO.index(f"left_{joint}"), COCO.index(f"right_{joint}")]
    crossed[pair] = crossed[pair[::-1]]
    figures = swaps.run(str(write(tmp_path / "raw.jsonl", [standing(), crossed, crossed])))
    assert figures["without"][limb] == 2
    crossed[pair, 2] = 0.1  # not seen
    assert swaps.run(str(write(tmp_path / "raw.jsonl", [crossed])))["without"][limb] == 0


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.jsonl cannot be read"):
        swaps.run(str(tmp_path / "gone.jsonl"))
