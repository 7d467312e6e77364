"""X-Request-ID: taken or made, and in every answer."""

import json
import logging
import re
import socket

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import running

MADE = re.compile(r"[0-9a-f]{32}")


def test_a_good_id_comes_back_and_each_request_without_one_gets_its_own(client):
    for given in ("a", "A-b_c.9", "x" * 128):
        assert client.get("/livez", headers={"X-Request-ID": given}).headers.get_list("X-Request-ID") == [given]
    made = [client.get("/livez").headers["X-Request-ID"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(MADE.fullmatch(one) for one in made)


@pytest.mark.parametrize(
    "given", ["", "x" * 129, "a b", "a\tb", 'a"b', "a,b", "a/b", "\u00e4".encode(), b"\xff", "{}", "a;b"]
)
def test_an_id_that_could_do_harm_in_a_log_is_replaced(client, given):
    answer = client.get("/livez", headers={"X-Request-ID": given})
    assert answer.status_code == 200
    assert MADE.fullmatch(answer.headers["X-Request-ID"])


def test_two_ids_are_none(client):
    answer = client.get("/livez", headers=[("X-Request-ID", "one"), ("x-request-id", "two")])
    assert MADE.fullmatch(answer.headers["X-Request-ID"])


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing-here", {}, 404),
        ("PUT", "/segment", {}, 405),
        ("POST", "/segment", {"content": b"GIF89a"}, 415),
        ("POST", "/segment?colour=red", {"content": b"x"}, 422),
        ("POST", "/segment", {"content": bytes(2_000_001)}, 413),
        ("POST", "/segment", {"content": b"x", "headers": {"Accept": "text/html"}}, 406),
        ("GET", "/openapi.json", {}, 200),
    ],
)
def test_errors_carry_it_too_and_problems_repeat_it(client, method, path, options, status):
    headers = {"X-Request-ID": "asked-for", **options.pop("headers", {})}
    answer = client.request(method, path, headers=headers, **options)
    assert (answer.status_code, answer.headers.get_list("X-Request-ID")) == (status, ["asked-for"])
    if status >= 400:
        assert answer.json()["request_id"] == "asked-for"


def test_not_modified_carries_it(client):
    tag = client.post("/segment", content=png()).headers["ETag"]
    again = client.post("/segment", content=png(), headers={"If-None-Match": tag, "X-Request-ID": "again"})
    assert (again.status_code, again.headers["X-Request-ID"]) == (304, "again")


def test_a_slow_upload_carries_it():
    with running(upload_timeout_s=0.2) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(
                b"POST /segment HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: slow\r\nContent-Length: 9\r\n\r\nx"
            )
            answer = connection.recv(65536).decode("latin-1")
    assert answer.startswith("HTTP/1.1 408")
    assert "x-request-id: slow\r\n" in answer


def test_an_unexpected_error_carries_it():
    with running() as service:
        service.app.state.service = object()  # no service at all: whatever touches it fails
        answer = service.client.get("/v1/models", headers={"X-Request-ID": "broken"})
    problem = assert_problem(answer, 500, None, "unexpected error")
    assert (answer.headers["X-Request-ID"], problem["request_id"]) == ("broken", "broken")


class Ids(logging.Handler):
    """Notes which request each record of the project was made for, as the formatters see it."""

    def __init__(self):
        from roadseg_service.observing.logs import JsonFormatter

        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines = []

    def emit(self, record):
        self.lines.append(json.loads(self.format(record)))


def test_worker_threads_log_with_it(monkeypatch):
    """Decoders, the network and encoders run in other threads, which see nothing of a request by themselves."""
    log = logging.getLogger("roadseg.test")
    handler = Ids()
    log.addHandler(handler)
    monkeypatch.setattr("roadseg_service.answers.work.encode_answer", telling(log, "encode"))
    monkeypatch.setattr("roadseg_service.answers.work.UploadFormat.decode", telling_method(log, "decode"))
    try:
        with running() as service:
            for name in ("first", "second"):
                answer = service.client.post("/segment", content=png(), headers={"X-Request-ID": name})
                assert (mask_in(answer) == mask_of(scene())).all()
    finally:
        log.removeHandler(handler)
    seen = [(line["message"], line["request_id"]) for line in handler.lines]
    assert seen == [("decode", "first"), ("encode", "first"), ("decode", "second"), ("encode", "second")]


def telling(log, step):
    from roadseg_service.answers import work

    real = work.encode_answer

    def told(*arguments):
        log.warning(step)
        return real(*arguments)

    return told


def telling_method(log, step):
    from roadseg_service.upload import UploadFormat

    real = UploadFormat.decode

    def told(self, *arguments):
        log.warning(step)
        return real(self, *arguments)

    return told
