"""One request and its answer, as they pass through the outermost layer."""

import time
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from roadseg_service.observing.current import HEADER, Observed


class Exchange:
    """Counts what passes, and puts the request's id into the answer.

    Args:
        scope: of the ASGI connection.
        receive: takes from the client.
        send: gives to the client.
        observed: what is noted of the request on the way.

    Attributes:
        status: of the answer; None until it begins.
        bytes_in: of the request's body, as far as it was read.
        bytes_out: of the answer's body.
        answer_headers: of the answer.
        seconds: from the request's headers to the answer's end.
        route: the route's template, never any other path; None where there is none.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, observed: Observed) -> None:
        """Begin."""
        self.scope = scope
        self.observed = observed
        self.status: int | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.answer_headers: Mapping[str, str] = {}
        self.seconds = 0.0
        self.route: str | None = None
        self._receive, self._send = receive, send
        self._began = time.perf_counter()

    async def receive(self) -> Message:
        """Take from the client."""
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        """Give to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[HEADER] = self.observed.request_id
            self.answer_headers = headers
        elif message["type"] == "http.response.body":
            self.bytes_out += len(message.get("body", b""))
        await self._send(message)

    def end(self, templates: frozenset[str]) -> None:
        """Stop its clock, and find its route among the templates where nothing looked for it."""
        self.seconds = time.perf_counter() - self._began
        self.route = getattr(self.scope.get("route"), "path", self.path if self.path in templates else None)

    @property
    def method(self) -> str:
        """As the client wrote it."""
        method: str = self.scope["method"]
        return method

    @property
    def path(self) -> str:
        """As the client wrote it, with its percent signs undone; any character may be in it."""
        path: str = self.scope["path"]
        return path

    @property
    def client(self) -> str | None:
        """Address of the client, or of the last proxy that is not trusted."""
        client = self.scope.get("client")
        return None if client is None else client[0]

    @property
    def request_headers(self) -> Headers:
        """Of the request."""
        return Headers(scope=self.scope)

    @property
    def problem(self) -> str | None:
        """Slug of the problem that it was answered with."""
        return self.observed.problem if self.status == self.observed.status else None

    @property
    def model_digest(self) -> str | None:
        """Of the model that answered, its first twelve digits."""
        digest = self.answer_headers.get("x-roadseg-model-digest")
        return None if digest is None else digest[:12]
