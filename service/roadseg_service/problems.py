"""Errors as RFC 9457 problem JSON: one shape for every refusal and failure."""

import http
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from roadseg_service.observing.current import note_problem
from roadseg_service.scheduling.frames import forget_frames
from roadseg_service.text import encodable, shortened

log = logging.getLogger("roadseg.service")


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem that a client may want to tell from others.

    Attributes:
        type: URI of the kind, "about:blank" where the status says it all.
        status: HTTP status.
        title: short summary, the same for every problem of the kind.
    """

    type: str
    status: int
    title: str

    @property
    def slug(self) -> str:
        """Short name, for metrics and logs."""
        return f"http-{self.status}" if self.type == "about:blank" else self.type.rpartition(":")[2]


def _kind(slug: str, status: int, title: str) -> ProblemKind:
    return ProblemKind(f"urn:roadseg:problem:{slug}", status, title)


KEY_REQUIRED = _kind("key-required", 401, "An API key is needed")
ADMIN_ONLY = _kind("admin-only", 403, "An admin's API key is needed")
CROSS_ORIGIN = _kind("cross-origin", 403, "Web pages of this origin may not use the service")
BAD_REQUEST = _kind("bad-request", 400, "This is not an HTTP request")
NOT_ACCEPTABLE = _kind("not-acceptable", 406, "No acceptable answer format")
HEADERS_TIMEOUT = _kind("headers-timeout", 408, "The request's headers took too long")
UPLOAD_TIMEOUT = _kind("upload-timeout", 408, "The upload took too long")
SWAP_IN_PROGRESS = _kind("swap-in-progress", 409, "The model is being changed already")
NO_PREVIOUS_MODEL = _kind("no-previous-model", 409, "There is no model to go back to")
MODEL_MISMATCH = _kind("model-mismatch", 409, "The model is not the one that is meant")
BODY_TOO_LARGE = _kind("body-too-large", 413, "The request body is too large")
IMAGE_TOO_LARGE = _kind("image-too-large", 413, "The image has too many pixels")
UNSUPPORTED_CONTENT_TYPE = _kind("unsupported-content-type", 415, "The request's content type is not supported")
UNSUPPORTED_IMAGE = _kind("unsupported-image", 415, "The image format is not supported")
UNKNOWN_HOST = _kind("unknown-host", 421, "The service is not known under this name")
INVALID_UPLOAD = _kind("invalid-upload", 422, "The upload cannot be used")
CORRUPT_IMAGE = _kind("corrupt-image", 422, "The image is damaged")
INVALID_PARAMETER = _kind("invalid-parameter", 422, "A parameter is invalid")
MODEL_NOT_ALLOWED = _kind("model-not-allowed", 422, "The model may not be loaded")
MODEL_UNUSABLE = _kind("model-unusable", 422, "The model cannot be used")
RATE_LIMITED = _kind("rate-limited", 429, "Too many requests, or bytes, from one client")
QUEUE_FULL = _kind("queue-full", 429, "Too many requests are waiting")
CLIENT_CLOSED = _kind("client-closed", 499, "The client closed the connection")  # nobody reads it, but logs do
HEADERS_TOO_LARGE = _kind("headers-too-large", 431, "The request's headers are too large")
PREDICTION_FAILED = _kind("prediction-failed", 500, "The model failed on this image")
MODEL_NOT_READY = _kind("model-not-ready", 503, "The model is not ready")
DEVICE_FAILING = _kind("device-failing", 503, "The device does not do its work")
OUT_OF_MEMORY = _kind("out-of-memory", 503, "The server ran out of memory for this image")
DRAINING = _kind("draining", 503, "The server is about to stop")
DEADLINE_EXCEEDED = _kind("deadline-exceeded", 504, "The answer was not ready in time")


class Problem(BaseModel):
    """An error, as RFC 9457 shapes it."""

    type: str = Field(description="URI of the kind of problem; about:blank where the status says it all.")
    title: str = Field(description="Short summary, the same for every problem of this kind.")
    status: int = Field(description="HTTP status, as in the status line.")
    detail: str = Field(description="What is wrong with this request, and how to put it right.")
    instance: str = Field(description="Identifier of this occurrence; the server's log repeats it for status 5xx.")
    request_id: str | None = Field(
        default=None, description="The X-Request-ID of the request, which the server's log repeats."
    )
    errors: list[dict[str, str]] | None = Field(
        default=None, description="With invalid parameters: each one and its fault; a few dozen at most."
    )


class ProblemError(Exception):
    """Ends a request with a problem.

    Args:
        kind: the kind of problem.
        detail: what is wrong, its value and the fix.
        headers: further response headers.
        errors: of invalid parameters, each one and its fault.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """Keep what the response will say."""
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = errors


def problem_response(
    kind: ProblemKind,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Mapping[str, str]] | None = None,
    instance: str | None = None,
) -> JSONResponse:
    """The response of a problem, with media type `application/problem+json`."""
    body: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": encodable(detail),
        "instance": instance or new_instance(),
    }
    if request_id := note_problem(kind.slug, kind.status, body["instance"]):
        body["request_id"] = request_id
    if errors is not None:
        body["errors"] = [dict(error) for error in errors]
    return JSONResponse(body, kind.status, dict(headers or {}), "application/problem+json")


def new_instance() -> str:
    """A fresh identifier of one occurrence."""
    return f"urn:uuid:{uuid4()}"


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem, whoever raised it."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    instance = new_instance()
    if error.__cause__ is not None and error.kind.status >= 500:
        log.error("%s %s: %s (%s)", request.method, request.url.path, error.detail, instance, exc_info=error.__cause__)
    forget_frames(error)
    return problem_response(error.kind, error.detail, headers=error.headers, errors=error.errors, instance=instance)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = ProblemKind("about:blank", error.status_code, http.HTTPStatus(error.status_code).phrase)
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {shortened(request.url.path)}; /openapi.json lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.url.path} does not take {shortened(request.method)}; use {allowed}"
    return problem_response(kind, detail, headers=error.headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    """What FastAPI refuses by itself; the routes refuse wrong parameters before it looks at them, in better words."""
    assert isinstance(error, RequestValidationError)
    detail = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return problem_response(INVALID_PARAMETER, detail)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    forget_frames(error)
    return problem_response(CLIENT_CLOSED, "the connection was closed before the request was done")


async def _on_unexpected(request: Request, error: Exception) -> Response:
    instance = new_instance()
    log.error("%s %s: unexpected error (%s)", request.method, request.url.path, instance, exc_info=error)
    forget_frames(error)
    kind = ProblemKind("about:blank", 500, "Internal Server Error")
    detail = "the server met an unexpected error; its log has the details under this problem's instance"
    return problem_response(kind, detail, instance=instance)
