"""Gestures: what begins and ends, whose hand it is, and gestures of one's own. The network is a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamkp import wire
from streamkp.errors import UsageError
from streamkp.models import gestures, registry
from streamkp.models.gestures import EMBEDDING, NAMED, Examples, Hand
from streamkp.packet import FloatArray, Packet, Person
from streamkp.stages.gestures import Gestures
from streamkp.testing import FRAME, make_packet, run_stage

THUMB, NEW = 10.0, 20.0  # x of the wrist of a hand that shows it


class Network:
    """The embedding tells the x of the wrist; a thumb is the only gesture that is known."""

    def embed(self, hands: list[Hand]) -> FloatArray:
        out = np.zeros((len(hands), EMBEDDING), np.float32)
        for row, hand in zip(out, hands, strict=True):
            row[int(hand.points[0, 0])] = 1
        return out

    def named(self, embeddings: FloatArray) -> FloatArray:
        out = np.zeros((len(embeddings), len(NAMED)), np.float32)
        out[:, NAMED.index("Thumb_Up")] = embeddings[:, int(THUMB)]
        return out

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "open_gestures", lambda *_, **__: Network())


def frame(seq: int, **hands: float) -> Packet:
    """Somebody whose hands have their wrists at these x."""
    person = Person(1, "tracked", np.array((0, 0, 50, 50), np.float32), 0.9)
    if hands:
        person.extra["hands"] = {side: np.full((21, 3), x, np.float32) for side, x in hands.items()}
        person.extra["hands_depth"] = {side: np.zeros(21, np.float32) for side in hands}
        person.extra["hands_world"] = {side: np.zeros((21, 3), np.float32) for side in hands}
        person.extra["handedness"] = dict.fromkeys(hands, 0.9)
    return make_packet(seq=seq, pts=seq * FRAME, persons=[person], tracks=frozenset({1}))


def events(packets: list[Packet], options: dict[str, Any] | None = None) -> list[tuple[int, Any]]:
    out = run_stage(Gestures, options or {}, packets)
    return [(packet.seq, event) for packet in out for event in packet.events]


def test_a_gesture_begins_and_ends_once_for_the_hand_that_shows_it() -> None:
    shown = [frame(i, left=0.0, right=THUMB if 10 <= i < 40 else 0.0) for i in range(60)]
    (began, first), (ended, last) = events(shown)
    assert first == {"type": "gesture", "gesture": "Thumb_Up", "hand": "right", "track": 1}
    assert 10 < began < 16
    assert last["type"] == "gesture_end"
    assert (last["gesture"], last["hand"]) == ("Thumb_Up", "right")
    assert 40 <= ended < 48
    assert last["duration_s"] == pytest.approx((ended - began) / 30, abs=0.01)
    assert shown[30].persons[0].extra["gestures"]["right"]["gesture"] == "Thumb_Up"
    assert shown[30].persons[0].extra["gestures"]["left"]["gesture"] is None


def test_a_hand_that_goes_away_ends_its_gesture_and_one_frame_means_nothing() -> None:
    gone = [frame(i, right=THUMB) if i < 20 else frame(i) for i in range(40)]
    assert [event["type"] for _, event in events(gone)] == ["gesture", "gesture_end"]
    flicker = [frame(i, right=THUMB if i % 6 == 0 else 0.0) for i in range(60)]
    assert events(flicker) == []


def test_gestures_of_ones_own_come_first(tmp_path: Path) -> None:
    vectors = np.zeros((4, EMBEDDING), np.float32)
    vectors[:2, int(NEW)] = vectors[2:, 0] = 1
    Examples(vectors, ["call", "call", "none", "none"], ["a", "b", "c", "d"]).save(tmp_path / "mine.npz")
    mine = {"examples": str(tmp_path / "mine.npz"), "k": 2}

    def shown() -> list[Packet]:
        return [frame(i, left=NEW if i < 30 else 0.0 if i < 60 else THUMB) for i in range(90)]

    assert [(e["type"], e["gesture"]) for _, e in events(shown(), mine)] == [
        ("gesture", "call"),
        ("gesture_end", "call"),
        ("gesture", "Thumb_Up"),  # far from every example
    ]
    only = [(e["type"], e["gesture"]) for _, e in events(shown(), mine | {"named": False})]
    assert only == [("gesture", "call"), ("gesture_end", "call")]


def test_what_cannot_work_is_said_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave must not be above enter"):
        Gestures.check(Gestures.Options(enter=0.3, leave=0.6))
    with pytest.raises(UsageError, match="nothing to tell"):
        Gestures.check(Gestures.Options(named=False))
    with pytest.raises(UsageError, match="there is no file"):
        Gestures.check(Gestures.Options(examples=tmp_path / "none.npz"))


def test_hands_of_another_network_are_refused_with_advice() -> None:
    packet = frame(0, left=THUMB)
    del packet.persons[0].extra["hands_depth"]
    with pytest.raises(UsageError, match="hand-landmarker"):
        run_stage(Gestures, {}, [packet])


def test_a_lone_example_reaches_a_little() -> None:
    vector = np.zeros((1, EMBEDDING), np.float32)
    vector[0, 0] = 1
    assert 0 < gestures.Examples(vector, ["one"], ["a"]).reach < 0.5


def test_a_recording_is_read_as_the_live_stream_is() -> None:
    live = [frame(i, right=THUMB) for i in range(30)]
    replayed = []
    for packet in live:
        (received,) = wire.decode(wire.encode(wire.message(packet, 0, 0), "json"))["persons"]
        person = Person(1, "tracked", np.array(received["box"], np.float32), 0.9)
        person.extra = {key: received[key] for key in ("hands", "hands_depth", "hands_world", "handedness")}
        replayed.append(make_packet(seq=packet.seq, pts=packet.pts, persons=[person], tracks=packet.tracks))
    assert events(replayed) == events(live) != []
    assert replayed[-1].annotations == live[-1].annotations
    assert replayed[-1].annotations[0] == {"type": "label", "track": 1, "text": "Thumb Up", "at": [THUMB, THUMB]}
