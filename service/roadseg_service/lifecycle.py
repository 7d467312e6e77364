"""Whether the service takes new work."""

import asyncio
import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roadseg_service.problems import DRAINING, ProblemError, problem_response


class Lifecycle:
    """From the first signal to stop on, new work is refused while what was accepted is finished."""

    def __init__(self) -> None:
        """Begin taking work."""
        self.draining = False
        self._retry_after_s = 1

    def drain(self, seconds: float) -> None:
        """Refuse new work from now on; does nothing that a signal handler may not.

        Args:
            seconds: until the server stops listening.
        """
        self._retry_after_s = max(1, math.ceil(seconds))
        self.draining = True

    def check(self) -> None:
        """Refuse new work.

        Raises:
            ProblemError: draining, with Retry-After: by then another server answers at this address, or none. The
                connection is closed, so that none is idle, and perhaps just being used, when the server stops.
        """
        if self.draining:
            raise ProblemError(
                DRAINING,
                f"this server is about to stop and takes no new work; try again in {self._retry_after_s} s",
                {"Retry-After": str(self._retry_after_s), "Connection": "close"},
            )


class LastWord:
    """ASGI middleware that answers requests which the server ends before they are done, with 503.

    uvicorn cancels what still runs when its time to finish is over, and says 500 in plain text for it.

    Args:
        app: the application behind it.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except asyncio.CancelledError:
            if begun or scope["type"] != "http":
                raise
            detail = "this server stopped before the answer was ready; send the request again"
            headers = {"Retry-After": "1", "Connection": "close"}
            await problem_response(DRAINING, detail, headers=headers)(scope, receive, send)
