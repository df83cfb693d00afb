"""Figures: what is added is what is read, as JSON and as Prometheus text."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamkp.graph.statistics import (
    BUCKETS,
    RECENT,
    Histogram,
    Meter,
    StageFigures,
    _rate,
    percentiles_ms,
    prometheus_text,
)

SECOND = 1_000_000_000


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class TestHistogram:
    def test_a_value_on_a_bound_belongs_below_it(self) -> None:
        histogram = Histogram()
        for seconds in (0.0, BUCKETS[0], BUCKETS[0] * 1.01, BUCKETS[-1], BUCKETS[-1] + 1):
            histogram.add(seconds)
        assert (histogram.counts[0], histogram.counts[1]) == (2, 1)
        assert (histogram.counts[-2], histogram.counts[-1]) == (1, 1)
        assert sum(histogram.counts) == 5
        assert histogram.total == pytest.approx(BUCKETS[0] * 2.01 + BUCKETS[-1] * 2 + 1)

    def test_all_are_counted_but_only_the_latest_kept(self) -> None:
        histogram = Histogram()
        for n in range(3 * RECENT):
            histogram.add(n)
        assert sum(histogram.counts) == 3 * RECENT
        assert list(histogram.recent) == list(range(2 * RECENT, 3 * RECENT))


class TestPercentiles:
    def test_in_milliseconds(self) -> None:
        assert percentiles_ms(n / 1000 for n in range(101)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}

    def test_of_one_value(self) -> None:
        assert percentiles_ms([0.25]) == {"p50": 250.0, "p95": 250.0, "p99": 250.0}

    def test_of_nothing(self) -> None:
        assert percentiles_ms([]) == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


class TestRate:
    times = deque(range(0, SECOND + 1, SECOND // 10))

    def test_of_a_stream_that_flows(self) -> None:
        assert _rate(self.times, SECOND) == pytest.approx(10)
        assert _rate(self.times, SECOND + SECOND // 10) == pytest.approx(10), "the next packet is not late yet"

    def test_of_a_stream_that_stands_still_falls(self) -> None:
        rates = [_rate(self.times, SECOND * seconds) for seconds in (1, 2, 5, 60, 3600)]
        assert rates == sorted(rates, reverse=True)
        assert len(set(rates)) == len(rates)
        assert rates[1] == pytest.approx(10 / 1.9)  # ten intervals, and all of the second but the one expected
        assert rates[-1] < 0.01

    @pytest.mark.parametrize("times", [[], [5]])
    def test_needs_two_packets(self, times: list[int]) -> None:
        assert _rate(deque(times), SECOND) == 0.0

    def test_of_packets_at_the_same_instant_is_finite(self) -> None:
        assert 0 < _rate(deque([7, 7, 7]), 7) < float("inf")


class TestFigures:
    def test_losses_of_every_kind_add_up(self) -> None:
        row = StageFigures("work", "cam", dropped_overflow=1)
        row.add(Meter(done=5, errors=2, stale=4, refused=8, nothing=3, undelivered=32, failed_in_part=16), SECOND)
        row.add(Meter(done=7), SECOND)
        assert row.done == 12
        assert row.dropped == 1 + 2 + 4 + 8 + 3 + 32
        json = row.as_json()
        assert json["dropped"] == {
            "overflow": 1, "stale": 4, "refused": 8, "undelivered": 32, "error": 2, "nothing": 3,
        }  # fmt: skip
        assert json["errors"] == 2 + 16
        assert "latency_ms" not in json, "only sinks have a latency"

    def test_every_thread_counts_into_a_meter_of_its_own_and_nothing_is_lost(self) -> None:
        """The engine's readers look while its threads write."""
        meters, each = [Meter() for _ in range(4)], 20_000
        ready = threading.Barrier(len(meters) + 1)

        def work(meter: Meter) -> None:
            ready.wait()
            for n in range(each):
                meter.done += 1
                meter.busy.add(0.001)
                meter.latency.add(3.0)
                meter.times.append(n)

        def read() -> StageFigures:
            row = StageFigures("work", "cam")
            for meter in meters:
                row.add(meter, each)
            return row

        threads = [threading.Thread(target=work, args=(meter,)) for meter in meters]
        for thread in threads:
            thread.start()
        ready.wait()
        seen = [0]
        while any(thread.is_alive() for thread in threads):
            row = read()
            seen.append(row.done)
            assert len(row.busy) <= RECENT * len(meters)
        for thread in threads:
            thread.join()
        assert seen == sorted(seen), "a count never goes back"
        row = read()
        assert row.done == sum(row.busy_counts) == sum(row.latency_counts) == 4 * each
        assert row.busy_counts[BUCKETS.index(0.001)] == 4 * each
        assert row.busy_total == pytest.approx(4 * each * 0.001)
        assert percentiles_ms(row.latency) == {"p50": 3000.0, "p95": 3000.0, "p99": 3000.0}


class TestPrometheus:
    def test_the_text_says_what_was_added(self) -> None:
        meter = Meter(done=3, errors=1, stale=2, refused=4)
        for seconds in (0.0004, 0.004, 0.04):
            meter.busy.add(seconds)
        for seconds in (0.3, 99.0):
            meter.latency.add(seconds)
        row = StageFigures("publish", "front door", dropped_overflow=5, queue=6)
        row.add(meter, 0)
        got = samples(prometheus_text([row], [("front door", "live"), ("back", "reconnecting")]))

        def value(name: str, **labels: str) -> float:
            where = {"stage": "publish", "stream": "front door"} | labels
            return got[name, frozenset(where.items())]

        assert value("streamkp_packets_total") == 3
        assert value("streamkp_errors_total") == 1
        assert [value("streamkp_dropped_total", reason=r) for r in ("overflow", "stale", "refused")] == [5, 2, 4]
        assert value("streamkp_queue_length") == 6
        assert value("streamkp_fps") == 0
        assert value("streamkp_processing_seconds_count") == 3
        assert value("streamkp_processing_seconds_sum") == pytest.approx(0.0444)
        buckets = [value("streamkp_processing_seconds_bucket", le=str(bound)) for bound in BUCKETS]
        assert buckets == [sum(s <= bound for s in (0.0004, 0.004, 0.04)) for bound in BUCKETS]
        assert value("streamkp_latency_seconds_bucket", le=str(BUCKETS[-1])) == 1
        assert value("streamkp_latency_seconds_bucket", le="+Inf") == 2
        up = {dict(labels)["stream"]: v for (name, labels), v in got.items() if name == "streamkp_stream_live"}
        assert up == {"front door": 1, "back": 0}

    def test_only_sinks_have_a_latency(self) -> None:
        row = StageFigures("work", "cam")
        row.add(Meter(done=1), 0)
        assert not [name for name, _ in samples(prometheus_text([row], [])) if "latency" in name]

    def test_nothing_yet(self) -> None:
        assert samples(prometheus_text([], [])) == {}
