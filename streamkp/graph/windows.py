"""Fits the window stages of a graph to the stages that read them, before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamkp.errors import StreamkpError
from streamkp.packet import WINDOW_FRAMES, WindowRequest

if TYPE_CHECKING:
    from streamkp.graph.spec import StageSpec

Found = list[tuple[str, str]]  # what is wrong: where (`stages.window.rate`), and what


def fit_windows(stages: Sequence[StageSpec]) -> tuple[list[StageSpec], Found]:
    """The stages, with the options that window stages leave open (None) set to what their readers need.

    `stages` are in topological order. A value in the graph that contradicts a reader, and two readers that contradict
    each other, are problems.
    """
    fitted = {stage.name: stage for stage in stages}
    asked: dict[str, WindowRequest] = {}
    problems: Found = []
    for stage in stages:
        try:
            request = stage.cls.reads_window(stage.options)
        except StreamkpError as error:
            problems.append((f"stages.{stage.name}", str(error)))
            continue
        if request is None:
            continue
        window = _nearest_above(stage, fitted)
        if window is None:
            continue  # told by `flow.unmet`, unless a plugin may make the windows
        given = next(each for each in stages if each.name == window.name).options
        update, wrong = _fit(window, given, request, asked.get(window.name))
        problems += wrong
        asked[window.name] = request
        fitted[window.name] = replace(window, options=window.options.model_copy(update=update))
    return [fitted[stage.name] for stage in stages], problems


def _nearest_above(stage: StageSpec, by_name: dict[str, StageSpec]) -> StageSpec | None:
    level = list(stage.inputs)
    while level:
        above = [by_name[name] for name in level if name in by_name]
        for each in above:
            if each.cls.kind == "window":
                return each
        level = [name for each in above for name in each.inputs]
    return None


def _fit(
    window: StageSpec, given: Any, request: WindowRequest, earlier: WindowRequest | None
) -> tuple[dict[str, Any], Found]:
    update: dict[str, Any] = {}
    problems: Found = []
    for name in ("skeleton", "rate"):
        wanted, found = getattr(request, name), getattr(window.options, name, None)
        if wanted is None or wanted == found:
            continue
        if found is None:
            update[name] = wanted
            continue
        where = f"stages.{window.name}.{name}"
        if getattr(given, name) is None and earlier is not None:
            needs = f"{earlier.by} needs {_shown(found)} and {request.by} needs {_shown(wanted)}"
            needs += ": give each a window stage of its own"
            problems.append((where, needs))
        else:
            needs = f"is {_shown(found)}, but {request.by} was trained with {_shown(wanted)}: leave {name} out"
            problems.append((where, needs))
    frames = getattr(given, "frames", None)
    if frames is None:
        update["frames"] = max(WINDOW_FRAMES, getattr(window.options, "frames", None) or 0, request.frames)
    elif frames < request.least:
        what = f"is {frames}, but {request.by} reads {request.least} poses: leave frames out"
        problems.append((f"stages.{window.name}.frames", what))
    return update, problems


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"
