"""HTTP by httpx: what both clients set alike, and what its exceptions mean."""

from typing import Any

import httpx

from roadseg.client.core import Core
from roadseg.client.wire import Failure, Reply, Request
from roadseg.errors import ConfigError

_PASSING = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
"""A connection that failed, broke off or took too long; not what httpx refuses to send, or cannot make out."""

LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)
"""How much goes on at once is bounded by who asks: a pool that is full would be a timeout."""


def http_options(core: Core) -> dict[str, Any]:
    """Options of httpx's clients. Redirects are not followed: the key and the image are for this service alone.

    Raises:
        ConfigError: when httpx finds that the URL is none.
    """
    try:
        httpx.URL(core.url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"the service's URL is {core.url!r}: {error}; give it as http://HOST:PORT") from error
    return {"headers": core.headers, "limits": LIMITS, "follow_redirects": False}


def request_options(core: Core, request: Request, timeout_s: float) -> dict[str, Any]:
    """What httpx's clients are asked for."""
    return {
        "method": request.method,
        "url": core.url + request.path,
        "params": request.params or None,
        "headers": request.headers,
        "content": request.body or None,
        "timeout": httpx.Timeout(timeout_s),
    }


def check_open(http: httpx.Client | httpx.AsyncClient) -> None:
    """Refuse to send by a client that was closed.

    Raises:
        ConfigError: when it was.
    """
    if http.is_closed:
        raise ConfigError("the client was closed; use it inside its `with` block, or make another one")


def reply_of(response: httpx.Response) -> Reply:
    """An answer that has been read whole."""
    return Reply(response.status_code, response.headers, response.content)


def failure_of(error: httpx.HTTPError) -> Failure:
    """Why there is no answer."""
    return Failure(f"{type(error).__name__}: {error}".removesuffix(": "), isinstance(error, _PASSING))
