"""Requests that a web page of another origin makes a browser send, and names that lead a browser here."""

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from roadseg_service.access.addresses import LOCALHOST, address_in, host_of
from roadseg_service.access.origins import ANY, host_and_port
from roadseg_service.access.policy import SAFE_METHODS
from roadseg_service.problems import CROSS_ORIGIN, UNKNOWN_HOST, problem_response
from roadseg_service.text import shortened


class SameOrigin:
    """ASGI middleware that refuses what changes or costs something when a page of another origin has it sent.

    Browsers send forms and simple scripts' POSTs to any address without asking first; CORS only keeps the answer from
    the page. That would let every page that is opened on a machine use the services on it. Browsers say where a request
    comes from (Sec-Fetch-Site, and Origin in older ones or without TLS); programs say neither and are let through.

    Args:
        app: the application behind it.
        origins: other origins that may, or `*`.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        """Wrap the application."""
        self.app = app
        self.origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            if self._is_foreign(headers):
                origin = shortened(headers.get("origin", "another origin"))
                detail = f"a web page of {origin} may not use this service; its operator can list it in cors_origins"
                await problem_response(CROSS_ORIGIN, detail)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if ANY in self.origins or origin in self.origins:
            return False
        if site is not None:
            return site not in {"same-origin", "none"}
        return origin is not None and host_and_port(origin) != headers.get("host", "").lower()


class KnownHosts:
    """ASGI middleware that answers under its own names only.

    A page can have its own name resolve to this machine once it is loaded (DNS rebinding), and then is of the same
    origin. What it cannot do is have another name than its own in the Host header, or an address.

    Args:
        app: the application behind it.
        names: host names beside `localhost`, in lower case.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        """Wrap the application."""
        self.app = app
        self.names = frozenset({LOCALHOST, *names})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http":
            authority = Headers(scope=scope).get("host")
            if authority is not None and not self._knows(host_of(authority)):
                detail = (
                    f"this service is not known as '{shortened(authority)}'; its operator can list the name "
                    "in allowed_hosts"
                )
                await problem_response(UNKNOWN_HOST, detail)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _knows(self, host: str) -> bool:
        return host in self.names or address_in(host) is not None
