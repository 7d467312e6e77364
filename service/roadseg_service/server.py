"""uvicorn, with what it lacks for operators: a drain phase, and an end that is bounded and has status 0."""

import asyncio
import logging
import signal
import socket
import time
from types import FrameType
from typing import Any

import uvicorn

from roadseg_service.lifecycle import Lifecycle
from roadseg_service.observing.seldom import Seldom

log = logging.getLogger("roadseg.service")

BACKLOG = 2048
"""How many connections the system keeps until they are taken."""

ACCEPTS_AT_ONCE = 16
"""How many of them the event loop takes before it does anything else, or tries to where no descriptor is left."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM goes on listening for a while, and says 503 to new work, before it shuts down as uvicorn does.

    uvicorn closes its listener at once, so that requests of a load balancer which has not noticed yet are refused
    connections. A second signal skips the drain phase, a further SIGINT what still runs. SIGINT, which a person at a
    terminal sends, has no drain phase. In all cases the process' status is 0; uvicorn would end it by the signal.

    Args:
        config: of uvicorn.
        lifecycle: told that draining began.
        drain_s: length of the drain phase.
    """

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, drain_s: float) -> None:
        """Keep what is needed to stop."""
        super().__init__(config)
        self._lifecycle = lifecycle
        self._drain_s = drain_s
        self._stop_at: float | None = None
        self._told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen.

        asyncio has one number for the connections that the system keeps, and those that it takes at once.
        """
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(BACKLOG)
        asyncio.get_running_loop().set_exception_handler(_LoopErrors())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain, or stop.

        It runs between any two steps of anything else, so it logs nothing: what it interrupts may hold the stream.
        """
        if self.should_exit:
            self.force_exit = self.force_exit or sig == signal.SIGINT
        elif self._stop_at is not None:
            self.should_exit = True
        else:
            drain_s = self._drain_s if sig == signal.SIGTERM else 0.0
            self._lifecycle.drain(drain_s)
            self._stop_at = time.monotonic() + drain_s

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; asked ten times a second."""
        if self._stop_at is not None:
            left_s = max(0.0, self._stop_at - time.monotonic())
            if not self._told:
                log.info("told to stop: no new work, listening for another %.1f s", left_s)
                self._told = True
            if left_s == 0:
                self.should_exit = True
        return await super().on_tick(counter)


class _LoopErrors:
    """Logs what the event loop cannot hand to anybody; that no connection can be taken, not as often as it is tried."""

    def __init__(self) -> None:
        self._tell = Seldom()

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "socket.accept()" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif self._tell():
            log.error(
                "no new connection can be taken: %s; raise the limit of open files (ulimit -n), lower max_connections",
                context["exception"],
            )
