"""`gestures`: what hands show, by name: MediaPipe's seven gestures, and gestures of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from streamkp.errors import UsageError
from streamkp.graph.stage import LIVE, MapStage, StageOptions
from streamkp.models import gestures, registry
from streamkp.models.gestures import NAMED, NONE, Hand
from streamkp.packet import FloatArray, LabelAnnotation, Packet, Person
from streamkp.runtimes.base import Threads

SIDES = ("left", "right")


class Gestures(MapStage):
    """Names the gestures of hands that `keypoints-parts` has found with `hand-landmarker`.

    Events: `{"type": "gesture", "gesture", "hand", "track"}` when a hand begins to show one, and
    `{"type": "gesture_end", "gesture", "hand", "track", "duration_s"}` when it no longer does. Every person whose hands
    are seen carries `gestures`: by side `gesture` (null while none has begun), and `best` and `score`, the likeliest
    one and its smoothed score.

    With `examples`, made by `streamkp gestures learn`, gestures of one's own come before those of MediaPipe: what the
    nearest examples do not vote for is shared among the latter.
    """

    needs = ("hands",)
    gives = ("gestures",)
    retells = ("gesture", "gesture_end", "gestures", "annotations")

    class Options(StageOptions):
        model: str = Field("gesture-recognizer", description="Gesture network: catalog name or file.")
        examples: Path | None = Field(None, description="A file made with `streamkp gestures learn`.")
        named: bool = Field(
            True, description="Tell MediaPipe's gestures: Thumb_Up, Victory, Closed_Fist, ...", json_schema_extra=LIVE
        )
        k: int = Field(5, ge=1, le=100, description="Nearest examples that vote.", json_schema_extra=LIVE)
        enter: float = Field(
            0.5, gt=0, le=1, description="Smoothed score at which a gesture begins.", json_schema_extra=LIVE
        )
        leave: float = Field(0.3, gt=0, le=1, description="Smoothed score below which it ends.", json_schema_extra=LIVE)
        seconds: float = Field(
            0.15, ge=0, description="Time constant of the smoothing; 0 for none.", json_schema_extra=LIVE
        )
        none: str = Field(
            "none", description="The label of examples that show no gesture; it has no events.", json_schema_extra=LIVE
        )
        labels: bool = Field(
            True, description="Write gestures over hands, in rendered videos and on the page.", json_schema_extra=LIVE
        )
        threads: Threads = Field(1, description="CPU threads of the networks.")

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        if options.leave > options.enter:
            raise UsageError("leave must not be above enter")
        if options.examples is None and not options.named:
            raise UsageError("there is nothing to tell: give examples, or leave out named: false")
        registry.check(options.model, registry.GESTURES)
        if options.examples is not None:
            gestures.load(options.examples)

    def open(self) -> None:
        o = self.options
        self._examples = None if o.examples is None else gestures.load(o.examples)
        self._network = registry.open_gestures(o.model, threads=o.threads)
        self._hands = self.per_track(lambda: {side: _Shown() for side in SIDES})

    def close(self) -> None:
        self._network.close()

    def process(self, packet: Packet) -> Packet:
        seen = [(person, side, hand) for person in packet.persons for side, hand in hands_of(person)]
        embeddings = self._network.embed([hand for _, _, hand in seen])
        named = self._network.named(embeddings) if self.options.named else np.zeros((len(seen), len(NAMED)), np.float32)
        told = {
            (person.track, side): self._scores(embedding, row)
            for (person, side, _), embedding, row in zip(seen, embeddings, named, strict=True)
        }
        for person in packet.persons:
            key = (packet.stream, person.track)
            if key not in self._hands and not any((person.track, side) in told for side in SIDES):
                continue
            for side, shown in self._hands[key].items():
                scores = told.get((person.track, side))
                for event in shown.update(scores or {}, packet.pts, self.options):
                    packet.events.append(event | {"hand": side, "track": person.track})
                if scores is not None:
                    summary = person.extra.setdefault("gestures", {})[side] = shown.summary()
                    if self.options.labels and summary["gesture"] is not None:
                        packet.annotations.append(_label(person, side, summary["gesture"]))
        return packet

    def _scores(self, embedding: FloatArray, named: FloatArray) -> dict[str, float]:
        """The scores of the gestures that one hand shows now; what is left of 1 is none of them."""
        own = {} if self._examples is None else self._examples.vote(embedding, self.options.k)
        rest = max(0.0, 1 - sum(own.values()))
        scores = {name: rest * float(score) for name, score in zip(NAMED, named, strict=True) if name != NONE}
        for name, share in own.items():
            scores[name] = scores.get(name, 0.0) + share
        scores.pop(self.options.none, None)
        return scores


def _label(person: Person, side: str, gesture: str) -> LabelAnnotation:
    """The gesture over its hand."""
    points = np.asarray(person.extra["hands"][side], np.float32)  # lists, in a recording
    at = [float(points[:, 0].mean()), float(points[:, 1].min())]
    return {"type": "label", "track": person.track, "text": gesture.replace("_", " "), "at": at}


class _Shown:
    """What one hand shows."""

    def __init__(self) -> None:
        self._scores: dict[str, float] = {}
        self._gesture: str | None = None
        self._since = 0
        self._pts: int | None = None

    def update(self, scores: dict[str, float], pts: int, options: Gestures.Options) -> Iterator[dict[str, Any]]:
        """Take in the scores of a frame, {} for a hand that is not seen; what has ended and begun with it."""
        passed = 0.0 if self._pts is None else max(0.0, (pts - self._pts) / 1e9)
        self._pts = pts
        weight = 1.0 if options.seconds == 0 else 1 - float(np.exp(-passed / options.seconds))
        for name in self._scores.keys() | scores.keys():
            before = self._scores.get(name, 0.0)
            self._scores[name] = before + weight * (scores.get(name, 0.0) - before)
        if self._gesture is not None and self._scores.get(self._gesture, 0.0) < options.leave:
            yield {"type": "gesture_end", "gesture": self._gesture, "duration_s": round((pts - self._since) / 1e9, 2)}
            self._gesture = None
        best, score = self._best()
        if self._gesture is None and best is not None and score >= options.enter:
            self._gesture, self._since = best, pts
            yield {"type": "gesture", "gesture": best}

    def summary(self) -> dict[str, Any]:
        """What is published of the hand."""
        best, score = self._best()
        return {"gesture": self._gesture, "best": best, "score": round(score, 3)}

    def _best(self) -> tuple[str | None, float]:
        if not self._scores:
            return None, 0.0
        best = max(self._scores, key=lambda name: self._scores[name])
        return best, self._scores[best]


def hands_of(person: Person) -> Iterator[tuple[str, Hand]]:
    """The hands of a person with all that the gesture network reads, by side.

    Raises:
        UsageError: there are hands, but of another network.
    """
    extra = person.extra
    for side, points in extra.get("hands", {}).items():
        if side not in extra.get("hands_depth", {}):
            raise UsageError("gestures needs the hands of the network hand-landmarker (keypoints-parts: {hands: ...})")
        own = float(extra["handedness"][side])
        yield (
            side,
            Hand(
                np.asarray(points, np.float32),
                np.asarray(extra["hands_depth"][side], np.float32),
                np.asarray(extra["hands_world"][side], np.float32),
                own if side == "left" else 1 - own,
            ),
        )
