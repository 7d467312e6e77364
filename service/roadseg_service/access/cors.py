"""CORS: which web pages' scripts may read answers."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from roadseg_service.problems import CROSS_ORIGIN, problem_response

_METHODS = ("GET", "HEAD", "POST")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID")
_EXPOSED_HEADERS = (
    "Content-Disposition",
    "ETag",
    "Location",
    "Retry-After",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Request-ID",
    "X-Roadseg-Exif-Orientation",
    "X-Roadseg-Model",
    "X-Roadseg-Model-Digest",
    "X-Roadseg-Orientation",
    "X-Roadseg-Taxonomy",
)


class Cors(CORSMiddleware):
    """Starlette's, with these methods and headers, no cookies, and problems for refused preflights.

    Args:
        app: the application behind it.
        origins: that may, or `*`.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        """Wrap the application."""
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_EXPOSED_HEADERS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight, before keys and limits: browsers send none with it, and it has no body."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        kept = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return problem_response(CROSS_ORIGIN, f"{bytes(answer.body).decode()}; see cors_origins", headers=kept)
