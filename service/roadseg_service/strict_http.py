"""h11, stricter where servers on the way may read a request in two ways, and with the form of target that it lacks."""

import re
from typing import Any

import h11

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?#]*)(?P<rest>.*)", re.IGNORECASE)

_QUOTED = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_BYTES_IN_PYTHON = re.compile(rf"\bbytearray\(b{_QUOTED}\)|\bb{_QUOTED}")


class StrictConnection(h11.Connection):
    """h11, which refuses what servers and proxies on the way may read in different ways."""

    def next_event(self) -> Any:
        """The next event; a request's target is in origin form where it came in absolute form.

        Raises:
            h11.RemoteProtocolError: when it is not HTTP/1, a request has both lengths (RFC 9112, section 6.1), or its
                target names no host.
        """
        event = super().next_event()
        if not isinstance(event, h11.Request):
            return event
        if not event.http_version.startswith(b"1."):
            raise h11.RemoteProtocolError(f"it is of HTTP {event.http_version.decode()}; send HTTP/1.1")
        names = {name for name, _ in event.headers}
        if {b"content-length", b"transfer-encoding"} <= names:
            raise h11.RemoteProtocolError("it has Content-Length and Transfer-Encoding; send one of them")
        absolute = _ABSOLUTE.fullmatch(event.target)
        return event if absolute is None else _in_origin_form(event, absolute)


def in_words(error: BaseException | str) -> str:
    """What h11 says of a fault, without Python's way of writing the bytes that it quotes."""
    return _BYTES_IN_PYTHON.sub(lambda found: found[1] or found[2], str(error))


def _in_origin_form(request: h11.Request, absolute: re.Match[bytes]) -> h11.Request:
    """A request whose target is a whole URL, which every server must understand (RFC 9112, section 3.2.2).

    The URL's host stands in place of the header's, as that section demands; what looks at Host sees the only one.
    """
    authority, rest = absolute["authority"], absolute["rest"]
    if not authority or b"@" in authority:
        raise h11.RemoteProtocolError("its target is a URL without a host, or with a user's name; send the path alone")
    target = rest if rest.startswith(b"/") else b"/" + rest
    headers = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=target,
        headers=[(b"host", authority), *headers],
        http_version=request.http_version,
    )
