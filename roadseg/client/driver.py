"""Carrying out exchanges in the thread that asks."""

import threading
from collections.abc import Callable

from roadseg.client.core import Ask, Core
from roadseg.client.models import RemoteModel
from roadseg.client.uploads import Upload
from roadseg.client.wire import Done, Exchange, Outcome, Send, Value, advance
from roadseg.errors import RoadsegError
from roadseg.inference.predictor import ImageSource
from roadseg.inference.result import SegmentationResult

Sleep = Callable[[float], object]

_NEVER = threading.Event()


class Driver:
    """Carries out what a client's core decides, and waits for it. Threads may share one.

    Args:
        core: what decides.
        send: sends a request, and gives what came of it.
        sleep: waits so many seconds; None lets time pass.
    """

    def __init__(self, core: Core, send: Callable[[Send], Outcome], sleep: Sleep | None = None) -> None:
        self._core = core
        self._send = send
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The service's URL."""
        return self._core.url

    def models(self, stop: threading.Event = _NEVER) -> list[RemoteModel]:
        """The models that the service answers with now.

        Args:
            stop: ends the wait for a retry, and the call with it.

        Raises:
            ServiceError: as `Client.segment` raises it.
            RoadsegError: when it was stopped.
        """
        return self._drive(self._core.models(), stop)

    def segment(self, image: ImageSource | Upload, ask: Ask, stop: threading.Event = _NEVER) -> SegmentationResult:
        """Segment one image.

        Args:
            image: as of `Client.segment`, or read already.
            ask: how.
            stop: ends the wait for a retry, and the call with it.

        Raises:
            RoadsegError: as `Client.segment`, and when it was stopped.
        """
        return self._drive(self._core.segment(image, ask), stop)

    def _drive(self, exchange: Exchange[Value], stop: threading.Event) -> Value:
        outcome: Outcome = None
        while not isinstance(step := advance(exchange, outcome), Done):
            if isinstance(step, Send):
                outcome = self._send(step)
                continue
            outcome = None
            (self._sleep or stop.wait)(step.seconds)
            if stop.is_set():
                raise RoadsegError(f"stopped before {self.url} had answered; ask it again")
        return step.value
