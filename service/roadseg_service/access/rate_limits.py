"""How often, and how much, each key or address may send: token buckets."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address, ip_network

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from roadseg_service.access.addresses import address_in
from roadseg_service.access.callers import caller_of
from roadseg_service.access.policy import Need, need_of
from roadseg_service.limits import content_length
from roadseg_service.problems import RATE_LIMITED, problem_response

MAX_CLIENTS = 10_000

_CHARGE = "roadseg.charge"

_IPV6_PREFIX = 64  # what one subscriber has; a limit on single addresses would bind nobody
_TOLERANCE = 1e-6  # of a token: a client that waited as told is let in, however its wait was rounded


class TokenBuckets:
    """For each client a bucket that fills steadily; what is taken beyond its content is a debt that fills up first.

    The clients that were seen last are remembered; one that is forgotten begins with a full bucket.

    Args:
        per_s: tokens that come in a second.
        capacity: tokens in a full bucket.
        clock: seconds that only grow.
        max_clients: how many are remembered.
    """

    def __init__(
        self,
        per_s: float,
        capacity: float,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        """Begin with full buckets."""
        self.per_s = per_s
        self.capacity = capacity
        self._clock = clock
        self._max_clients = max_clients
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> tokens, and when

    def __len__(self) -> int:
        """How many clients are remembered."""
        return len(self._levels)

    def wait_s(self, client: str, needed: float) -> float:
        """Seconds until a client's bucket holds what is needed; 0 when it does."""
        missing = needed - self._level(client)
        return missing / self.per_s if missing > _TOLERANCE else 0.0

    def take(self, client: str, count: float) -> None:
        """Take tokens, also more than there are; a negative count gives some back."""
        self._levels[client] = (min(self.capacity, self._level(client) - count), self._clock())
        self._levels.move_to_end(client)
        if len(self._levels) > self._max_clients:
            self._levels.popitem(last=False)

    def _level(self, client: str) -> float:
        if client not in self._levels:
            return self.capacity
        level, then = self._levels[client]
        return min(self.capacity, level + (self._clock() - then) * self.per_s)


class RateLimit:
    """ASGI middleware that answers 429 to clients that send too often or too much.

    A client is the name of a key, else an address. Requests are counted when they come, and the further images of a
    batch once they are known (`charge_images`). Bytes are counted by the Content-Length when a request comes, else as
    they arrive, and what was announced and never read is given back; a request is taken as soon as the bytes of those
    before are paid off, so that one may be larger than a second's worth.

    Args:
        app: the application behind it.
        requests: buckets of requests; None for no limit.
        uploads: buckets of bytes; None for no limit.
        metrics_need_key: as `need_of` takes it; what needs no key has no limit.
    """

    def __init__(
        self, app: ASGIApp, requests: TokenBuckets | None, uploads: TokenBuckets | None, metrics_need_key: bool
    ) -> None:
        """Wrap the application."""
        self.app = app
        self.requests = requests
        self.uploads = uploads
        self.metrics_need_key = metrics_need_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or need_of(scope["method"], scope["path"], self.metrics_need_key) is Need.NOTHING:
            await self.app(scope, receive, send)
            return
        client = client_of(scope)
        refusal = self._refusal(client)
        if refusal is not None:
            detail, wait_s = refusal
            retry_after = str(math.ceil(wait_s))
            response = problem_response(RATE_LIMITED, detail, headers={"Retry-After": retry_after})
            await response(scope, receive, send)
            return
        if self.requests is not None:
            self.requests.take(client, 1)
            scope[_CHARGE] = partial(self.requests.take, client)
        if self.uploads is None:
            await self.app(scope, receive, send)
        else:
            await self._count_bytes(self.uploads, client, scope, receive, send)

    def _refusal(self, client: str) -> tuple[str, float] | None:
        """What to say to a client that has to wait, and for how many seconds; None where it has not."""
        waits = []
        if self.requests is not None:
            at_once = f"{self.requests.capacity:g} at once after a pause"
            waits.append((self.requests.wait_s(client, 1), f"{self.requests.per_s:g} requests a second ({at_once})"))
        if self.uploads is not None:
            waits.append((self.uploads.wait_s(client, 0), f"{self.uploads.per_s:g} uploaded bytes a second"))
        wait_s, limit = max(waits, default=(0.0, ""))
        if not wait_s:
            return None
        return f"{client} sends more than {limit}; try again in {math.ceil(wait_s)} s", wait_s

    async def _count_bytes(
        self, uploads: TokenBuckets, client: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        charged = content_length(scope) or 0
        received = 0
        uploads.take(client, charged)

        async def counted() -> Message:
            nonlocal charged, received
            message = await receive()
            received += len(message.get("body", b""))
            if received > charged:
                uploads.take(client, received - charged)
                charged = received
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            if received < charged:
                uploads.take(client, received - charged)


def charge_images(scope: Scope, count: int) -> None:
    """Count the images of a request, of which one was counted when it came; those beyond the limit are a debt.

    So a batch costs as much as its images would alone, and the next request waits until it is paid off.
    """
    if _CHARGE in scope:
        scope[_CHARGE](count - 1)


def client_of(scope: Scope) -> str:
    """Whom limits count a request against: a key's name, else the address, of IPv6 the network of its subscriber."""
    caller = caller_of(scope)
    if caller is not None:
        return f"key '{caller.name}'"
    address = address_in(scope["client"][0]) if scope.get("client") else None
    if isinstance(address, IPv6Address):
        return f"network {ip_network((int(address), _IPV6_PREFIX), strict=False)}"
    return f"address {address}" if address else "an unknown address"
