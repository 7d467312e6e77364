"""The outermost layer: gives every request its id, counts it, logs it and traces it."""

import logging
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from roadseg_service.observing.current import Observed, request_id_of, serving
from roadseg_service.observing.exchange import Exchange
from roadseg_service.observing.metrics import Metrics
from roadseg_service.observing.request_log import RequestLog
from roadseg_service.observing.tracing import RequestSpan, Tracing

log = logging.getLogger("roadseg.service")


@dataclass(frozen=True)
class Observer:
    """What is told of every request.

    Attributes:
        metrics: where they are counted.
        request_log: where they are written down.
        templates: the paths of all routes; one that is refused before a route was looked for has its route by them.
        tracing: makes their spans; None traces nothing.
    """

    metrics: Metrics
    request_log: RequestLog
    templates: frozenset[str] = frozenset()
    tracing: Tracing | None = None

    def begin(self, exchange: Exchange) -> RequestSpan | None:
        """Note that a request came."""
        self.metrics.in_flight.inc()
        exchange.observed.observers.append(self.metrics.phase)
        if self.tracing is None:
            return None
        span = self.tracing.begin(exchange)
        exchange.observed.trace_id = span.trace_id
        exchange.observed.observers.append(span.phase)
        return span

    def end(self, exchange: Exchange, span: RequestSpan | None) -> None:
        """Note that it was answered, or never will be."""
        exchange.end(self.templates)
        self.metrics.in_flight.dec()
        if exchange.observed.phases.seconds():
            self.metrics.phase_seconds.labels("total").observe(exchange.seconds)
        for slug in exchange.observed.file_problems:
            self.metrics.file_rejections.labels(slug).inc()
        self.metrics.ended(exchange.route, exchange.method, exchange.status, exchange.problem)
        self.request_log.write(exchange)
        if span is not None:
            span.end(exchange)


class Observing:
    """ASGI middleware around everything else, also around what turns unforeseen errors into answers.

    Args:
        app: the application behind it.
        observer: what is told of every request.
    """

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        """Wrap the application."""
        self.app = app
        self.observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        observed = Observed(request_id_of(scope["headers"]))
        exchange = Exchange(scope, receive, send, observed)
        span = self.observer.begin(exchange)
        with serving(observed):
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except Exception as error:
                # It was logged where it was answered. It ends here, since the server behind would log it once more; an
                # answer that is not whole makes it close the connection all the same.
                if exchange.status is None:
                    log.error("a request failed without an answer", exc_info=error)
            finally:
                self.observer.end(exchange, span)
