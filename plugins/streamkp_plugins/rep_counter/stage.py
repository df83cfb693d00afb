"""The stage `rep-counter`: whose repetitions are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streamkp.plugin import LIVE, MapStage, Packet, Person, StageOptions, UsageError
from streamkp_plugins.rep_counter.athlete import Athlete
from streamkp_plugins.rep_counter.spec import Exercise, find, shipped

GONE = 5_000_000_000  # ns after which somebody who comes back is another person
MOST_LINES = 32  # streams that the summary names
UNLOCK = 10_000_000_000  # ns without the main person after which another one may become it


class RepCounter(MapStage):
    """Counts repetitions of squats, push-ups, pull-ups and other exercises, and says how they were done."""

    light = True
    retells = ("rep", "set", "rep_counter", "annotations")

    class Options(StageOptions):
        exercise: str = Field(
            "auto", description="An exercise (`streamkp exercises list`), a YAML file of one, or auto: whichever it is."
        )
        among: list[str] = Field(
            [], description="With `exercise: auto`: the exercises to choose from; all that are known by default."
        )
        person: Literal["main", "all"] = Field(
            "main", description="main: the one who exercises, not people who walk by; all: everybody."
        )
        least_size: float = Field(
            0.45,
            ge=0,
            le=2,
            description="Smaller people count after three repetitions: longer side of the box over shorter side of the "
            "picture.",
        )
        confirm: int = Field(
            2,
            ge=1,
            le=10,
            description="With `exercise: auto`: how many repetitions make it sure; it then tells them all.",
        )
        rest: float = Field(15.0, gt=0, description="Seconds without a repetition after which a set is over.")
        labels: bool = Field(
            True,
            description="Write the count over the head, in rendered videos and on the page.",
            json_schema_extra=LIVE,
        )

    options: Options

    @classmethod
    def check(cls, options: Options) -> None:
        _exercises(options)

    def open(self) -> None:
        self._exercises = _exercises(self.options)
        self._rooms: dict[str, _Room] = {}
        self._counts: dict[str, Counter[tuple[str, bool]]] = {}  # by stream: of each exercise, whole and partial

    def process(self, packet: Packet) -> Packet:
        room = self._rooms.get(packet.stream)
        if room is None:
            room = self._rooms[packet.stream] = _Room(self._exercises, self.options)
        counted = room.add(packet)
        self._note(packet)
        if self.options.labels:
            for person in counted:
                _label(packet, person.track, person.extra["rep_counter"])
        return packet

    def drain(self, stream: str) -> Iterable[Packet]:
        """At the end of a stream: one more packet with the sets that were not over yet."""
        room = self._rooms.pop(stream, None)
        last = [] if room is None else room.finish()
        for packet in last:
            self._note(packet)
        return last

    def summary(self) -> str | None:
        """What was counted in each stream, a line each."""
        lines = [f"{stream}: {_in_words(counts)}" for stream, counts in sorted(self._counts.items())]
        return "\n".join([*lines[:MOST_LINES], *(["..."] if len(lines) > MOST_LINES else [])]) or None

    def _note(self, packet: Packet) -> None:
        counts = self._counts.setdefault(packet.stream, Counter())
        for event in packet.events:
            if event.get("type") == "rep":
                counts[event["exercise"], event["partial"]] += 1


def _label(packet: Packet, track: int, counted: dict[str, Any]) -> None:
    """The exercise and the count so far, with a question mark if provisional; nothing where it is not known."""
    if counted["exercise"] is not None:
        text = f"{counted['exercise']} {counted['count']}{'?' if counted['provisional'] else ''}"
        packet.annotations.append({"type": "label", "track": track, "text": text, "at": None})


def _in_words(counts: Counter[tuple[str, bool]]) -> str:
    words = []
    for exercise in dict.fromkeys(name for name, _ in counts):
        partial = counts[exercise, True]
        words.append(f"{exercise} {counts[exercise, False]}" + (f" ({partial} partial)" if partial else ""))
    return ", ".join(words) or "no repetitions"


class _Room:
    """Everybody in one stream. Track ids may change over an occlusion or a cut; people are known by place and size."""

    def __init__(self, exercises: list[Exercise], options: RepCounter.Options) -> None:
        self._exercises = exercises
        self._only_main = options.person == "main"
        self._rest = int(options.rest * 1e9)
        self._confirm = options.confirm
        self._least_size = options.least_size
        self._people: list[Athlete] = []
        self._main: Athlete | None = None
        self._epoch: int | None = None
        self._last: Packet | None = None

    def add(self, packet: Packet) -> list[Person]:
        """One frame; the people in it of whom anybody is told."""
        if self._epoch not in (None, packet.epoch):
            self._restart(packet)
        self._epoch = packet.epoch
        events: dict[int, list[dict[str, Any]]] = {}
        seen: list[tuple[Athlete, Person]] = []
        for person in packet.persons:
            if person.keypoints_2d is None or person.state == "predicted":
                continue
            athlete = self._who(packet.pts, person, [a for a, _ in seen])
            events[id(athlete)] = athlete.add(packet.pts, person, (packet.width, packet.height))
            seen.append((athlete, person))
        for athlete in list(self._people):
            if id(athlete) not in events:
                events[id(athlete)] = athlete.idle(packet.pts)
                if packet.pts - athlete.last_seen > GONE and athlete is not self._main:
                    events[id(athlete)] += athlete.finish()
                    self._people.remove(athlete)
        self._choose(packet.pts, [athlete for athlete, _ in seen], events)
        counted = [(athlete, person) for athlete, person in seen if self._counts(athlete)]
        for athlete, person in counted:
            person.extra["rep_counter"] = athlete.shown()
        for athlete in self._people:
            if self._counts(athlete):
                packet.events.extend(events.get(id(athlete), []))
        self._last = packet
        return [person for _, person in counted]

    def finish(self) -> list[Packet]:
        """One packet without people and image that follows the last one, if there is something to tell."""
        events = [event for athlete in filter(self._counts, self._people) for event in athlete.finish()]
        last = self._last
        if last is None or not events:
            return []
        return [
            Packet(
                stream=last.stream,
                epoch=last.epoch,
                seq=last.seq + 1,
                pts=last.pts + 1,
                captured_at=last.captured_at,
                image=None,
                width=last.width,
                height=last.height,
                events=list(events),
            )
        ]

    def _counts(self, athlete: Athlete) -> bool:
        """Whether people are told about this person."""
        return not self._only_main or athlete is self._main

    def _restart(self, packet: Packet) -> None:
        """The stream's clock and track ids begin again; people go on with their sets."""
        for athlete in self._people:
            athlete.restart(packet.pts)

    def _who(self, pts: int, person: Person, taken: list[Athlete]) -> Athlete:
        free = [a for a in self._people if not any(a is t for t in taken)]
        for athlete in free:
            if athlete.track == person.track:
                return athlete
        lost = [a for a in free if a.last_seen <= pts and pts - a.last_seen <= GONE and _alike(a.box, person.box)]
        if lost:
            return max(lost, key=lambda a: a.last_seen)
        athlete = Athlete(self._exercises, self._rest, self._confirm, self._least_size)
        athlete.first_seen = pts
        self._people.append(athlete)
        return athlete

    def _choose(self, pts: int, seen: list[Athlete], events: dict[int, list[dict[str, Any]]]) -> None:
        """Who is the main person: the largest at first, then whoever does the first repetition, and nobody else."""
        main = self._main
        if main is not None and main.whole and pts - main.last_seen <= UNLOCK:
            return
        active = [a for a in seen if a.whole and any(e["type"] == "rep" for e in events[id(a)])]
        if active:
            self._main = max(active, key=lambda a: float(a.box[3]))
        elif seen and (main is None or pts - main.last_seen > UNLOCK):
            self._main = max(seen, key=lambda a: float(a.box[2] * a.box[3]))


def _alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two boxes (x, y, w, h) may be one person a moment later."""
    larger = max(float(max(a[2], a[3])), float(max(b[2], b[3])), 1.0)
    smaller = max(min(float(max(a[2], a[3])), float(max(b[2], b[3]))), 1.0)
    apart = np.hypot(*((a[:2] + a[2:] / 2) - (b[:2] + b[2:] / 2)))
    return larger / smaller < 2 and float(apart) < 0.7 * larger


def _exercises(options: RepCounter.Options) -> list[Exercise]:
    if options.exercise != "auto":
        if options.among:
            raise UsageError("`among` goes with `exercise: auto`")
        return [find(options.exercise)]
    chosen = [find(name) for name in options.among] or list(shipped().values())
    names = [exercise.name for exercise in chosen]
    if len(set(names)) < len(names):
        raise UsageError("`among` names an exercise twice")
    return chosen
