"""Files that a graph writes: never one that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from streamkp.errors import UsageError

if TYPE_CHECKING:
    from streamkp.graph.spec import StageSpec, StreamSpec
    from streamkp.graph.stage import Source


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file: through links of both kinds, relative parts, and case where it is ignored."""
    try:
        if os.path.samefile(one, other):
            return True
    except (OSError, ValueError):
        pass
    try:
        return os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):
        return False


def refuse_inputs(what: str, outputs: Iterable[Path], inputs: Mapping[str, Path]) -> None:
    """Raise `UsageError` where an output is one of the inputs.

    `what` is who writes, and `inputs` are by what people call them. Writing begins by emptying the file, so this is to
    be asked before anything is opened.
    """
    for output in outputs:
        for name, path in inputs.items():
            if same_file(output, path):
                raise UsageError(f"{what} would write to {output}, which is {name} itself: choose another path")


def clashes(
    stages: Iterable[StageSpec], streams: Mapping[str, StreamSpec], graph_file: Path | None = None
) -> Iterator[tuple[StageSpec, str]]:
    """Each stage that would write to a file that the graph reads: a source, the graph file, a model or the like."""
    stages = list(stages)
    inputs = sources(stages, streams)
    if graph_file is not None:
        inputs["this graph file"] = graph_file
    for stage in stages:
        written = stage.cls.outputs(stage.options, tuple(streams))
        for name, value in stage.options:
            text = os.fspath(value) if isinstance(value, str | os.PathLike) else ""
            if text and len(text) < 4096 and not any(Path(text) == path for path in written):
                inputs.setdefault(f"the file of stages.{stage.name}.{name}", Path(text).expanduser())
    written_by: list[tuple[StageSpec, Path]] = []
    for stage in stages:
        mine = stage.cls.outputs(stage.options, tuple(streams))
        for other, path in written_by:
            if any(same_file(path, each) for each in mine):
                yield stage, f"would write to {path}, as stage {other.name} does: choose another path"
                break
        written_by += [(stage, path) for path in mine if not path.is_char_device()]
        try:
            refuse_inputs("it", stage.cls.outputs(stage.options, tuple(streams)), inputs)
        except UsageError as error:
            yield stage, str(error)


def sources(stages: Iterable[StageSpec], streams: Mapping[str, StreamSpec]) -> dict[str, Path]:
    """The files that the streams read, by what people call them."""
    found: dict[str, Path] = {}
    for stage in stages:
        if stage.cls.kind == "source":
            for name, stream in streams.items():
                path = cast("type[Source]", stage.cls).file_of(stream.uri.get_secret_value())
                if path is not None:
                    found[f"the source of stream {name}"] = path
    return found
