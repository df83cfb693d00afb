"""An exercise as data: what is measured, what counts as a repetition, and what must hold meanwhile."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamkp.plugin import UsageError
from streamkp_plugins.measures import JOINTS, Measure

FOLDER = Path(__file__).parent / "exercises"
MOST_BYTES = 100_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Signal(Measure):
    """A measure with its value at rest and at the far end of a whole repetition."""

    rest: float = Field(description="Value at rest: progress 0.")
    full: float = Field(description="Value at the far end: progress 1.")
    weight: float = Field(1.0, gt=0, description="Against the other signals.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.rest == self.full:
            raise ValueError("rest and full are the same value")
        return self


class Gate(Measure):
    """What must hold for most of a repetition; the mean over both sides, weighted by score."""

    above: float | None = Field(None, description="Least value.")
    below: float | None = Field(None, description="Greatest value.")
    at: Literal["whole", "rest", "far"] = Field(
        "whole", description="During the whole repetition, or only near its rest or its far end."
    )
    side: Literal["mean", "any", "both"] = Field("mean", description="Which side has to meet it.")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("a gate needs above, below or both")
        return self


class Flag(Measure):
    """A fault of form, told with the value that shows it."""

    flag: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Its name in the event.")
    above: float | None = Field(None, description="A value above this is a fault.")
    below: float | None = Field(None, description="A value below this is a fault.")
    change: bool = Field(False, description="Judge the change since the start of the repetition, not the value.")
    at: Literal["far", "rest", "most", "least"] = Field(
        "far", description="The value at the far end, at rest, or the greatest or least of the repetition."
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("a flag needs either above or below")
        return self


class Seconds(_Strict):
    """How long a repetition takes."""

    least: float = Field(0.4, gt=0, description="Shorter ones are noise.")
    most: float = Field(20.0, gt=0, description="Longer ones are something else.")
    out: float = Field(0.15, ge=0, description="Least for the way out: faster is a joint that jumps.")


class Visible(_Strict):
    """Which joints must be seen, on one side at least."""

    joints: tuple[str, ...] = Field((), description="Joints without a side.")
    score: float = Field(0.3, ge=0, le=1, description="Least mean score.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        for joint in self.joints:
            if joint not in JOINTS:
                raise ValueError(f"unknown joint {joint!r}; joints: {', '.join(JOINTS)}")
        return self


class Travel(_Strict):
    """How far a joint moves in the image during a repetition, in lengths of the torso: the diagonal of its range."""

    above: float | None = Field(None, description="Least motion.")
    below: float | None = Field(None, description="Greatest motion.")


class Exercise(_Strict):
    """One exercise. Progress is 0 at rest and 1 at the far end: the combined signals say where somebody is."""

    name: str = Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", description="Its name in events.")
    also: tuple[str, ...] = Field((), description="Other names that people give it.")
    about: str = Field(description="One line for people.")
    out: Literal["down", "up"] = Field(description="Where the way out leads: down in a squat, up in a pull-up.")
    signals: dict[str, Signal] = Field(min_length=1, description="What is measured.")
    combine: Literal["median", "mean", "max", "min"] = Field(
        "median", description="How the signals of all sides become one progress; the median outvotes a hidden limb."
    )
    full: float = Field(0.65, gt=0, le=1.2, description="Least progress of a whole repetition.")
    partial: float = Field(0.35, gt=0, le=1, description="Least progress of a partial one.")
    start: float = Field(0.55, description="Greatest progress from which a repetition may start.")
    joins: bool = Field(
        False, description="Whoever is first seen at the far end has done the way out: at the top of a pull-up."
    )
    back: float = Field(0.5, gt=0.3, le=1, description="Share of the way back after which it counts.")
    hysteresis: float = Field(0.15, gt=0, lt=0.5, description="Progress by which a change of direction must show.")
    seconds: Seconds = Seconds()
    visible: Visible = Visible()
    gates: dict[str, Gate] = Field({}, description="What must hold, by name.")
    travel: dict[str, Travel] = Field({}, description="How far joints move during a repetition, by joint.")
    flags: tuple[Flag, ...] = Field((), description="Faults of form.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.partial >= self.full:
            raise ValueError("partial must be less than full")
        if self.start >= self.full:
            raise ValueError("start must be less than full")
        for joint in self.travel:
            if joint not in JOINTS:
                raise ValueError(f"unknown joint {joint!r}; joints: {', '.join(JOINTS)}")
        return self


def load(path: Path) -> Exercise:
    """An exercise from a YAML file.

    Raises:
        UsageError: with everything that is wrong with it, one line each.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is too large for an exercise (at most {MOST_BYTES} bytes)")
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the exercise file {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the exercise file {path} cannot be read: it is not text in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"{at}: this is not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: an exercise is a mapping with the keys name, about, out and signals")
    try:
        return Exercise.model_validate(data)
    except ValidationError as error:
        raise UsageError("\n".join(_lines(path, error))) from None


def _lines(path: Path, error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        what = item["msg"].replace("Value error, ", "")
        if item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(), 1)
            what = f"unknown key; did you mean {close[0]}?" if close else "unknown key"
        lines.append(f"{path}: {where}: {what}" if where else f"{path}: {what}")
    return lines


def _known_keys() -> set[str]:
    models: tuple[type[BaseModel], ...] = (Exercise, Signal, Gate, Flag, Seconds, Visible, Travel)
    return {name for model in models for name in model.model_fields}


@cache
def shipped() -> dict[str, Exercise]:
    """The exercises that come with the plugin, by name."""
    exercises = (load(file) for file in sorted(FOLDER.glob("*.yaml")))
    return {exercise.name: exercise for exercise in exercises}


def named(name: str) -> Exercise | None:
    """The shipped exercise that people call so: `Jumping jacks`, `pushup`, `curl`."""
    wanted = name.strip().lower().replace(" ", "-").replace("_", "-")
    for exercise in shipped().values():
        names = (exercise.name, *exercise.also)
        if wanted in names or wanted.removesuffix("s") in names or wanted.removesuffix("es") in names:
            return exercise
    return None


def find(name: str, base: Path | None = None) -> Exercise:
    """A shipped exercise by its name, or one in a YAML file, relative to `base`.

    Raises:
        UsageError: there is no such exercise, or its file is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return load((base or Path()) / name)
    exercise = named(name)
    if exercise is not None:
        return exercise
    known = shipped()
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}."
    raise UsageError(f"there is no exercise {name}; {hint} Or name a YAML file of your own")
