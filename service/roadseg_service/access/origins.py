"""The origins of web pages, as browsers write them in the Origin header (RFC 6454)."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from roadseg_service.access.addresses import address_in, is_name

ANY = "*"

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_origins(origins: Sequence[str]) -> None:
    """Refuse origins that no browser would send, which would allow nobody and go unnoticed.

    Raises:
        ValueError: for the first such one.
    """
    if ANY in origins and len(origins) > 1:
        raise ValueError(f"'{ANY}' allows every origin; leave the others out, or leave it out")
    for origin in origins:
        fault = None if origin == ANY else _fault_of(origin)
        if fault:
            raise ValueError(f"'{origin}' {fault}; write each as in https://maps.example.org or http://localhost:3000")


def host_and_port(origin: str) -> str:
    """What stands in the Host header of a request to an origin; empty for `null`."""
    return origin.partition("://")[2].lower()


def _fault_of(origin: str) -> str | None:
    scheme, separator, rest = origin.partition("://")
    if not separator:
        return "has no scheme"
    if scheme not in _DEFAULT_PORTS:
        return f"has the scheme '{scheme}', and only http and https pages are served"
    if not rest.isascii() or rest != rest.lower():
        return "is not as browsers write it: in lower case, international names in their ASCII form (xn--...)"
    if rest.endswith("/"):
        return "ends with a slash, and an origin has none"
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        return f"cannot be read ({error})"
    if rest != parts.netloc or "@" in rest:
        return "is more than scheme, host and port"
    if not (is_name(host) or address_in(host)) or rest.endswith(":"):
        return "has no host name, or one that cannot be"
    if port == _DEFAULT_PORTS[scheme]:
        return f"names port {port}, which browsers leave out as it is the default"
    return None
