"""Traces by OpenTelemetry: optional, and nothing of it is imported unless it is asked for."""

import os
import threading
import time
from typing import TYPE_CHECKING

from roadseg import __version__
from roadseg.errors import name_missing_extra
from roadseg_service.observing.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

_PATH = "/v1/traces"
_CLOSE_S = 2.0


class RequestSpan:
    """A request in a trace; made by `Tracing`.

    Attributes:
        trace_id: of the trace, in hexadecimal.
    """

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        """Keep what makes the steps' spans."""
        from opentelemetry.trace import format_trace_id, set_span_in_context

        self.trace_id = format_trace_id(span.get_span_context().trace_id)
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)

    def phase(self, phase: str, seconds: float, ended: float) -> None:
        """Add a step; see `PhaseObserver`."""
        end_ns = time.time_ns() - round((time.monotonic() - ended) * 1e9)
        self._tracer.start_span(phase, self._context, start_time=end_ns - round(seconds * 1e9)).end(end_ns)

    def end(self, exchange: Exchange) -> None:
        """End it, with what the answer was."""
        from opentelemetry.trace import StatusCode

        span = self._span
        if exchange.route is not None:
            span.update_name(f"{exchange.method} {exchange.route}")
            span.set_attribute("http.route", exchange.route)
        span.set_attribute("http.request.body.size", exchange.bytes_in)
        span.set_attribute("http.response.body.size", exchange.bytes_out)
        if exchange.status is not None:
            span.set_attribute("http.response.status_code", exchange.status)
        if exchange.problem is not None:
            span.set_attribute("error.type", exchange.problem)
        if exchange.model_digest is not None:
            span.set_attribute("roadseg.model.digest", exchange.model_digest)
        if exchange.status is None or exchange.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()


class Tracing:
    """Makes the spans of requests, in a provider of its own: several applications of one process do not mix.

    Args:
        exporter: where spans go; by default to the endpoint.
        endpoint: base URL of an OTLP collector (HTTP); None leaves it to the `OTEL_` variables.

    Raises:
        MissingExtraError: when OpenTelemetry is not installed.
    """

    def __init__(self, exporter: "SpanExporter | None" = None, endpoint: str | None = None) -> None:
        """Make the provider; its thread sends spans in batches."""
        with name_missing_extra("tracing"):
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        name = os.environ.get("OTEL_SERVICE_NAME", "roadseg")
        resource = Resource.create({"service.name": name, "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter or _otlp(endpoint)))
        self._tracer = provider.get_tracer("roadseg_service", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._provider = provider

    def begin(self, exchange: Exchange) -> RequestSpan:
        """Begin a request's span, as part of the client's trace if it sent a W3C `traceparent`."""
        from opentelemetry.trace import SpanKind

        attributes = {
            "http.request.method": exchange.method,
            "url.path": exchange.path,
            "url.scheme": exchange.scope["scheme"],
            "roadseg.request_id": exchange.observed.request_id,
        }
        if exchange.client is not None:
            attributes["client.address"] = exchange.client
        context = self._propagator.extract(dict(exchange.request_headers))
        span = self._tracer.start_span(exchange.method, context, SpanKind.SERVER, attributes)
        return RequestSpan(self._tracer, span)

    def close(self) -> None:
        """Send what was not sent yet; within bounds, as the collector may be gone."""
        closing = threading.Thread(target=self._provider.shutdown, name="roadseg-tracing", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


def make_tracing(endpoint: str | None) -> Tracing | None:
    """Traces, if they are asked for.

    Args:
        endpoint: base URL of an OTLP collector; None traces where an `OTEL_` variable names one.

    Raises:
        MissingExtraError: when they are, and OpenTelemetry is not installed.
    """
    if endpoint is None and not any(os.environ.get(name) for name in ENDPOINT_VARIABLES):
        return None
    return Tracing(endpoint=endpoint)


def _otlp(endpoint: str | None) -> "SpanExporter":
    with name_missing_extra("tracing"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    return OTLPSpanExporter(endpoint=None if endpoint is None else endpoint.rstrip("/") + _PATH)
