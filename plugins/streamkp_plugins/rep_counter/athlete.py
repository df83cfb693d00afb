"""One person who exercises: which exercise it is, what counts, and when a set is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamkp.plugin import Keypoints3D, Person, Skeleton, skeleton
from streamkp_plugins.measures import Pose, Units
from streamkp_plugins.rep_counter.counter import Counter, Repetition
from streamkp_plugins.rep_counter.spec import Exercise

WAIT = 600_000_000  # ns for which a repetition waits for a better match that is still under way
LOYALTY = 1.5  # how much better the exercise of the running set is trusted
RECENT = 20_000_000_000  # ns for which it is
SIZE_TIME = 3_000_000_000  # ns over which a person's size is averaged, which arms in the air change for a moment
SIZE_HELD = 60_000_000_000  # ns over which the greatest is forgotten, so that who squats is no smaller
CLEAR, CLEAR_DEPTH = 0.7, 0.9  # fit and depth of a repetition that is shown before the exercise is sure
CLEARER = 1.25  # how much better it fits than those of other exercises
SMALL_CONFIRM = 3  # repetitions that begin the set of somebody small
JUMP = 1.2  # bodies from one frame to the next: no person moves so, a cut does
ZOOM = 1.5  # change of size from one frame to the next, likewise


@dataclass(slots=True)
class _Set:
    exercise: str
    start: int
    end: int
    reps: int = 0
    partial: int = 0


@dataclass(slots=True)
class _Found:
    exercise: Exercise
    repetition: Repetition
    at: int

    @property
    def score(self) -> float:
        return self.repetition.fit * (0.5 if self.repetition.partial else 1.0)


class Athlete:
    """Counts for one person, over changes of the track id. `add` gives the events of one frame."""

    def __init__(self, exercises: Sequence[Exercise], rest: int, confirm: int, least_size: float) -> None:
        """`rest`: ns without a repetition after which a set is over; `confirm`: repetitions that begin a set.

        Whoever is smaller than `least_size` needs three: people in the background seldom exercise for long.
        """
        self.track = -1
        self.box: NDArray[np.float32] = np.zeros(4, np.float32)
        self.first_seen = self.last_seen = 0
        # The longer side of the box over the shorter side of the picture: the mean of late, and its greatest value.
        self._size = self._greatest = 0.0
        self.whole = 0  # repetitions so far, over all sets
        self._rest = rest
        self._counters = [Counter(exercise) for exercise in exercises]
        self._flat, self._solid = Units(), Units()
        self._needs_3d = any(_needs_3d(exercise) for exercise in exercises)
        self._spot: tuple[float, float, float, int] | None = None
        self._found: list[_Found] = []
        self._confirm = confirm if len(exercises) > 1 else 1
        self._least_size = least_size
        self._doubtful: dict[str, list[_Found]] = {}  # by exercise: too few yet to begin a set
        self._set: _Set | None = None
        self._taken = 0  # until when the movement is spoken for, ns

    def shown(self) -> dict[str, Any]:
        """What goes with the person on the wire."""
        name, count, partial, provisional = None, 0, 0, False
        if self._set is not None:
            name, count, partial = self._set.exercise, self._set.reps, self._set.partial
        elif len(self._counters) == 1:
            name = self._counters[0].exercise.name
        elif (likely := self._likely()) is not None:
            name, count, provisional = likely[0].exercise.name, len(likely), True
        progress = next((c.progress for c in self._counters if c.exercise.name == name), None)
        return {
            "exercise": name,
            "count": count,
            "partial": partial,
            "progress": _rounded(progress),
            "provisional": provisional,
        }

    def _likely(self) -> list[_Found] | None:
        """The repetitions of the most likely exercise, before a set has begun; None where that is not clear."""
        if not self._large:
            return None
        recent = (
            [f for f in each if self.last_seen - f.repetition.turn.end < self._rest] for each in self._doubtful.values()
        )
        ranked = sorted((each for each in recent if each), key=lambda each: max(f.score for f in each), reverse=True)
        if not ranked:
            return None
        best, *others = [max(f.score for f in each) for each in ranked]
        deep = max(f.repetition.turn.high for f in ranked[0]) >= CLEAR_DEPTH
        return ranked[0] if deep and best >= CLEAR and all(best >= CLEARER * other for other in others) else None

    def new_scene(self) -> None:
        """The picture is another one: movements in progress are given up, the set goes on."""
        self._flat.reset()
        self._solid.reset()
        self._spot = None
        for counter in self._counters:
            counter.reset()

    @property
    def _large(self) -> bool:
        return self._greatest >= self._least_size

    def restart(self, pts: int) -> None:
        """The clock begins again at `pts`, and so do the track ids."""
        self.new_scene()
        self._found.clear()
        self._doubtful.clear()
        self._taken, self.last_seen, self.track = 0, pts, -1
        if self._set is not None:
            duration = self._set.end - self._set.start
            self._set.start, self._set.end = pts - duration, pts

    def add(self, pts: int, person: Person, size: tuple[int, int]) -> list[dict[str, Any]]:
        """The events of one frame of this person, which has 2D keypoints; `size` of the picture in pixels."""
        assert person.keypoints_2d is not None
        layout = skeleton(person.keypoints_2d.skeleton)
        larger = float(max(person.box[2], person.box[3])) / max(1, min(size))
        passed = pts - self.last_seen
        self._size += (larger - self._size) * (min(1.0, passed / SIZE_TIME) if self._size else 1.0)
        self._greatest = max(self._size, self._greatest * (1 - min(1.0, passed / SIZE_HELD)))
        self.track, self.box, self.last_seen = person.track, person.box, pts
        self._look_for_cut(pts, person.keypoints_2d.points, layout)
        flat = self._flat.read(_inside(person.keypoints_2d.points, size), layout, pts)
        solid = self._read_3d(person.keypoints_3d, pts)
        for counter in self._counters:
            pose = solid if solid is not None and _needs_3d(counter.exercise) else flat
            repetition = counter.add(pts, pose)
            if repetition is not None and repetition.turn.end > self._taken:
                self._found.append(_Found(counter.exercise, repetition, pts))
        return [*self._decide(pts), *self._rested(pts)]

    def finish(self) -> list[dict[str, Any]]:
        """The events at the end: what still waited, and the set."""
        events = []
        while self._found:
            events += self._take(max(self._found, key=self._score))
        if not self.whole and len(self._doubtful) == 1 and self._large:
            # A single repetition, of one exercise only: better told late than not at all.
            (waiting,) = self._doubtful.values()
            first, last = waiting[0].repetition.turn, waiting[-1].repetition.turn
            self._set = _Set(waiting[0].exercise.name, first.start, last.end)
            events += [self._count(each) for each in waiting]
        self._doubtful.clear()
        return [*events, *self._close()]

    def idle(self, pts: int) -> list[dict[str, Any]]:
        """The events of a frame without this person."""
        return [*self._decide(pts), *self._rested(pts)]

    def _read_3d(self, pose: Keypoints3D | None, pts: int) -> Pose | None:
        if not self._needs_3d or pose is None:
            return None
        return self._solid.read_3d(pose.y_down, skeleton(pose.skeleton), pts)

    def _look_for_cut(self, pts: int, points: NDArray[np.float32], layout: Skeleton) -> None:
        places = [layout.joints.index(f"{side}_{j}") for side in ("left", "right") for j in ("shoulder", "hip")]
        trunk = points[places, :2].astype(np.float64)
        if not np.isfinite(trunk).all():
            return
        x, y = trunk.mean(axis=0).tolist()
        size = max(float(np.ptp(points[:, 0])), float(np.ptp(points[:, 1])), 1.0)
        before, self._spot = self._spot, (x, y, size, pts)
        if before is None or pts - before[3] > 300_000_000:
            return
        far = math.hypot(x - before[0], y - before[1]) > JUMP * 0.4 * max(size, before[2])
        if far or not 1 / ZOOM < size / before[2] < ZOOM:
            self.new_scene()
            self._spot = (x, y, size, pts)

    def _score(self, found: _Found) -> float:
        current = self._set
        loyal = current is not None and current.exercise == found.exercise.name and found.at - current.end < RECENT
        return found.score * (LOYALTY if loyal else 1.0)

    def _decide(self, pts: int) -> list[dict[str, Any]]:
        """Which of the repetitions that were found at the same time it was; one that has rivals waits for them."""
        events: list[dict[str, Any]] = []
        while self._found:
            best = max(self._found, key=self._score)
            if len(self._counters) > 1 and pts - best.at < WAIT and not self._loyal(best) and self._rivals(best):
                break
            events += self._take(best)
        return events

    def _loyal(self, found: _Found) -> bool:
        return self._set is not None and self._set.exercise == found.exercise.name and not found.repetition.partial

    def _rivals(self, found: _Found) -> bool:
        for counter in self._counters:
            since = counter.under_way()
            if since is not None and since < found.repetition.turn.leave:
                return True
        return False

    def _take(self, found: _Found) -> list[dict[str, Any]]:
        turn = found.repetition.turn
        self._taken = max(self._taken, turn.end)
        self._found = [
            other for other in self._found if other is not found and other.repetition.turn.start >= turn.leave
        ]
        name = found.exercise.name
        if self._set is not None and self._set.exercise == name:
            self._doubtful.clear()
            return [self._count(found)]
        if found.repetition.partial and not (self._confirm == 1 and self._large):
            return []  # half a movement does not begin a set where that is in doubt
        waiting = [f for f in self._doubtful.get(name, []) if turn.start - f.repetition.turn.end < self._rest]
        waiting.append(found)
        if len(waiting) < (self._confirm if self._large else SMALL_CONFIRM):
            self._doubtful[name] = waiting
            return []
        self._doubtful.clear()
        events = self._close()
        first = waiting[0].repetition.turn
        self._set = _Set(name, first.start, first.end)
        return [*events, *(self._count(each) for each in waiting)]

    def _count(self, found: _Found) -> dict[str, Any]:
        current = self._set
        assert current is not None
        current.end = found.repetition.turn.end
        if found.repetition.partial:
            current.partial += 1
        else:
            current.reps += 1
            self.whole += 1
        return _event(found, current.reps, self.track)

    def _rested(self, pts: int) -> list[dict[str, Any]]:
        current = self._set
        if current is None or pts - current.end < self._rest or pts - self.last_seen < 0:
            return []
        counter = next(c for c in self._counters if c.exercise.name == current.exercise)
        if counter.under_way() is not None and pts - current.end < 3 * self._rest and pts == self.last_seen:
            return []
        return self._close()

    def _close(self) -> list[dict[str, Any]]:
        current, self._set = self._set, None
        if current is None:
            return []
        return [
            {
                "type": "set",
                "exercise": current.exercise,
                "track": self.track,
                "reps": current.reps,
                "partial": current.partial,
                "duration_s": round((current.end - current.start) / 1e9, 2),
            }
        ]


def _inside(points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The keypoints, those outside of the picture with a low score: they are guessed, whatever the network says."""
    margin = 0.02 * max(size)
    outside = ((points[:, :2] < -margin) | (points[:, :2] > np.array(size, np.float32) + margin)).any(axis=1)
    if not outside.any():
        return points
    points = points.copy()
    points[outside, 2] *= 0.2
    return points


def _event(found: _Found, count: int, track: int) -> dict[str, Any]:
    repetition, turn = found.repetition, found.repetition.turn
    out, hold, back = (round(seconds, 2) for seconds in repetition.tempo)
    down, up = (out, back) if found.exercise.out == "down" else (back, out)
    return {
        "type": "rep",
        "exercise": found.exercise.name,
        "track": track,
        "count": count,
        "partial": repetition.partial,
        "start_pts": turn.start,
        "end_pts": turn.end,
        "depth": round(turn.high, 2),
        "tempo": {"down_s": down, "hold_s": hold, "up_s": up},
        "symmetry": repetition.symmetry,
        "flags": repetition.flags,
    }


def _needs_3d(exercise: Exercise) -> bool:
    measures = (*exercise.signals.values(), *exercise.gates.values(), *exercise.flags)
    return any(measure.space == "3d" for measure in measures)


def _rounded(progress: float | None) -> float | None:
    return None if progress is None else round(min(max(progress, 0.0), 1.0), 2)
