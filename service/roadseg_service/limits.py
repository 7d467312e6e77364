"""The bounds on request bodies, held while they stream in."""

import asyncio
import math
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roadseg_service.problems import BODY_TOO_LARGE, UPLOAD_TIMEOUT, ProblemError, problem_response

_CLOSE = (b"connection", b"close")


class BodyLimit:
    """ASGI middleware that refuses request bodies over a size with 413, and over a time with 408.

    A body whose Content-Length says it is too large is refused before a byte of it is read. Any other is counted as it
    is received, so that a chunked body, or one larger than it said, ends at the bound too.

    Args:
        app: the application behind it; it must turn `ProblemError` into a response.
        max_body_bytes: the bound.
        timeout_s: seconds from the headers to the body's end, as far as somebody reads it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, timeout_s: float = math.inf) -> None:
        """Wrap the application."""
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(scope, receive, send, self)
        declared = content_length(scope)
        if declared is not None and declared > self.max_body_bytes:
            response = problem_response(BODY_TOO_LARGE, self.too_large(f"is {declared} bytes"))
            await response(scope, receive, body.send)
            return
        await self.app(scope, body.receive, body.send)

    def too_large(self, what: str) -> str:
        """The words for a body over the bound."""
        return (
            f"the request body {what}, but at most {self.max_body_bytes} bytes are accepted; send a smaller or more "
            "strongly compressed image"
        )


class _Body:
    """One request's body, while it streams in."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: BodyLimit) -> None:
        headers = {name.lower(): value.lower() for name, value in scope["headers"]}
        self._receive = receive
        self._send = send
        self._limit = limit
        self._received = 0
        self._asked = False
        self._whole = b"transfer-encoding" not in headers and content_length(scope) in {None, 0}
        self._expects = headers.get(b"expect") == b"100-continue"
        self._due = asyncio.get_running_loop().time() + limit.timeout_s

    async def receive(self) -> Message:
        """The next part of the body, or what comes after it, which may take any time."""
        self._asked = True
        try:
            async with asyncio.timeout_at(None if self._whole else self._due):
                message = await self._receive()
        except TimeoutError:
            raise ProblemError(
                UPLOAD_TIMEOUT,
                f"the body did not arrive within {self._limit.timeout_s:g} s; send it faster, or a smaller one",
                {"Connection": "close"},  # the rest may come for ever
            ) from None
        self._received += len(message.get("body", b""))
        self._whole = self._whole or not message.get("more_body", False)
        if self._received > self._limit.max_body_bytes:
            raise ProblemError(BODY_TOO_LARGE, self._limit.too_large("goes on"))
        return message

    async def send(self, message: Message) -> None:
        """Send, having seen to what becomes of a connection whose request goes on."""
        if message["type"] == "http.response.start" and not self._whole:
            headers = [(name.lower(), value) for name, value in message.get("headers", [])]
            message = {**message, "headers": self._decided(headers, message["status"])}
        await self._send(message)

    def _decided(self, headers: Sequence[tuple[bytes, bytes]], status: int) -> list[tuple[bytes, bytes]]:
        """Whether the connection is closed after an answer that came before the body's end."""
        kept = [header for header in headers if header != _CLOSE]
        if self._expects and not self._asked:
            # The client waits for leave to send the body, which it does not get.
            return [*kept, _CLOSE]
        # The protocol discards what still arrives, for some time; closing at once would make many clients report a
        # reset connection in place of this answer. One that was too slow once is not waited for again.
        return list(headers) if status == UPLOAD_TIMEOUT.status else kept


def content_length(scope: Scope) -> int | None:
    """The Content-Length of a request; None where it has none that is a number."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value[:19])  # more digits than any bound has; Python refuses to convert thousands of them
    return None
