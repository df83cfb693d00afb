"""Spans of sampled frames, as an exporter gets them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from streamkp.errors import UsageError
from streamkp.graph import tracing
from streamkp.graph.engine import Engine
from streamkp.graph.spec import TracingSpec
from streamkp.graph.stage import BatchStage, MapStage
from streamkp.graph.tracing import Tracer
from streamkp.graph.validation import GraphError, validate
from streamkp.packet import Packet
from streamkp.testing import Collect, Collected, Scripted, count_to

export = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


class Pass(MapStage):
    def process(self, packet: Packet) -> Packet:
        return packet


class Odd(MapStage):
    def process(self, packet: Packet) -> Packet:
        if packet.seq % 2:
            raise ValueError("odd")
        return packet


class Batch(BatchStage):
    def process(self, batch: Any) -> Any:
        return batch


def run(stages: dict[str, Any], sample: float, frames: int = 10, streams: int = 1) -> list[Any]:
    exporter = export.InMemorySpanExporter()
    scripts = {f"s{n}": count_to(frames) for n in range(streams)}
    data = {
        "streams": {name: {"uri": f"test:{name}"} for name in scripts},
        "stages": {
            "source": {"use": Scripted, "scripts": scripts}, **stages, "collect": {"use": Collect, "into": Collected()},
        },
    }  # fmt: skip
    tracer = Tracer(TracingSpec(sample=sample), exporter)
    with Engine(validate(data), tracer=tracer) as engine:
        engine.wait()
    return list(exporter.get_finished_spans())


def test_a_frame_is_one_trace_from_capture_to_the_last_sink() -> None:
    spans = run({"a": {"use": Pass}, "b": {"use": Batch}}, 1.0)
    traces: dict[int, list[Any]] = {}
    for span in spans:
        traces.setdefault(span.context.trace_id, []).append(span)
    assert len(traces) == 10
    for trace in traces.values():
        by_id = {span.context.span_id: span for span in trace}
        names = {span.name: span for span in trace}
        assert set(names) == {"source", "a", "b", "collect"}
        assert names["source"].parent is None
        chain = [names["collect"]]
        while chain[-1].parent is not None:
            chain.append(by_id[chain[-1].parent.span_id])
        assert [span.name for span in chain] == ["collect", "b", "a", "source"]
        times = [span.start_time for span in reversed(chain)]
        assert times == sorted(times)
        assert all(span.start_time <= span.end_time for span in trace)
        assert len({span.attributes["streamkp.seq"] for span in trace}) == 1
        assert names["a"].attributes["streamkp.queued_ms"] >= 0
        assert names["a"].resource.attributes["service.name"] == "streamkp"


def test_branches_part_where_the_frame_parts() -> None:
    spans = run(
        {"a": {"use": Pass}, "b": {"use": Pass, "from": "a"}, "c": {"use": Collect, "into": Collected()}}, 1.0, 1
    )
    ids = {span.context.span_id: span.name for span in spans}
    parents = {span.name: ids.get(span.parent.span_id) if span.parent else None for span in spans}
    assert parents == {"source": None, "a": "source", "b": "a", "c": "b", "collect": "b"}


@pytest.mark.parametrize(("sample", "followed"), [(1.0, 100), (0.25, 25), (0.01, 1), (0.001, 0)])
def test_only_sampled_frames_are_followed_of_each_stream(sample: float, followed: int) -> None:
    spans = run({}, sample, frames=100, streams=2)
    for stream in ("s0", "s1"):
        assert (
            sum(span.name == "collect" and span.attributes["streamkp.stream"] == stream for span in spans) == followed
        )


def test_an_error_is_marked() -> None:
    spans = run({"odd": {"use": Odd}}, 1.0)
    failed = {span.attributes["streamkp.seq"] for span in spans if not span.status.is_ok}
    assert failed == {1, 3, 5, 7, 9}
    assert sum(span.name == "collect" for span in spans) == 5


def test_in_a_graph_file() -> None:
    stages = {"decode": {"use": "decode"}, "record": {"use": "record", "path": "x.jsonl"}}

    def tracing(value: Any) -> Any:
        return validate({"stages": stages, "tracing": value}).tracing

    assert tracing(None) is tracing("off") is tracing(False) is None
    assert tracing({}).sample == 0.01
    with pytest.raises(GraphError, match=r"tracing\.sample: Input should be less than or equal to 1"):
        tracing({"sample": 2})


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match=r"pip install 'streamkp\[otel\]'"):
        Tracer(TracingSpec())


def test_nothing_is_imported_when_it_is_off() -> None:
    code = (
        "import sys; from streamkp.testing import build, count_to\n"
        "engine, out = build({}, {'cam': count_to(3)})\n"
        "engine.start(); engine.wait(); assert len(out.packets) == 3\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_collector_that_takes_nothing_does_not_hold_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    freed = threading.Event()

    class Dead(export.InMemorySpanExporter):  # type: ignore[misc, name-defined]
        def shutdown(self) -> None:
            freed.wait()

    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.01)
    tracer = Tracer(TracingSpec(sample=1), Dead())
    tracer.close()
    freed.set()
    assert "the last traces were not sent" in caplog.text
