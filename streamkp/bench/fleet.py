"""How many live cameras this machine carries: streams are added to one running graph until it no longer keeps up.

Each stream plays a clip in a loop at a camera's pace and drops frames like a camera. A number of streams is carried
if, over one measuring window, the 95th percentile of the time from capture to the sink stays under a bound and less
than a given share of the frames is dropped.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from pydantic import SecretStr

from streamkp.bench import graphs
from streamkp.errors import SourceError, StreamkpError
from streamkp.graph.engine import Engine
from streamkp.graph.spec import MAX_STREAMS, StreamSpec
from streamkp.graph.stage import Sink
from streamkp.packet import Packet

SETTLE_S = 3.0  # after a change of the number of streams: detections of all new streams fall together


@dataclass(frozen=True)
class Limits:
    """What a stream must get to count as carried."""

    p95_ms: float = 150.0
    dropped: float = 0.01  # share of the frames


@dataclass(frozen=True)
class Step:
    """One number of streams, measured over one window."""

    streams: int
    frames: int
    fps: float  # of all streams together
    p50_ms: float | None  # None: no frame came out
    p95_ms: float | None
    dropped: float  # share
    cpu_cores: float  # busy on average
    why: str  # empty if carried


def run(
    graph: str,
    clip: Path,
    *,
    overrides: list[str],
    rate: float | None,
    seconds: float,
    limits: Limits,
    most: int,
    progress: Callable[[Step], None] = lambda _: None,
) -> dict[str, Any]:
    """Find the most streams that are carried.

    Args:
        graph: a graph file or the name of a ready-made graph.
        clip: the video file that every stream plays.
        overrides: `--set` overrides of the graph.
        rate: frames a second of each stream; None for the clip's own rate.
        seconds: length of one measuring window.
        limits: what counts as carried.
        most: stop at this many streams.
        progress: called with each step as it is measured.

    Returns:
        `carried` (streams), `first_limit` (what gave out, empty if nothing did up to `most`), `steps` (every measured
        step).

    Raises:
        SourceError: the clip cannot be read.
        StreamkpError: the graph failed while it ran.
    """
    arrivals = _Arrivals()
    with tempfile.TemporaryDirectory() as folder:
        source = clip if rate is None else retimed(clip, Path(folder, "clip.mkv"), rate)
        loaded = graphs.load(graph, overrides).add("arrivals", _counting(arrivals))
        engine = Engine(loaded.validate(), keep_alive=True)
        fleet = _Fleet(engine, source)
        engine.start()
        try:
            steps = _search(fleet, arrivals, seconds, limits, min(most, MAX_STREAMS), progress)
        finally:
            engine.stop()
            engine.wait()
    if engine.errors:
        raise engine.errors[0]
    carried = max((step.streams for step in steps if not step.why), default=0)
    failed = [step for step in steps if step.why]
    return {
        "graph": graph,
        "clip": clip.name,
        "rate": rate,
        "cores": os.cpu_count(),
        "limits": asdict(limits),
        "carried": carried,
        "first_limit": min(failed, key=lambda step: step.streams).why if failed else "",
        "steps": [asdict(step) for step in steps],
    }


def retimed(clip: Path, out: Path, rate: float) -> Path:
    """The same compressed frames with other time stamps, so that the clip plays at `rate` frames a second.

    Raises:
        SourceError: the clip cannot be read, or holds no video.
    """
    try:
        with av.open(str(clip)) as source, av.open(str(out), "w") as target:
            video = source.streams.video[0]
            own = video.average_rate or video.base_rate
            if not own:
                raise SourceError(f"{clip}: its frame rate is not known; leave out --rate")
            factor = Fraction(own) / Fraction(rate).limit_denominator(1000)
            copy = target.add_stream_from_template(video)
            for packet in source.demux(video):
                if packet.dts is None:
                    continue
                packet.pts = None if packet.pts is None else round(packet.pts * factor)
                packet.dts = round(packet.dts * factor)
                packet.duration = round((packet.duration or 0) * factor)
                packet.stream = copy
                target.mux(packet)
    except (av.FFmpegError, IndexError) as error:
        raise SourceError(f"{clip} cannot be copied with other time stamps: {error}") from None
    return out


class _Arrivals:
    """Latencies of the frames that reached the sink. Written by the sink's thread, taken by the one that measures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: list[float] = []

    def add(self, latency_ms: float) -> None:
        with self._lock:
            self._latencies.append(latency_ms)

    def take(self) -> list[float]:
        """Those since the last call, in milliseconds."""
        with self._lock:
            taken, self._latencies = self._latencies, []
        return taken


