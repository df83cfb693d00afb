"""Traces of sampled frames: one span for each stage that a frame passes, each the child of the one before.

The spans of a frame are one trace, from its capture to the last sink. OpenTelemetry (`streamkp[otel]`) is imported only
for a graph that says `tracing:`.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamkp.errors import UsageError
from streamkp.packet import Packet

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from streamkp.graph.spec import TracingSpec

CLOSE_SECONDS = 3.0  # that a run waits at its end for a collector which takes no traces

log = logging.getLogger("streamkp.tracing")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a sampled frame carries with it: the context of its latest span, and when that ended (Unix ns)."""

    context: Any
    ended: int


class Tracer:
    """Makes the spans; for any number of threads.

    Args:
        options: what is sampled, and where the spans go.
        exporter: takes the spans one by one as they end, instead of an OTLP server (for tests).

    Raises:
        UsageError: OpenTelemetry is not installed.
    """

    def __init__(self, options: TracingSpec, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider, export

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise UsageError(f"tracing needs OpenTelemetry ({error.name}): pip install 'streamkp[otel]'") from None
        endpoint = options.endpoint.get_secret_value() if options.endpoint else None
        processor = (
            export.BatchSpanProcessor(OTLPSpanExporter(endpoint))
            if exporter is None
            else export.SimpleSpanProcessor(exporter)
        )
        self._trace = trace
        self._sample = options.sample
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": options.service}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("streamkp")

    def captured(self, stage: str, packet: Packet, now: int) -> None:
        """A frame has come out of the source at `now` (Unix ns); if it is sampled it is followed from here on."""
        if math.floor((packet.seq + 1) * self._sample) > math.floor(packet.seq * self._sample):
            begin = min(packet.captured_at, now)
            packet.trace = Mark(None, begin)
            self.passed(stage, packet, begin, now)

    def passed(
        self, stage: str, packet: Packet, began: int, ended: int, error: Exception | None = None, size: int = 1
    ) -> None:
        """A stage has worked on a frame that is followed, from `began` to `ended` (Unix ns), in a batch of `size`."""
        mark = packet.trace
        assert isinstance(mark, Mark)
        attributes: dict[str, Any] = {
            "streamkp.stream": packet.stream,
            "streamkp.seq": packet.seq,
            "streamkp.epoch": packet.epoch,
            "streamkp.persons": len(packet.persons),
            "streamkp.queued_ms": round(max(0, began - mark.ended) / 1e6, 3),
        }
        if size > 1:
            attributes["streamkp.batch"] = size
        span = self._tracer.start_span(stage, mark.context, start_time=began, attributes=attributes)
        if error is not None:
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
        span.end(ended)
        packet.trace = Mark(self._trace.set_span_in_context(span), ended)

    def close(self) -> None:
        """Send what is left, for at most `CLOSE_SECONDS`: the library would wait half a minute for a dead collector."""
        ending = threading.Thread(target=self._provider.shutdown, name="streamkp-traces", daemon=True)
        ending.start()
        ending.join(CLOSE_SECONDS)
        if ending.is_alive():
            log.warning("the last traces were not sent: nobody took them within %g s", CLOSE_SECONDS)
