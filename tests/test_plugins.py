"""The stages in plugins/, driven as their authors would drive them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage
from streamkp.packet import Keypoints2D, Packet, Person
from streamkp.skeletons import get
from streamkp.testing import FRAME, build, make_packet, run_stage

HANDS_UP = Path(__file__).resolve().parent.parent / "plugins" / "hands_up.py"


@pytest.fixture(scope="module")
def hands_up() -> type[MapStage]:
    spec = importlib.util.spec_from_file_location("hands_up", HANDS_UP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cls: type[MapStage] = module.HandsUp
    return cls


def frame(seq: int, wrists: float | tuple[float, float] | None, skeleton: str = "coco17") -> Packet:
    """A person whose nose is at y = 100 and whose wrists are at the given height; None: without keypoints."""
    keypoints = None
    if wrists is not None:
        joints = get(skeleton)
        points = np.zeros((len(joints), 3), np.float32)
        points[joints.index("nose"), 1] = 100
        points[[joints.index("left_wrist"), joints.index("right_wrist")], 1] = wrists
        keypoints = Keypoints2D(skeleton, points)
    box = np.array([0, 0, 50, 100], np.float32)
    person = Person(track=1, state="tracked", box=box, score=0.9, keypoints_2d=keypoints)
    return make_packet(seq=seq, persons=[person], tracks=frozenset({1}))


def up(packet: Packet) -> Any:
    return packet.persons[0].extra.get("hands_up")


def test_hands_must_stay_up_for_a_while(hands_up: type[MapStage]) -> None:
    packets = run_stage(hands_up, {"hold": 0.3}, [frame(seq, 50 if seq < 20 else 150) for seq in range(30)])
    held = -(-300_000_000 // FRAME)  # frames until 0.3 s have passed
    assert [up(packet) for packet in packets] == [held <= packet.seq < 20 for packet in packets]
    assert [packet.events for packet in packets if packet.events] == [[{"type": "hands_up", "track": 1}]]


def test_every_raising_is_told_once(hands_up: type[MapStage]) -> None:
    heights = ([150] * 5 + [50] * 15) * 3
    packets = run_stage(hands_up, {"hold": 0}, [frame(seq, y) for seq, y in enumerate(heights)])
    assert [packet.seq for packet in packets if packet.events] == [5, 25, 45]


def test_a_short_drop_of_the_hands_starts_the_time_again(hands_up: type[MapStage]) -> None:
    heights = [50] * 8 + [150] + [50] * 8
    assert not any(p.events for p in run_stage(hands_up, {"hold": 0.3}, [frame(n, y) for n, y in enumerate(heights)]))


def test_one_hand_is_not_enough(hands_up: type[MapStage]) -> None:
    packets = run_stage(hands_up, {"hold": 0}, [frame(0, (50, 150)), frame(1, (150, 50))])
    assert [up(packet) for packet in packets] == [False, False]


def test_the_joints_are_found_by_name(hands_up: type[MapStage]) -> None:
    packets = run_stage(hands_up, {"hold": 0}, [frame(0, 50, "blazepose33"), frame(1, 150, "blazepose33")])
    assert [up(packet) for packet in packets] == [True, False]


@pytest.mark.parametrize("why", ["new epoch", "end of the track"])
def test_an_id_that_comes_again_is_another_person(hands_up: type[MapStage], why: str) -> None:
    packets = [frame(seq, 50) for seq in range(4)]
    if why == "new epoch":
        packets[2:] = [replace(packet, epoch=1) for packet in packets[2:]]
    else:
        packets[1] = replace(packets[1], persons=[], tracks=frozenset())
    engine, out = build({"hands": {"use": hands_up, "hold": 0}}, {"cam": lambda _: iter(packets)})
    engine.start()
    assert engine.wait(30)
    assert [packet.seq for packet in out.packets if packet.events] == [0, 2]


def test_a_person_without_keypoints_is_left_alone(hands_up: type[MapStage]) -> None:
    assert up(run_stage(hands_up, {}, [frame(0, None)])[0]) is None


def test_it_is_named_by_its_file_in_a_graph(hands_up: type[MapStage], tmp_path: Path) -> None:
    (tmp_path / "hands.yaml").write_text(
        "streams: {cam: '0'}\n"
        "stages:\n"
        "  decode: {use: decode}\n"
        f"  hands: {{use: '{HANDS_UP}:HandsUp', hold: 0.5}}\n"
        "  record: {use: record, path: out.jsonl}\n"
    )
    stage = Graph.from_yaml(tmp_path / "hands.yaml").validate().stages[1]
    assert stage.cls.__name__ == "HandsUp"
    assert stage.options.model_dump() == {"hold": 0.5}

    engine, out = build({"hands": {"use": hands_up}}, {"cam": lambda _: (frame(seq, 50) for seq in range(20))})
    engine.start()
    assert engine.wait(30)
    assert not engine.errors
    assert sum(len(packet.events) for packet in out.packets) == 1
