"""A graph file that was changed while its graph runs: what can be taken over is, the rest is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamkp.errors import StreamkpError
from streamkp.graph.spec import GraphSpec, StageSpec, StreamSpec
from streamkp.graph.stage import StageOptions
from streamkp.graph.validation import changed_options


class Reloadable(Protocol):
    """What reloading does with an engine."""

    def add_stream(self, name: str, stream: StreamSpec) -> None: ...
    def remove_stream(self, name: str) -> None: ...
    def replace_stream(self, name: str, stream: StreamSpec) -> None: ...
    def relabel_stream(self, name: str, labels: Mapping[str, str]) -> None: ...
    def stream_specs(self) -> dict[str, StreamSpec]: ...
    def keep_alive(self) -> None: ...
    def stage_options(self) -> dict[str, StageOptions]: ...
    def change_options(self, stage: str, changes: Mapping[str, Any]) -> StageOptions: ...


@dataclass
class Outcome:
    """What came of it, in words: `done`, and what was `refused` and why."""

    done: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def reload(engine: Reloadable, before: GraphSpec, after: GraphSpec) -> Outcome:
    """Take over what `after` has and `before`, the same file as it was read last, has not.

    Streams that are in neither, since they were added from outside, stay. Streams of the file that were removed from
    outside come back. Options that were changed from outside stay as they are unless the file, too, has changed.
    """
    outcome = Outcome()
    _streams(engine, before, after, outcome)
    old = {stage.name: stage for stage in before.stages}
    new = {stage.name: stage for stage in after.stages}
    for name in old.keys() - new.keys():
        outcome.refused.append(f"stages.{name} was taken away: stages are put together at the start")
    for name, stage in new.items():
        if name not in old:
            outcome.refused.append(f"stages.{name} is new: stages are put together at the start")
        else:
            _stage(engine, old[name], stage, outcome)
    if before.tracing != after.tracing:
        outcome.refused.append("tracing: what is followed is set at the start")
    if before.control != after.control:
        outcome.refused.append("control: the server that listens stays as it is")
    return outcome


def _streams(engine: Reloadable, before: GraphSpec, after: GraphSpec, outcome: Outcome) -> None:
    running = engine.stream_specs()
    for name in before.streams:
        if name not in after.streams and name in running:
            engine.keep_alive()
            _try(outcome, f"stream {name} removed", engine.remove_stream, name)
    for name, spec in after.streams.items():
        now = running.get(name)
        if now is None:
            _try(outcome, f"stream {name} added", engine.add_stream, name, spec)
        elif (was := before.streams.get(name)) is not None and was == spec:
            continue
        elif now.model_copy(update={"labels": spec.labels}) == spec:
            if now.labels != spec.labels:
                _try(outcome, f"stream {name}: labels", engine.relabel_stream, name, spec.labels)
        else:
            _try(outcome, f"stream {name} replaced", engine.replace_stream, name, spec)


def _stage(engine: Reloadable, old: StageSpec, new: StageSpec, outcome: Outcome) -> None:
    name = new.name
    for what, same in (
        ("use", old.use == new.use),
        ("from", old.inputs == new.inputs),
        *((key, getattr(old.settings, key) == getattr(new.settings, key)) for key in ("queue", "batch", "workers")),
    ):
        if not same:
            outcome.refused.append(f"stages.{name}.{what}: the shape of a graph is set at the start")
    if old.use != new.use or type(old.options) is not type(new.options):
        return
    given = dict(new.options)
    changes = {key: given[key] for key, value in old.options if given[key] != value}
    now = dict(engine.stage_options()[name])
    changes = {key: value for key, value in changes.items() if now[key] != value}
    for key, value in list(changes.items()):
        try:
            changed_options(new, engine.stage_options()[name], {key: value})
        except StreamkpError as error:
            outcome.refused.append(str(error))
            del changes[key]
    if changes:
        _try(outcome, f"stages.{name}: {', '.join(changes)}", engine.change_options, name, changes)


def _try(outcome: Outcome, what: str, act: Callable[..., object], *args: object) -> None:
    try:
        act(*args)
    except StreamkpError as error:
        outcome.refused.append(str(error))
    else:
        outcome.done.append(what)
