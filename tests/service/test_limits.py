"""The body bound below HTTP, where a server may hand over anything."""

import asyncio

import pytest

from roadseg_service.limits import BodyLimit
from roadseg_service.problems import ProblemError


async def _serve(limit, chunks, headers, kind="http"):
    sent, read = [], []

    async def app(scope, receive, send):
        while True:
            message = await receive()
            read.append(message)
            if not message.get("more_body"):
                return

    messages = [{"type": "http.request", "body": c, "more_body": i < len(chunks) - 1} for i, c in enumerate(chunks)]

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "headers": headers, "method": "POST", "path": "/"}
    try:
        await BodyLimit(app, limit)(scope, receive, send)
    finally:
        _serve.left = len(messages)
    return sent, b"".join(message["body"] for message in read)


def serve(limit, chunks, headers=(), **options):
    return asyncio.run(_serve(limit, chunks, list(headers), **options))


def test_within_the_bound_all_passes():
    assert serve(6, [b"abc", b"", b"def"]) == ([], b"abcdef")


def test_over_the_bound_reading_stops_at_once():
    with pytest.raises(ProblemError, match="at most 6 bytes"):
        serve(6, [b"abc", b"defg", b"never read", b"never read"])
    assert _serve.left == 2


def test_a_length_that_lies_is_no_way_around():
    with pytest.raises(ProblemError, match="at most 6 bytes"):
        serve(6, [b"abcdefg"], [(b"content-length", b"3")])


@pytest.mark.parametrize("length", [b"7", b"9" * 18, b"9" * 5000])
def test_declared_length_is_refused_unread(length):
    sent, read = serve(6, [b"abc"], [(b"Content-Length", length)])
    assert (sent[0]["status"], read, _serve.left) == (413, b"", 1)


@pytest.mark.parametrize("length", [b"6", b"", b"abc", b"-9", b"+9", "\u0669".encode()])
def test_other_lengths_are_left_to_counting(length):
    assert serve(6, [b"abc"], [(b"content-length", length)]) == ([], b"abc")


def test_what_is_not_http_passes():
    assert serve(1, [b"abc"], [(b"content-length", b"3")], kind="lifespan") == ([], b"abc")


async def _trickle(chunks, timeout_s, pause_s):
    """What a request body comes to that arrives in so many pieces, with pauses."""
    left = list(chunks)

    async def receive():
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await asyncio.sleep(2 * timeout_s)  # working on it is not receiving it
        await receive()

    left.append(b"")
    scope = {"type": "http", "headers": [(b"transfer-encoding", b"chunked")], "method": "POST", "path": "/"}
    await BodyLimit(app, 100, timeout_s)(scope, receive, None)


def test_a_body_that_trickles_is_refused_by_its_whole_time():
    with pytest.raises(ProblemError, match=r"within 0\.1 s") as caught:
        asyncio.run(_trickle([b"x"] * 20, 0.1, 0.02))
    assert caught.value.kind.status == 408
    assert caught.value.headers == {"Connection": "close"}


def test_once_the_body_is_here_time_is_not_its_matter():
    with pytest.raises(IndexError):  # all that there was is read
        asyncio.run(_trickle([b"x"], 0.1, 0.02))


async def _refuse(headers, status, *, asks):
    sent = []

    async def app(scope, receive, send):
        if asks:
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": [(b"Connection", b"close")]})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": headers, "method": "POST", "path": "/"}
    await BodyLimit(app, 100)(scope, receive, send)
    return (b"connection", b"close") in [(name.lower(), value) for name, value in sent[0]["headers"]]


EXPECTING = [(b"content-length", b"9"), (b"expect", b"100-Continue")]


@pytest.mark.parametrize(
    ("headers", "status", "asks", "closes"),
    [
        pytest.param([], 503, False, True, id="no-body"),
        pytest.param([(b"content-length", b"0")], 503, False, True, id="empty-body"),
        pytest.param([(b"content-length", b"9")], 503, False, False, id="body-still-comes"),
        pytest.param([(b"transfer-encoding", b"chunked")], 503, False, False, id="chunked-body-still-comes"),
        pytest.param([(b"content-length", b"9")], 408, True, True, id="too-slow"),
        pytest.param(EXPECTING, 429, False, True, id="waits-for-leave"),
        pytest.param(EXPECTING, 429, True, False, id="has-leave"),
    ],
)
def test_a_connection_is_closed_after_a_refusal_only_where_no_body_comes_behind_it(headers, status, asks, closes):
    assert asyncio.run(_refuse(headers, status, asks=asks)) == closes
