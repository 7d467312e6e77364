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
