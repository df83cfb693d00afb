"""Figures of a running graph: what each stage did with each stream's packets, and how long it took.

Every `Meter` is written by one thread only and read by any: a reader may see a packet counted whose time is not yet,
never a torn or lost count. Nothing here takes a lock on a packet's way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from streamkp.graph.status import STATES

BUCKETS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the histograms, seconds."""

RECENT: Final = 512
"""How many of the latest values percentiles and rates are taken from."""


class Histogram:
    """Counts by bucket for Prometheus, and the latest values for percentiles."""

    __slots__ = ("counts", "recent", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds
        self.recent.append(seconds)


@dataclass(slots=True)
class Meter:
    """What one thread of one stage did for one stream."""

    done: int = 0
    errors: int = 0
    failed_in_part: int = 0  # times that a frame went on without a part of its results
    nothing: int = 0  # frames for which the stage returned no packet
    stale: int = 0
    refused: int = 0  # sent to a sink that is out of use
    undelivered: int = 0  # messages that a sink had taken, and nobody was there to receive
    busy: Histogram = field(default_factory=Histogram)
    latency: Histogram = field(default_factory=Histogram)  # sinks: capture to publish
    times: deque[int] = field(default_factory=lambda: deque(maxlen=64))  # monotonic ns of the latest packets


@dataclass(slots=True)
class StageFigures:
    """The figures of one stage and stream, all threads together."""

    stage: str
    stream: str
    done: int = 0
    errors: int = 0
    failed_in_part: int = 0
    nothing: int = 0
    dropped_overflow: int = 0
    dropped_stale: int = 0
    dropped_refused: int = 0
    undelivered: int = 0
    queue: int = 0
    fps: float = 0.0
    busy: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    busy_counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    busy_total: float = 0.0
    latency_counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    latency_total: float = 0.0

    @property
    def dropped(self) -> int:
        """Packets lost here, for whatever reason."""
        on_purpose = self.dropped_overflow + self.dropped_stale + self.dropped_refused
        return on_purpose + self.undelivered + self.errors + self.nothing

    @property
    def always_failed(self) -> bool:
        """There were frames, and an error in each of them."""
        return 0 < self.done + self.errors <= self.errors + self.failed_in_part

    def losses(self) -> str:
        """What became of the frames lost here, in words; empty where there are none."""
        counts = {
            "errors": self.errors,
            "without a part of their results": self.failed_in_part,
            "nothing returned": self.nothing,
            "too old": self.dropped_stale,
            "queue full": self.dropped_overflow,
            "output out of use": self.dropped_refused,
            "not delivered, for the receiver was away": self.undelivered,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def add(self, meter: Meter, now: int) -> None:
        """Add one thread's meter; `now` is monotonic nanoseconds."""
        self.done += meter.done
        self.errors += meter.errors
        self.failed_in_part += meter.failed_in_part
        self.nothing += meter.nothing
        self.dropped_stale += meter.stale
        self.dropped_refused += meter.refused
        self.undelivered += meter.undelivered
        self.fps += _rate(meter.times, now)
        for histogram, values, counts in (
            (meter.busy, self.busy, self.busy_counts),
            (meter.latency, self.latency, self.latency_counts),
        ):
            values.extend(recent(histogram.recent))
            for i, n in enumerate(histogram.counts):
                counts[i] += n
        self.busy_total += meter.busy.total
        self.latency_total += meter.latency.total

    def as_json(self) -> dict[str, Any]:
        """The entry of `/stats`."""
        out: dict[str, Any] = {
            "done": self.done,
            "fps": round(self.fps, 2),
            "queue": self.queue,
            "errors": self.errors + self.failed_in_part,
            "dropped": {
                "overflow": self.dropped_overflow,
                "stale": self.dropped_stale,
                "refused": self.dropped_refused,
                "undelivered": self.undelivered,
                "error": self.errors,
                "nothing": self.nothing,
            },
            "busy_ms": percentiles_ms(self.busy),
        }
        if self.latency:
            out["latency_ms"] = percentiles_ms(self.latency)
        return out


def percentiles_ms(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds; zeros where there are no values."""
    values = np.fromiter(seconds, float)
    if not len(values):
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    p50, p95, p99 = np.percentile(values, (50, 95, 99)) * 1e3
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "p99": round(float(p99), 3)}


def recent(values: deque[Any]) -> list[Any]:
    """A copy of what another thread appends to."""
    while True:
        try:
            return list(values)
        except RuntimeError:  # the owner appended meanwhile
            continue


def _rate(times: deque[int], now: int) -> float:
    stamps = recent(times)
    if len(stamps) < 2:
        return 0.0
    span = max(stamps[-1] - stamps[0], 1)
    # a stream that stands still must not keep showing its old rate
    silence = now - stamps[-1] - span / (len(stamps) - 1)
    return float((len(stamps) - 1) / ((span + max(silence, 0)) / 1e9))


def prometheus_text(
    figures: Iterable[StageFigures],
    streams: Iterable[tuple[str, str]],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    damaged: Mapping[str, int] | None = None,
) -> bytes:
    """The figures in Prometheus' text format. `streams` are (stream id, state) pairs, `labels` and `damaged`, the
    number of broken frames, those of streams."""
    registry = CollectorRegistry()
    rows, states = list(figures), list(streams)

    class _Collector:
        def collect(self) -> Iterator[Metric]:
            yield from _families(rows, states, damaged or {})
            yield _info(labels or {})

    registry.register(_Collector())
    return generate_latest(registry)


def _families(rows: list[StageFigures], states: list[tuple[str, str]], broken: Mapping[str, int]) -> Iterator[Metric]:
    labels = ["stage", "stream"]
    done = CounterMetricFamily("streamkp_packets", "Packets processed", labels=labels)
    errors = CounterMetricFamily("streamkp_errors", "Errors of the stage, most of which cost a packet", labels=labels)
    drops = CounterMetricFamily("streamkp_dropped", "Packets dropped on purpose", labels=[*labels, "reason"])
    queue = GaugeMetricFamily("streamkp_queue_length", "Packets waiting before the stage", labels=labels)
    fps = GaugeMetricFamily("streamkp_fps", "Packets per second, recently", labels=labels)
    busy = HistogramMetricFamily("streamkp_processing_seconds", "Time in the stage", labels=labels)
    latency = HistogramMetricFamily("streamkp_latency_seconds", "Time from capture to publish", labels=labels)
    up = GaugeMetricFamily("streamkp_stream_live", "1 while the stream delivers", labels=["stream"])
    state = GaugeMetricFamily(
        "streamkp_stream_state", "1 for the state that the stream is in", labels=["stream", "state"]
    )
    for row in rows:
        key = [row.stage, row.stream]
        done.add_metric(key, row.done)
        errors.add_metric(key, row.errors + row.failed_in_part)
        drops.add_metric([*key, "overflow"], row.dropped_overflow)
        drops.add_metric([*key, "stale"], row.dropped_stale)
        drops.add_metric([*key, "refused"], row.dropped_refused)
        drops.add_metric([*key, "undelivered"], row.undelivered)
        drops.add_metric([*key, "nothing"], row.nothing)
        queue.add_metric(key, row.queue)
        fps.add_metric(key, row.fps)
        busy.add_metric(key, _cumulative(row.busy_counts), row.busy_total)
        if row.latency:
            latency.add_metric(key, _cumulative(row.latency_counts), row.latency_total)
    damaged = CounterMetricFamily("streamkp_damaged_frames", "Frames that came broken", labels=["stream"])
    for stream, count in broken.items():
        damaged.add_metric([stream], count)
    for stream, now in states:
        up.add_metric([stream], float(now == "live"))
        for each in STATES:
            state.add_metric([stream, each], float(now == each))
    yield from (done, errors, drops, queue, fps, busy, latency, up, state, damaged)


def _info(labels: Mapping[str, Mapping[str, str]]) -> Metric:
    """The labels of the streams, to be joined: `streamkp_fps * on(stream) group_left(site) streamkp_stream_info`.

    All series of a metric have the same labels; an empty one is as good as none.
    """
    names = sorted({name for each in labels.values() for name in each})
    info = GaugeMetricFamily("streamkp_stream_info", "1; the labels of the stream", labels=["stream", *names])
    for stream, own in labels.items():
        info.add_metric([stream, *(own.get(name, "") for name in names)], 1.0)
    return info


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    out, running = [], 0
    for bound, n in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
        running += n
        out.append((bound, float(running)))
    return out
