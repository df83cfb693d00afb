"""How well `rep-counter` counts: recordings or clips against true counts.

MAE is the mean of |counted - true| / true, OBO the share of clips within one of the truth, as reported in the
field (RepNet, TransRAC); `exact` is the share of clips with the true count. Clips without an exercise count apart:
every repetition in one is a false count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamkp.errors import UsageError
from streamkp.graph import registry
from streamkp.graph.engine import Engine
from streamkp.graph.graph import Graph
from streamkp.graph.stage import MapStage, Sink, Stage, StageContext, StageOptions
from streamkp.packet import Packet
from streamkp.sources import replay

RECORDINGS = (".jsonl", ".jsonl.gz", ".json.gz", ".mcap")


@dataclass(frozen=True)
class AnnotatedRecording:
    """One line of a truth file; `exercise` is None where nobody exercises."""

    file: str
    exercise: str | None
    count: int


@dataclass
class Counted:
    """What was counted in one clip: whole repetitions by exercise, and partial ones."""

    clip: AnnotatedRecording
    reps: dict[str, int] = field(default_factory=dict)
    partial: int = 0

    @property
    def count(self) -> int:
        """Whole repetitions of the clip's exercise; of any, where it has none."""
        return sum(self.reps.values()) if self.clip.exercise is None else self.reps.get(self.clip.exercise, 0)

    @property
    def error(self) -> int:
        """Counted less true."""
        return self.count - self.clip.count


def read_truth(path: Path, name_of: Callable[[str], str | None]) -> list[AnnotatedRecording]:
    """The clips of a truth file: a JSON list of `{file, exercise, count}`; an exercise of null is none.

    `name_of` gives the counter's name for one of the file's, or None.

    Raises:
        UsageError: the file cannot be read, or an exercise is not known.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the truth file {path} cannot be read: {error}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise UsageError(f'{path}: expected a list of {{"file", "exercise", "count"}}')
    clips = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("file"), str):
            raise UsageError(f'{path}: entry {number} has no "file"')
        count, exercise = row.get("count"), row.get("exercise")
        if exercise is None:
            clips.append(AnnotatedRecording(row["file"], None, 0))
            continue
        if type(count) is not int or count < 0:
            raise UsageError(
                f'{path}: entry {number} ({row["file"]}): "count" is {count!r}, but must be a whole number'
            )
        name = name_of(str(exercise))
        if name is None:
            raise UsageError(
                f"{path}: entry {number}: there is no exercise {exercise!r}; see `streamkp exercises list`"
            )
        clips.append(AnnotatedRecording(row["file"], name, count))
    return clips


def count(path: Path, clip: AnnotatedRecording, exercise: str, person: str) -> Counted:
    """Count the repetitions in one recording or clip, live: frame by frame without looking ahead.

    Raises:
        UsageError: there is no such exercise.
        SourceError: the file cannot be read.
    """
    counted = Counted(clip)
    options = {"exercise": exercise, "person": person}
    for event in _of_recording(path, options) if path.name.endswith(RECORDINGS) else _of_clip(path, options):
        if event["type"] == "rep" and event["partial"]:
            counted.partial += 1
        elif event["type"] == "rep":
            counted.reps[event["exercise"]] = counted.reps.get(event["exercise"], 0) + 1
    return counted


def _of_recording(path: Path, options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    cls = registry.stage_class("rep-counter")
    assert issubclass(cls, MapStage)
    checked = cls.Options.model_validate(options)
    cls.check(checked)
    stage = cls(checked, StageContext("reps"))
    stage.open()
    events: list[Mapping[str, Any]] = []
    stream = "recording"
    for packet in replay.packets(replay.Recording(path), name=stream):
        packet.events.clear()  # the recording may hold repetitions that were counted when it was made
        if stage.process(packet) is not None:
            events += packet.events
    events += [event for packet in stage.drain(stream) for event in packet.events]
    stage.close()
    return events


class _Events(Sink):
    class Options(StageOptions):
        into: Any

    options: Options

    def process(self, packet: Packet) -> None:
        self.options.into.extend(packet.events)


def _of_clip(path: Path, options: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    events: list[Mapping[str, Any]] = []
    counter: type[Stage] = registry.stage_class("rep-counter")
    graph = Graph.from_yaml("fitness").only_streams({"clip": str(path)}).without_sinks()
    graph.add("reps", counter, **options).add("events", _Events, into=events)
    engine = Engine(graph.validate())
    engine.start()
    engine.wait()
    if engine.errors:
        raise engine.errors[0]
    return events


def evaluate(
    data: Path,
    clips: Iterable[AnnotatedRecording],
    exercise: str = "given",
    person: str = "main",
    progress: Callable[[], None] = lambda: None,
) -> list[Counted]:
    """Count in every clip. `exercise`: `given` tells the counter what the truth file says; `auto` does not."""
    rows = []
    for clip in clips:
        told = exercise if exercise != "given" else clip.exercise or "auto"
        rows.append(count(data / clip.file, clip, told, person))
        progress()
    return rows


def figures(rows: Iterable[Counted]) -> dict[str, Any]:
    """MAE, OBO and the exact share, in all and by exercise, and the false counts where nobody exercises."""
    rows = list(rows)
    with_exercise = [row for row in rows if row.clip.exercise is not None]
    empty = [row for row in rows if row.clip.exercise is None]
    names = sorted({row.clip.exercise for row in with_exercise if row.clip.exercise is not None})
    return {
        "all": _figures(with_exercise),
        "exercises": {name: _figures([row for row in with_exercise if row.clip.exercise == name]) for name in names},
        "clips_without_exercise": len(empty),
        "false_counts": sum(row.count for row in empty),
    }


def _figures(rows: list[Counted]) -> dict[str, Any]:
    if not rows:
        return {"clips": 0, "reps": 0, "mae": None, "obo": None, "exact": None}
    relative = [abs(row.error) / row.clip.count for row in rows if row.clip.count]
    return {
        "clips": len(rows),
        "reps": sum(row.clip.count for row in rows),
        "mae": round(sum(relative) / len(relative), 4) if relative else None,
        "obo": round(sum(abs(row.error) <= 1 for row in rows) / len(rows), 4),
        "exact": round(sum(row.error == 0 for row in rows) / len(rows), 4),
    }
