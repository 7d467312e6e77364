"""What a service's refusals and silences become: errors that name the service, the thing, the reason and the fix."""

import json
from typing import Any

from roadseg.client.retries import RETRIED_STATUSES
from roadseg.client.wire import Failure, Reply, Request
from roadseg.errors import (
    ServiceAccessError,
    ServiceAnswerError,
    ServiceBusyError,
    ServiceError,
    ServiceImageError,
    ServiceUnreachableError,
)

PROBLEM_PREFIX = "urn:roadseg:problem:"

_IMAGE_PROBLEMS = frozenset({"corrupt-image", "image-too-large", "unsupported-image"})
_QUOTED_CHARACTERS = 500


def refusal(url: str, request: Request, outcome: Reply | Failure, tried: str) -> ServiceError:
    """The error of a request that came to nothing.

    Args:
        url: of the service.
        request: what was asked.
        outcome: of the last try.
        tried: what was tried, in words.
    """
    request_id = request.headers.get("X-Request-ID")
    if isinstance(outcome, Failure):
        words = f"no answer from {url} about {request.about}, {tried}: {outcome.reason}"
        return ServiceUnreachableError(f"{words}; check that the service runs there", request_id=request_id)
    problem = _problem(outcome)
    request_id = outcome.headers.get("X-Request-ID") or request_id
    slug = _text(problem.get("type")).removeprefix(PROBLEM_PREFIX)
    detail = _text(problem.get("detail")) or _excerpt(outcome)
    kind, fix = _kind(outcome, slug)
    again = f" {tried}" if outcome.status in RETRIED_STATUSES else ""
    name = f"{outcome.status} {slug}" if slug and slug != "about:blank" else str(outcome.status)
    return kind(
        f"{url} refused {request.about}{again}: {detail or 'it gave no reason'} ({name}, request {request_id}){fix}",
        status=outcome.status,
        type=slug or None,
        detail=detail,
        instance=_text(problem.get("instance")) or None,
        request_id=request_id,
    )


def _kind(reply: Reply, slug: str) -> tuple[type[ServiceError], str]:
    if reply.status in (401, 403):
        return ServiceAccessError, "; give the client an api_key that the service knows"
    if reply.status in RETRIED_STATUSES:
        return ServiceBusyError, "; send less at once, wait longer (retries, deadline_s), or run more of the service"
    if slug in _IMAGE_PROBLEMS:
        return ServiceImageError, ""
    if 200 <= reply.status < 400:
        place = reply.headers.get("Location")
        return ServiceAnswerError, f"; give the client the URL that it leads to, {place}" if place else ""
    if not slug:
        return ServiceAnswerError, "; check that the URL is that of a roadseg service"
    return ServiceError, ""


def _problem(reply: Reply) -> dict[str, Any]:
    if not reply.headers.get("Content-Type", "").lower().startswith("application/problem+json"):
        return {}
    try:
        document = json.loads(reply.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _excerpt(reply: Reply) -> str:
    """The beginning of an answer that is no problem, such as a proxy's page, on one line."""
    text = " ".join(reply.body[: 4 * _QUOTED_CHARACTERS].decode("utf-8", "replace").split())
    return "".join(c for c in text if c.isprintable())[:_QUOTED_CHARACTERS]


def _text(value: Any) -> str:
    return value[: 4 * _QUOTED_CHARACTERS] if isinstance(value, str) else ""
