"""Gathers the figures of a run from its feeds, runners and channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from streamkp.errors import StreamkpError
from streamkp.graph.join import JoinRunner
from streamkp.graph.runner import StageRunner
from streamkp.graph.source_runner import SourceRunner
from streamkp.graph.statistics import StageFigures


def figures(
    source: str,
    feeds: Mapping[str, SourceRunner],
    runners: Sequence[StageRunner],
    joins: Sequence[JoinRunner],
    now: int,
) -> list[StageFigures]:
    """The figures of every stage and stream, in the order of the graph; `now` is monotonic nanoseconds."""
    rows: list[StageFigures] = []
    for name, feed in feeds.items():
        row = StageFigures(source, name)
        row.add(feed.meter, now)
        rows.append(row)
    for runner in runners:
        inboxes = [join.inbox for join in joins if join.name == runner.name]
        if runner.inbox is not None:
            inboxes.append(runner.inbox)
        dropped, waiting = Counter[str](), Counter[str]()
        for inbox in inboxes:
            dropped.update(_by_stream(inbox.dropped()))
            waiting.update(_by_stream(inbox.depths()))
        by_stream: dict[str, StageFigures] = {}
        for meters in runner.meters:
            for name, meter in list(meters.items()):
                by_stream.setdefault(name, StageFigures(runner.name, name)).add(meter, now)
        for name in dropped.keys() | waiting.keys():
            row = by_stream.setdefault(name, StageFigures(runner.name, name))
            row.dropped_overflow, row.queue = dropped[name], waiting[name]
        rows.extend(by_stream.values())
    return rows


def streams(feeds: Mapping[str, SourceRunner]) -> dict[str, dict[str, Any]]:
    """The entry of each stream in `/stats`."""
    return {
        name: {
            "source": feed.stream.label,
            "status": feed.stream.status.as_json(),
            "live": feed.stream.live,
            "frames": feed.meter.done,
            "damaged": feed.stream.damaged,
            "frames_total": feed.stream.frames_total,
            "position_s": round(feed.position / 1e9, 3),
            "labels": dict(feed.stream.options.labels),
            "duration_s": None if feed.stream.duration is None else round(feed.stream.duration / 1e9, 3),
        }
        for name, feed in feeds.items()
    }


def outcome(rows: Sequence[StageFigures], source: str, sinks: Sequence[str]) -> list[StreamkpError]:
    """What is wrong with a run that went through without an error of its own: stages that failed on every frame of a
    stream, and streams of which an output got nothing.
    """
    errors: list[StreamkpError] = []
    blamed: set[str] = set()
    for row in rows:
        if row.stage != source and row.always_failed:
            blamed.add(row.stream)
            errors.append(
                StreamkpError(
                    f"stage {row.stage} failed on every frame of stream {row.stream} "
                    f"({row.done + row.errors} frames); the log says why"
                )
            )
    arrived = {(row.stage, row.stream) for row in rows if row.done or row.errors or row.dropped_refused}
    lost = {row.stream for row in rows if row.errors or row.nothing}
    for row in rows:
        if row.stage != source or not row.done or row.stream in blamed or row.stream not in lost:
            continue
        for sink in sinks:
            if (sink, row.stream) not in arrived:
                where = "; ".join(
                    f"stage {r.stage}: {r.losses()}" for r in rows if r.stream == row.stream and r.losses()
                )
                errors.append(
                    StreamkpError(
                        f"{sink} got nothing of stream {row.stream}, of which {row.done} frames were read ({where})"
                    )
                )
    return errors


def _by_stream(lanes: Mapping[str, int]) -> Counter[str]:
    """Sums over lanes `branch/stream` or `stream`."""
    sums = Counter[str]()
    for key, value in lanes.items():
        sums[key.rpartition("/")[2]] += value
    return sums
