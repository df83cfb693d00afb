"""What each stage of a graph needs from the stages above it, and whether it gets that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamkp.graph.spec import StageSpec

_GIVERS = {
    "image": "decode",
    "detections": "detect-person",
    "keypoints_2d": "keypoints-2d",
    "window": "window",
    "keypoints_3d": "lift-3d",
}


def unmet(stages: Sequence[StageSpec]) -> Iterator[tuple[StageSpec, str]]:
    """Each stage that can never do its work, and why; `stages` in topological order.

    A stage that does not declare `gives` may give anything, so nothing is said of the stages below it.
    """
    available: dict[str, frozenset[str] | None] = {}  # by stage; None: anything
    names = {stage.name for stage in stages}
    for stage in stages:
        above = [available[name] for name in stage.inputs if name in available]
        complete = all(name in names for name in stage.inputs)
        known = None if None in above or not complete else frozenset().union(*(a for a in above if a is not None))
        if known is not None and stage.cls.kind != "source":
            for what in stage.cls.requires(stage.options):
                if what not in known:
                    yield stage, _missing(stage, what)
        gives = stage.cls.gives
        available[stage.name] = None if known is None or gives is None else known | frozenset(gives)


def idle(stages: Sequence[StageSpec]) -> list[StageSpec]:
    """The stages whose results nobody reads, directly or through others that nobody reads; they need not run.

    A stage that does not declare `gives` is never one of them: it may do more than add to packets.
    """
    found: list[StageSpec] = []
    left = list(stages)
    while True:
        read = {name for stage in left for name in stage.inputs}
        unread = [
            s for s in left if s.cls.kind not in ("source", "sink") and s.cls.gives is not None and s.name not in read
        ]
        if not unread:
            return found
        found += unread
        left = [stage for stage in left if stage not in unread]


def _only_adds(stage: StageSpec) -> bool:
    return stage.cls.kind not in ("source", "sink") and stage.cls.gives is not None


def _missing(stage: StageSpec, what: str) -> str:
    giver = _GIVERS.get(what)
    hint = f"; put {giver} above it" if giver else ""
    return f"needs {what.replace('_', ' ')}, which no stage above it gives{hint}"
