"""OpenTelemetry traces of what a node does, where PATCHBAY_OTEL_ENDPOINT names a collector (OTLP over HTTP).

Each piece of work that server/probes.py tells of is a span with the ids and words that it carries; what a step starts,
orders to a media worker for one, is in the step's trace. So one trace leads from the customer's click, a socket
message, to the worker's SDP answer. A later order may be found by the task that carries out an earlier one, and is then
in the trace which began that task; `patchbay.session_id` joins a session's traces. Within
a span's time log lines carry its trace_id.

Spans are sent by a thread of the SDK's from a bounded queue: a collector that is slow or away costs spans, never a
call. OpenTelemetry's own settings hold for the rest: OTEL_TRACES_SAMPLER(_ARG), OTEL_BSP_*,
OTEL_EXPORTER_OTLP_HEADERS. Its packages are imported only here and only when they are wanted: they cost 0.1 s.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from server.probes import Work

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
    from opentelemetry.trace import Span, Tracer

log = structlog.get_logger()
SEND_S = 3  # of one batch, with its repetitions
GOODBYE_S = 1.0  # for the last spans; a stop is to be quick
TRACES_PATH = "/v1/traces"
ROOT_KIND = {"http", "socket"}


class _Mark(NamedTuple):
    """What `began` leaves for `ended`."""

    span: Span
    token: Any  # of the context that was current before
    bound: Any  # of the log's fields


class Tracing:
    """`probes.Listener`. Made by `start_tracing`."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace

        self._provider = provider
        self._context, self._trace = context, trace
        self._tracer: Tracer = provider.get_tracer("patchbay")

    def began(self, work: Work) -> None:
        kind = self._trace.SpanKind.SERVER if work.kind in ROOT_KIND else self._trace.SpanKind.INTERNAL
        span = self._tracer.start_span(f"patchbay.{work.kind}", kind=kind)
        token = self._context.attach(self._trace.set_span_in_context(span))
        ids = span.get_span_context()
        bound = structlog.contextvars.bind_contextvars(trace_id=self._trace.format_trace_id(ids.trace_id))
        work.mark = _Mark(span, token, bound)

    def ended(self, work: Work) -> None:
        mark = work.mark
        if not isinstance(mark, _Mark):
            return
        structlog.contextvars.reset_contextvars(**mark.bound)
        self._context.detach(mark.token)
        if not work.worth:
            return  # a span that does not end is never sent
        for name, value in work.about.items():  # the work may have learnt of them on its way
            mark.span.set_attribute(f"patchbay.{name}", value)
        if work.error is None:
            mark.span.set_attribute("patchbay.result", work.result)
        else:  # its type and code only: a message may hold what people typed
            code = getattr(work.error, "code", None)
            mark.span.set_attribute("patchbay.result", code if isinstance(code, str) else "error")
            mark.span.set_status(self._trace.StatusCode.ERROR, type(work.error).__name__)
        mark.span.end()

    def noted(self, what: str, labels: tuple[str, ...], count: int) -> None:
        """Traces tell of work only."""

    async def close(self) -> None:
        """Send what is left, within GOODBYE_S."""
        # The SDK waits for its thread, which a collector that hangs may hold: a daemon of ours waits in our place.
        closing = threading.Thread(target=self._provider.shutdown, name="traces' end", daemon=True)
        closing.start()
        loop = asyncio.get_running_loop()
        until = loop.time() + GOODBYE_S
        while closing.is_alive() and loop.time() < until:  # noqa: ASYNC110  # no event tells of a thread's end
            await asyncio.sleep(0.01)


def start_tracing(endpoint: str, version: str, node_name: str, node_id: str) -> Tracing:
    """Traces to the collector at `endpoint`, http://host:4318 or the whole address with its path."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it says the same at each batch; we say it once
    resource = Resource.create(
        {
            "service.name": "patchbay",
            "service.version": version,
            "service.instance.id": node_id,
            "host.name": node_name,
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_told(OTLPSpanExporter(traces_url(endpoint), timeout=SEND_S))))
    log.info("tracing_started")  # not where to: the address may hold a key
    return Tracing(provider)


def traces_url(endpoint: str) -> str:
    """OTLP's rule: a base address gets the signal's path (opentelemetry.io/docs/specs/otel/protocol/exporter)."""
    return endpoint if endpoint.endswith(TRACES_PATH) else endpoint.rstrip("/") + TRACES_PATH


def _told(exporter: SpanExporter) -> SpanExporter:
    """The exporter, saying once that its collector is away, and once that it is back."""
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Told(SpanExporter):
        def __init__(self) -> None:
            self._lost = 0  # spans since the last batch that was taken

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            result = exporter.export(spans)
            if result is SpanExportResult.SUCCESS:
                if self._lost:
                    log.warning("traces_sent_again", lost=self._lost)
                self._lost = 0
            else:
                if not self._lost:
                    log.warning("traces_not_sent", remedy="is the collector of PATCHBAY_OTEL_ENDPOINT up?")
                self._lost += len(spans)
            return result

        def shutdown(self) -> None:
            exporter.shutdown()

    return Told()
