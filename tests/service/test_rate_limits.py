"""Limits by key and address: the arithmetic of buckets, and what clients meet."""

import asyncio
import math
import socket

import numpy as np
import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import png, scene
from service_running import running

from roadseg_service.access.callers import Caller, Role, set_caller
from roadseg_service.access.rate_limits import RateLimit, TokenBuckets, client_of


class Clock:
    """Seconds that a test moves."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def test_a_burst_then_the_rate():
    clock = Clock()
    buckets = TokenBuckets(per_s=2, capacity=3, clock=clock)
    allowed = []
    for _ in range(100):  # ten seconds, ten attempts in each
        if not buckets.wait_s("a", 1):
            buckets.take("a", 1)
            allowed.append(clock.now - 1000)
        clock.now += 0.1
    assert len(allowed) == 3 + 19  # the burst, and two in each second of 9.9
    assert allowed[:3] == pytest.approx([0, 0.1, 0.2])
    assert np.diff(allowed[3:]).min() > 0.39


def test_the_wait_that_is_told_is_the_shortest_that_suffices():
    rng = np.random.default_rng(0)
    for _ in range(200):
        clock = Clock(rng.uniform(0, 1e6))
        per_s, capacity = rng.uniform(0.01, 50), int(rng.integers(1, 9))
        buckets = TokenBuckets(per_s, capacity, clock)
        for _ in range(capacity):
            assert buckets.wait_s("a", 1) == 0
            buckets.take("a", 1)
        clock.now += rng.uniform(0, 0.9) / per_s
        wait_s = buckets.wait_s("a", 1)
        assert wait_s > 0
        clock.now += wait_s * 0.99
        assert buckets.wait_s("a", 1) > 0
        clock.now += wait_s * 0.01
        assert buckets.wait_s("a", 1) == 0


def test_a_debt_is_paid_off_before_more_is_taken():
    clock = Clock()
    buckets = TokenBuckets(per_s=100, capacity=100, clock=clock)
    buckets.take("a", 1100)
    assert buckets.wait_s("a", 0) == pytest.approx(10)
    clock.now += 4
    assert buckets.wait_s("a", 0) == pytest.approx(6)
    clock.now += 3600
    buckets.take("a", 150)
    assert buckets.wait_s("a", 0) == pytest.approx(0.5)  # no more than a full bucket was saved up


def test_what_is_given_back_never_overfills():
    clock = Clock()
    buckets = TokenBuckets(per_s=1, capacity=10, clock=clock)
    buckets.take("a", 4)
    clock.now += 3
    buckets.take("a", -4)
    assert buckets.wait_s("a", 10) == 0 and buckets.wait_s("a", 10.5) == pytest.approx(0.5)


def test_clients_do_not_share_and_the_number_remembered_is_bounded():
    buckets = TokenBuckets(per_s=1, capacity=1, clock=Clock(), max_clients=100)
    buckets.take("first", 1)
    for number in range(99):
        buckets.take(f"other-{number}", 1)
    assert buckets.wait_s("first", 1) == 1
    buckets.take("first", 1)  # seen again
    for number in range(99, 150):
        buckets.take(f"other-{number}", 1)
    assert len(buckets) == 100
    assert buckets.wait_s("first", 1) == 2 and buckets.wait_s("other-0", 1) == 0


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (("192.0.2.7", 1), "address 192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "address 192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "network 2001:db8:1:2::/64"),
        (("2001:db8:1:2:ffff::", 1), "network 2001:db8:1:2::/64"),
        (("no address" * 1000, 1), "an unknown address"),
        (None, "an unknown address"),
    ],
)
def test_whom_a_request_counts_against(client, name):
    assert client_of({"client": client}) == name
    with_key = {"client": client}
    set_caller(with_key, Caller("alice", Role.USER))
    assert client_of(with_key) == "key 'alice'"


async def _pass(limit, chunks, headers, read=True):
    """Send one request through; gives its status, or None where the application got it."""
    sent, messages = [], [{"type": "http.request", "body": c, "more_body": True} for c in chunks]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        while read and (await receive())["more_body"]:
            pass

    limit.app = app
    scope = {"type": "http", "method": "POST", "path": "/segment", "headers": headers, "client": ("192.0.2.1", 1)}
    await limit(scope, receive, send)
    return sent[0] if sent else None


def passing(limit, chunks=(), headers=(), **options):
    answer = asyncio.run(_pass(limit, list(chunks), list(headers), **options))
    if answer is None:
        return None
    return answer["status"], int(dict(answer["headers"])[b"retry-after"])


def test_bytes_count_as_they_come_when_no_length_is_told():
    clock = Clock()
    limit = RateLimit(None, None, TokenBuckets(100, 100, clock), False)
    assert passing(limit, [b"x" * 60, b"x" * 290]) is None  # begun with a full bucket, 250 bytes beyond it
    assert passing(limit) == (429, 3)
    clock.now += 2.4
    assert passing(limit) == (429, 1)
    clock.now += 0.1
    assert passing(limit) is None


def test_an_announced_length_counts_at_once_and_what_never_came_is_given_back():
    clock = Clock()
    uploads = TokenBuckets(100, 100, clock)
    limit = RateLimit(None, None, uploads, False)
    levels = []

    async def app(scope, receive, send):
        levels.append(uploads.wait_s("address 192.0.2.1", 0))  # what a second request would meet meanwhile
        await receive()

    async def run():
        limit.app = app
        scope = {"type": "http", "method": "POST", "path": "/", "client": ("192.0.2.1", 1)}
        scope["headers"] = [(b"content-length", b"1100")]

        async def receive():
            return {"type": "http.request", "body": b"x" * 300, "more_body": True}

        await limit(scope, receive, None)

    asyncio.run(run())
    assert levels == [10.0]
    assert uploads.wait_s("address 192.0.2.1", 0) == pytest.approx(2.0)  # of 300 bytes


def test_the_longer_of_two_waits_is_told():
    clock = Clock()
    limit = RateLimit(None, TokenBuckets(0.5, 1, clock), TokenBuckets(10, 10, clock), False)
    assert passing(limit, [b"x" * 60]) is None
    assert passing(limit) == (429, 5)  # 50 bytes in debt, against 2 s of the request
    clock.now += 5
    assert passing(limit) is None
    assert passing(limit) == (429, 2)


def test_real_requests_over_the_rate_are_told_when_to_come_back():
    with running(rate_limit_requests_per_s=0.2, rate_limit_burst=3) as service:
        answers = [service.client.post("/segment", content=png()) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert_problem(
            answers[3], 429, "rate-limited", "address 127.0.0.1 sends more than 0.2 requests a second", "3 at"
        )
        assert answers[3].headers["Retry-After"] == "5"
        assert service.client.get("/v1/models").status_code == 429  # it is the same client
        assert {service.client.get(path).status_code for path in ("/livez", "/readyz") * 5} == {200}
        assert service.engine.calls == 3


def test_a_batch_costs_as_many_requests_as_it_has_images():
    with running(rate_limit_requests_per_s=0.2, rate_limit_burst=3, max_queued=8) as service:
        files = [("files", (str(i), png(), "image/png")) for i in range(7)]
        assert service.client.post("/segment/batch", files=files).status_code == 200
        answer = service.client.post("/segment", content=png())
        assert_problem(answer, 429, "rate-limited")
        assert 24 <= int(answer.headers["Retry-After"]) <= 25  # four in debt and one more, 5 s each


def test_forwarded_addresses_are_believed_of_trusted_proxies_alone(monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own variable, which would open it to everybody

    def statuses(service, addresses):
        send = service.client.post
        return [send("/segment", content=png(), headers={"X-Forwarded-For": a}).status_code for a in addresses]

    limit = {"rate_limit_requests_per_s": 0.01, "rate_limit_burst": 1}
    with running(**limit) as service:
        assert statuses(service, ["192.0.2.1", "192.0.2.2", "192.0.2.3"]) == [200, 429, 429]
    with running(**limit, trusted_proxies="127.0.0.0/8") as service:
        addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.66, 192.0.2.2", "192.0.2.77,192.0.2.2,127.0.0.9"]
        assert statuses(service, addresses) == [200, 200, 429, 429, 429]  # what the client itself wrote is not believed


def test_uploaded_bytes_are_limited_and_a_large_upload_is_paid_off():
    data = png(scene(64, 64))
    with running(rate_limit_bytes_per_s=len(data) / 8) as service:
        mask_in(service.client.post("/segment", content=data))
        answer = service.client.post("/segment", content=data)
        assert_problem(answer, 429, "rate-limited", "uploaded bytes a second")
        assert int(answer.headers["Retry-After"]) in {6, 7}  # seven eighths are owed, for about a second's rate each


def test_a_refused_upload_is_not_read_from_the_client():
    with running(rate_limit_requests_per_s=0.01, rate_limit_burst=1) as service:
        service.client.post("/segment", content=png())
        head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 429")


def test_the_wait_is_whole_seconds_rounded_up():
    clock = Clock()
    limit = RateLimit(None, TokenBuckets(0.3, 1, clock), None, False)
    assert passing(limit) is None
    assert passing(limit) == (429, math.ceil(1 / 0.3))
