"""The log's line of a request: what an operator asks for, and nothing of what was in it."""

import logging
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

from roadseg_service.access.callers import caller_of
from roadseg_service.observing.exchange import Exchange
from roadseg_service.text import shortened

log = logging.getLogger("roadseg.request")

_short = partial(shortened, most=200)

QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that are asked every few seconds; at the level "debug" where they answer as they should."""

_short = partial(shortened, most=200)


class RequestLog:
    """Writes one line a request.

    Headers are never written, since keys are in them, nor bodies, nor query parameters that the service does not know:
    somebody may have put a key there.

    Args:
        parameters: names of the query parameters that are known.
    """

    def __init__(self, parameters: frozenset[str]) -> None:
        """Keep the names."""
        self._parameters = parameters

    def write(self, exchange: Exchange) -> None:
        """Write a request that has ended."""
        status = exchange.status
        level = logging.INFO
        if exchange.route in QUIET:
            level = logging.DEBUG if status is not None and status < 400 else logging.INFO
        elif status is None or status >= 500:
            level = logging.WARNING  # the error itself has a line of its own
        if not log.isEnabledFor(level):
            return
        path = _short(exchange.path)
        answered = "aborted" if status is None else status
        log.log(level, "%s %s %s", _short(exchange.method), path, answered, extra={"fields": self._facts(exchange)})

    def _facts(self, exchange: Exchange) -> dict[str, Any]:
        observed, caller = exchange.observed, caller_of(exchange.scope)
        facts = {
            "method": _short(exchange.method),
            "route": exchange.route,
            "path": _short(exchange.path),
            "query": self._query(exchange.scope["query_string"]),
            "status": exchange.status,
            "problem": exchange.problem,
            "instance": observed.instance if exchange.problem is not None else None,
            "failed_files": len(observed.file_problems) or None,
            "bytes_in": exchange.bytes_in,
            "bytes_out": exchange.bytes_out,
            "duration_ms": round(1000 * exchange.seconds, 1),
            "phases_ms": {phase: round(1000 * seconds, 1) for phase, seconds in observed.phases.seconds().items()},
            "model": exchange.model_digest,
            "key": None if caller is None else caller.name,
            "client": exchange.client,
        }
        return {name: value for name, value in facts.items() if value is not None and value != {}}

    def _query(self, query: bytes) -> dict[str, str]:
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
        except ValueError:  # too many of them
            return {}
        return {name: _short(value) for name, value in pairs if name in self._parameters}
