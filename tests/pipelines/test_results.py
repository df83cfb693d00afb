"""Who is in the rows of a result."""

from __future__ import annotations

import numpy as np

from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.pipelines import results
from streamkp.testing import make_packet


def person(track: int, side: float, state: str = "tracked") -> Person:
    points = np.full((17, 3), track, np.float32)
    box = np.array((0, 0, side, side), np.float32)
    return Person(track, state, box, 0.9, Keypoints2D("coco17", points))  # type: ignore[arg-type]


def packets(*people: list[Person]) -> list[Packet]:
    made = [make_packet("clip", seq) for seq in range(len(people))]
    for packet, persons in zip(made, people, strict=True):
        packet.persons = persons
    return made


def test_the_most_prominent_person_of_each_frame() -> None:
    clip = packets(
        [person(1, 60), person(2, 40)],
        [person(2, 40), person(1, 60)],
        [person(2, 40), person(3, 45)],
        [person(1, 60, "predicted"), person(3, 45)],
        [],
        [person(1, 20), person(2, 40)],
    )
    chosen, tracks = results.prominent(clip)
    # 1 covers the most in all, then 2, then 3: 2 stays before 3 even where 3 is nearer, so that nothing flickers
    assert tracks.tolist() == [1, 1, 2, 3, -1, 1]
    assert [len(packet.persons) for packet in clip] == [2, 2, 2, 2, 0, 2], "the packets stay as they are"
    shapes = {"keypoints": (17, 2), "scores": (17,), "boxes": (4,)}
    rows = results.of_rows(chosen, results.body_2d, shapes)
    assert rows["keypoints"][:, 0, 0].tolist()[:4] == [1, 1, 2, 3]
    assert results.valid(rows["keypoints"]).tolist() == [True, True, True, True, False, True]
    assert np.isnan(rows["boxes"][4]).all()