def _counting(arrivals: _Arrivals) -> type[Sink]:
    class Arrivals(Sink):
        """Notes how long each frame was on its way."""

        def process(self, packet: Packet) -> None:
            arrivals.add((self.context.clock.now() - packet.captured_at) / 1e6)

    return Arrivals


class _Fleet:
    """The streams of a running engine."""

    def __init__(self, engine: Engine, source: Path) -> None:
        self.engine = engine
        self.size = 0
        self._stream = StreamSpec(uri=SecretStr(str(source)), live=True, loop=True, realtime=True)

    def resize(self, size: int) -> None:
        """Add or remove streams until there are `size`."""
        while self.size < size:
            self.engine.add_stream(f"camera{self.size}", self._stream)
            self.size += 1
        while self.size > size:
            self.size -= 1
            self.engine.remove_stream(f"camera{self.size}")

    def counts(self) -> tuple[int, dict[str, int]]:
        """Frames decoded so far, and frames lost so far by stage and cause."""
        decoded, lost = 0, dict[str, int]()
        for row in self.engine.figures():
            if row.stage == self.engine.spec.source.name:
                decoded += row.done
            for cause, count in (("queue full", row.dropped_overflow), ("too old", row.dropped_stale)):
                lost[f"{row.stage}, {cause}"] = lost.get(f"{row.stage}, {cause}", 0) + count
        return decoded, lost


def _search(
    fleet: _Fleet,
    arrivals: _Arrivals,
    seconds: float,
    limits: Limits,
    most: int,
    progress: Callable[[Step], None],
) -> list[Step]:
    """Grow by a quarter until a number is not carried, then halve the interval down to one stream."""
    steps: list[Step] = []
    good, bad, size = 0, most + 1, 1
    while good + 1 < bad:
        step = _measure(fleet, size, arrivals, seconds, limits)
        steps.append(step)
        progress(step)
        if step.why:
            bad = size
        else:
            good = size
        size = min(good + max(1, good // 4), most) if bad > most else (good + bad) // 2
    return steps


def _measure(fleet: _Fleet, size: int, arrivals: _Arrivals, seconds: float, limits: Limits) -> Step:
    fleet.resize(size)
    _run_for(fleet.engine, SETTLE_S)
    arrivals.take()
    decoded, lost = fleet.counts()
    started, cpu = time.perf_counter(), time.process_time()
    _run_for(fleet.engine, seconds)
    wall, cores = time.perf_counter() - started, (time.process_time() - cpu) / (time.perf_counter() - started)
    latencies = arrivals.take()
    decoded_after, lost_after = fleet.counts()
    frames = decoded_after - decoded
    losses = {where: count - lost.get(where, 0) for where, count in lost_after.items() if count > lost.get(where, 0)}
    dropped = sum(losses.values()) / max(frames, 1)
    p50, p95 = (float(v) for v in np.percentile(latencies, (50, 95))) if latencies else (None, None)
    why = ""
    if p95 is None:
        why = "no frame came out"
    elif dropped >= limits.dropped:
        where = max(losses, key=lambda key: losses[key])
        why = f"{100 * dropped:.1f} % of the frames dropped, most at {where}"
    elif p95 > limits.p95_ms:
        why = f"p95 of the latency is {p95:.0f} ms"
    if why:
        why += f"; {cores:.1f} of {os.cpu_count()} cores busy"
    return Step(size, len(latencies), len(latencies) / wall, p50, p95, dropped, cores, why)


def _run_for(engine: Engine, seconds: float) -> None:
    """Let the graph run; an engine that ends before has failed."""
    if engine.wait(seconds):
        raise engine.errors[0] if engine.errors else StreamkpError("the graph ended while it was measured")
