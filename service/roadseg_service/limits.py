"""The bound on request bodies, held while they stream in."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roadseg_service.problems import BODY_TOO_LARGE, ProblemError, problem_response


class BodyLimit:
    """ASGI middleware that refuses request bodies over a size with 413.

    A body whose Content-Length says it is too large is refused before a byte of it is read. Any other is counted as it
    is received, so that a chunked body, or one larger than it said, ends at the bound too.

    Args:
        app: the application behind it; it must turn `ProblemError` into a response.
        max_body_bytes: the bound.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        """Wrap the application."""
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = _content_length(scope)
        if declared is not None and declared > self.max_body_bytes:
            # The connection stays open: servers discard what still arrives, where closing it would make many clients
            # report a reset connection in place of this answer.
            response = problem_response(BODY_TOO_LARGE, self._detail(f"is {declared} bytes"))
            await response(scope, receive, send)
            return
        await self.app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise ProblemError(BODY_TOO_LARGE, self._detail("goes on"))
            return message

        return counted

    def _detail(self, what: str) -> str:
        return (
            f"the request body {what}, but at most {self.max_body_bytes} bytes are accepted; send a smaller or more "
            "strongly compressed image"
        )


def _content_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value[:19])  # more digits than any bound has; Python refuses to convert thousands of them
    return None
