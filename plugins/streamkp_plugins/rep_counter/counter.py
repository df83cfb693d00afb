"""Counts one exercise of one person, frame by frame."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from streamkp_plugins.measures import Pose, Value
from streamkp_plugins.rep_counter.cycle import Smoother, Turn, Turns
from streamkp_plugins.rep_counter.spec import Exercise, Flag, Gate

HELD, HELD_AT_END = 0.7, 0.5  # share of a repetition's frames, and of those at an end of it, in which a gate must hold
NORMAL = 0.5  # share of somebody's own usual range that a whole repetition has at least
AT_REST = 500_000_000  # ns before a movement that still tell about its rest
SETTLES = 250_000_000  # ns after first sight in which a tracker's joints still jump into place
BLIND = 2_000_000_000  # ns without a pose after which a movement in progress is given up


@dataclass(slots=True)
class Repetition:
    """One repetition, whole or partial."""

    turn: Turn
    partial: bool
    fit: float  # how well it was this exercise, 0..1
    symmetry: float | None
    flags: list[dict[str, Any]]

    @property
    def tempo(self) -> tuple[float, float, float]:
        """Seconds out, at the far end, and back until it counted."""
        turn = self.turn
        return (turn.far - turn.start) / 1e9, (turn.leave - turn.far) / 1e9, (turn.end - turn.leave) / 1e9


@dataclass(slots=True)
class _Frame:
    pts: int
    progress: float  # not smoothed, so that it does not lag behind the joints
    visible: bool
    gates: dict[str, bool | None]
    places: dict[str, tuple[float, float]]
    sides: tuple[float | None, float | None]
    flags: list[float | None]


@dataclass(slots=True)
class Counter:
    """Counts one exercise of one person; `add` takes one pose after the other."""

    exercise: Exercise
    _smooth: Smoother = field(default_factory=Smoother)
    _frames: deque[_Frame] = field(default_factory=lambda: deque(maxlen=Turns.REMEMBERED))
    _ranges: deque[float] = field(default_factory=lambda: deque(maxlen=7))
    _first: int = 0
    _last: int | None = None
    progress: float | None = None
    why: str = ""  # why the last movement was no repetition, for people who write exercises
    _turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        exercise = self.exercise
        self._turns = Turns(exercise.hysteresis, exercise.back, exercise.full if exercise.joins else None)

    def reset(self) -> None:
        """Another person or another camera: what is in progress is given up, the usual range stays."""
        self._smooth, self._last, self.progress = Smoother(), None, None
        self._turns.reset()
        self._frames.clear()

    def under_way(self) -> int | None:
        """When the movement began that may still become a repetition, ns; None where there is none."""
        turns = self._turns
        if turns.out and turns.high >= self.exercise.partial and turns.low <= self.exercise.start:
            return turns.since()
        return None

    def add(self, pts: int, pose: Pose) -> Repetition | None:
        """The repetition that this pose completes, if any."""
        exercise = self.exercise
        if self._last is not None and pts - self._last > BLIND:
            self.reset()
        read = self._read(pose)
        if read is None:
            return None
        raw, sides = read
        if self._last is None:
            self._first = pts
        self._last = pts
        self._frames.append(
            _Frame(
                pts,
                raw,
                not exercise.visible.joints or pose.score(exercise.visible.joints) >= exercise.visible.score,
                {name: _holds(gate, gate.of(pose)) for name, gate in exercise.gates.items()},
                self._places(pose),
                sides,
                [_mean(flag.of(pose)) for flag in exercise.flags],
            )
        )
        if pts - self._first < SETTLES:
            return None
        self.progress = self._smooth(pts, raw)
        turn = self._turns.add(pts, self.progress)
        if not self._turns.out and turn is None:
            while len(self._frames) > 1 and self._frames[0].pts < pts - 1_000_000_000:
                self._frames.popleft()
        if turn is None:
            return None
        judged = self._judge(turn)
        self.why = judged if isinstance(judged, str) else ""
        return None if isinstance(judged, str) else judged

    def _read(self, pose: Pose) -> tuple[float, tuple[float | None, float | None]] | None:
        """Progress of one pose, and that of each side."""
        votes: list[tuple[float, float]] = []
        by_side: dict[str, list[float]] = {"left": [], "right": []}
        for signal in self.exercise.signals.values():
            for value, score, side in signal.of(pose):
                progress = min(1.5, max(-0.5, (value - signal.rest) / (signal.full - signal.rest)))
                votes.append((progress, signal.weight * (max(score, 0.0) + 0.02)))
                if side in by_side and score > 0.5:
                    by_side[side].append(progress)
        if not votes:
            return None
        left, right = (sum(v) / len(v) if v else None for v in by_side.values())
        return _combine(votes, self.exercise.combine), (left, right)

    def _places(self, pose: Pose) -> dict[str, tuple[float, float]]:
        places = {}
        for joint in self.exercise.travel:
            point = pose.joint(joint if joint == "nose" else f"mid_{joint}")
            if point is not None:
                places[joint] = point[0] / pose.body, point[1] / pose.body
        return places

    def _judge(self, turn: Turn) -> Repetition | str:
        """The repetition that a movement was, or why it was none."""
        exercise = self.exercise
        frames = [frame for frame in self._frames if frame.pts >= turn.start]
        if turn.high < exercise.partial or turn.travel < exercise.partial * 0.7:
            return "too little range"
        if turn.low > exercise.start:
            return f"it began at progress {turn.low:.2f}, not at rest"
        seconds = (turn.end - turn.start) / 1e9
        if not exercise.seconds.least <= seconds <= exercise.seconds.most:
            return f"it took {seconds:.2f} s"
        if not turn.joined and turn.far - turn.start < exercise.seconds.out * 1e9:
            return "the way out was too fast for a person"
        if sum(frame.visible for frame in frames) < HELD * len(frames):
            return "its joints were not seen"
        fit = 1.0
        for name, gate in exercise.gates.items():
            share = self._share(name, gate, turn)
            if share < (HELD if gate.at == "whole" else HELD_AT_END):
                return f"the gate {name} held in {100 * share:.0f} % of it"
            fit *= share
        for joint, travel in exercise.travel.items():
            extent = _extent([frame.places[joint] for frame in frames if joint in frame.places])
            if travel.above is not None and extent < travel.above * min(1.0, turn.travel):
                return f"{joint} moved by {extent:.2f} torsos only"
            if travel.below is not None and extent > travel.below:
                return f"{joint} moved by {extent:.2f} torsos"
        usual = NORMAL * median(self._ranges) if len(self._ranges) >= 2 else 0.0
        partial = turn.high < exercise.full or turn.travel < max(usual, 0.6 * exercise.full)
        if not partial:
            self._ranges.append(turn.travel)
        fit *= 1 - min(0.5, abs(turn.high - 1) / 2)
        return Repetition(turn, partial, fit, _symmetry(frames), self._flags(frames, turn, partial))

    def _share(self, name: str, gate: Gate, turn: Turn) -> float:
        """The share of the frames in question in which a gate held."""
        near = 0.35 * turn.travel
        if gate.at == "rest":
            # What was joined at its far end has no rest to look at.
            since = turn.end if turn.joined else turn.start - AT_REST
            chosen = [f for f in self._frames if since <= f.pts <= turn.far and f.progress <= turn.low + near]
        else:
            chosen = [f for f in self._frames if f.pts >= turn.start]
            if gate.at == "far":
                chosen = [f for f in chosen if f.progress >= turn.high - near]
        judged = [frame.gates[name] for frame in chosen]
        known = [held for held in judged if held is not None]
        return sum(known) / len(known) if known else 1.0

    def _flags(self, frames: list[_Frame], turn: Turn, partial: bool) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        near = 0.15 * turn.travel
        if partial or turn.high < self.exercise.full + 0.1:
            found.append({"flag": "shallow", "value": round(turn.high, 2)})
        for index, flag in enumerate(self.exercise.flags):
            values = [(f.progress, v) for f in frames if (v := f.flags[index]) is not None]
            value = _flag_value(flag, values, turn, near)
            if value is None:
                continue
            if (flag.above is not None and value > flag.above) or (flag.below is not None and value < flag.below):
                found.append({"flag": flag.flag, "value": round(value, 2)})
        return found


def _flag_value(flag: Flag, values: list[tuple[float, float]], turn: Turn, near: float) -> float | None:
    rest = [v for p, v in values if p <= turn.low + near]
    if flag.at == "far":
        chosen = [v for p, v in values if p >= turn.high - near]
    else:
        chosen = rest if flag.at == "rest" else [v for _, v in values]
    if not chosen or (flag.change and not rest):
        return None
    ordered = sorted(chosen)
    # The tenth part at either end is left out: one wild frame is no fault of form.
    index = {"most": int(0.9 * (len(ordered) - 1)), "least": int(0.1 * len(ordered))}.get(flag.at, len(ordered) // 2)
    return ordered[index] - (median(rest) if flag.change else 0.0)


def _holds(gate: Gate, values: list[Value]) -> bool | None:
    if not values:
        return None
    if gate.side == "mean":
        mean = _mean(values)
        return None if mean is None else _within(gate, mean)
    held = [_within(gate, value.value) for value in values]
    return any(held) if gate.side == "any" else all(held)


def _within(gate: Gate, value: float) -> bool:
    return (gate.above is None or value >= gate.above) and (gate.below is None or value <= gate.below)


def _mean(values: list[Value]) -> float | None:
    if not values:
        return None
    weights = [max(v.score, 0.0) ** 2 + 1e-3 for v in values]
    return sum(v.value * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _combine(votes: list[tuple[float, float]], how: str) -> float:
    if how == "median":
        return _weighted_median(votes)
    best = max(weight for _, weight in votes)
    seen = [vote for vote in votes if vote[1] >= 0.5 * best]
    if how == "mean":
        return sum(p * w for p, w in seen) / sum(w for _, w in seen)
    return max(p for p, _ in seen) if how == "max" else min(p for p, _ in seen)


def _weighted_median(votes: list[tuple[float, float]]) -> float:
    """The value with half of the weight on either side, interpolated so that it moves without jumps."""
    ordered = sorted(votes)
    half = sum(weight for _, weight in ordered) / 2
    before, last, at = 0.0, ordered[0][0], -math.inf
    for value, weight in ordered:
        middle = before + weight / 2
        if middle >= half:
            share = 1.0 if at == -math.inf else (half - at) / (middle - at)
            return last + (value - last) * share
        before, last, at = before + weight, value, middle
    return last


def _extent(places: list[tuple[float, float]]) -> float:
    """The diagonal of the box around these places, without the twentieth part that is furthest out on each side."""
    if not places:
        return 0.0
    xs, ys = sorted(x for x, _ in places), sorted(y for _, y in places)
    cut = len(places) // 20
    return math.hypot(xs[-1 - cut] - xs[cut], ys[-1 - cut] - ys[cut])


def _symmetry(frames: list[_Frame]) -> float | None:
    left = [frame.sides[0] for frame in frames if frame.sides[0] is not None]
    right = [frame.sides[1] for frame in frames if frame.sides[1] is not None]
    if len(left) < 0.7 * len(frames) or len(right) < 0.7 * len(frames):
        return None
    ranges = max(left) - min(left), max(right) - min(right)
    return round(min(ranges) / max(ranges), 2) if max(ranges) > 0 else None
