"""The log: one line an event, whatever a client writes, and nothing of what it sent."""

import io
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest
from service_corpus import jpeg, png, scene
from service_models import ADMIN_KEY, USER_KEY, swapping
from service_running import DIGEST, eventually, running

from roadseg_service.observing import log_writing
from roadseg_service.observing.current import Observed, serving
from roadseg_service.observing.logs import JsonFormatter, TextFormatter, configure_logs

LOGGERS = ("", "roadseg", "httpx")


@contextmanager
def logged(log_format="json", log_level="info"):
    """Everything that is logged inside, as the stream gets it."""
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    root = loggers[0]
    root.handlers = []  # else they would be closed, and belong to pytest
    try:
        configure_logs(log_format, log_level, stream)
        logging.getLogger("httpx").setLevel("WARNING")  # the client's, which is in this process only here
        yield stream
    finally:
        logging.captureWarnings(False)
        for handler in root.handlers:
            handler.flush()
        for logger, level, handlers in before:
            logger.setLevel(level)
            logger.handlers = handlers


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def requests(stream):
    """The lines of requests, but for those that asked whether the model is there yet."""
    found = [line for line in lines(stream) if line["logger"] == "roadseg.request"]
    return [line for line in found if line.get("problem") != "model-not-ready"]


def wait_for(stream, count):
    """The answer is sent a moment before its line is written."""
    eventually(lambda: len(requests(stream)) >= count, "the log")
    return requests(stream)


def test_a_request_is_one_line_with_all_that_an_operator_asks_for():
    data = jpeg(scene(30, 50))
    with logged() as stream, running() as service:
        url = "/segment?orientation=stored&classes=class_1,class_2"
        answer = service.client.post(url, content=data, headers={"X-Request-ID": "the-one"})
        assert answer.status_code == 200, answer.text
        (line,) = wait_for(stream, 1)
    told = datetime.fromisoformat(line.pop("time"))
    assert told.tzinfo == UTC
    assert abs((datetime.now(UTC) - told).total_seconds()) < 60
    phases = line.pop("phases_ms")
    assert set(phases) == {"upload", "decode", "queue", "network", "encode"}
    assert sum(phases.values()) <= line.pop("duration_ms") + 0.5
    assert line == {
        "level": "info",
        "logger": "roadseg.request",
        "message": "POST /segment 200",
        "request_id": "the-one",
        "method": "POST",
        "route": "/segment",
        "path": "/segment",
        "query": {"orientation": "stored", "classes": "class_1,class_2"},
        "status": 200,
        "bytes_in": len(data),
        "bytes_out": len(answer.content),
        "model": DIGEST[:12],
        "client": "127.0.0.1",
    }


def test_a_refusal_tells_its_kind_and_the_instance_that_the_client_got():
    with logged() as stream, running() as service:
        problem = service.client.post("/segment", content=b"GIF89a").json()
        (line,) = wait_for(stream, 1)
    assert (line["status"], line["problem"], line["instance"]) == (415, "unsupported-image", problem["instance"])
    assert (line["request_id"], line["level"]) == (problem["request_id"], "info")


def test_an_error_of_the_server_is_a_line_with_its_traceback_and_the_same_id():
    with logged() as stream, running() as service:
        service.engine.failure = RuntimeError("line one\nline two \x1b[31m")
        answer = service.client.post("/segment", content=png())
        assert answer.status_code == 500
        (line,) = wait_for(stream, 1)
        told = [line for line in lines(stream) if "exception" in line]
    assert (line["level"], line["problem"]) == ("warning", "prediction-failed")
    assert [entry["level"] for entry in told] == ["error"]
    assert told[0]["request_id"] == line["request_id"]
    assert answer.json()["instance"] in told[0]["message"]
    assert told[0]["exception"].startswith("Traceback (most recent call last):\n")
    assert "line one\nline two" in told[0]["exception"]


def test_an_unforeseen_error_is_told_once():
    with logged() as stream, running() as service:
        service.app.state.service = object()
        assert service.client.get("/v1/models").status_code == 500
        wait_for(stream, 1)
        told = [line for line in lines(stream) if "exception" in line]
    assert len(told) == 1
    assert "unexpected error" in told[0]["message"]


SECRET = "c2VjcmV0LWtleQ"


def test_no_keys_no_content_and_no_unknown_parameters(tmp_path):
    with logged(log_level="debug") as stream, swapping(tmp_path) as swap:
        client = swap.client
        shown = 0
        for headers in (
            {"Authorization": f"Bearer {SECRET}"},
            {"X-API-Key": SECRET},
            {"Cookie": f"session={SECRET}"},
            {"Referer": f"http://localhost/?key={SECRET}"},
            {"User-Agent": SECRET},
        ):
            client.post("/segment", content=png(), headers=headers)
            shown += 1
        for query in (f"key={SECRET}", f"api_key={SECRET}&orientation=stored", f"{SECRET}=1", f"{SECRET}"):
            client.post(f"/segment?{query}", content=png())
            shown += 1
        client.post("/segment", content=SECRET.encode())
        client.post("/segment", files={SECRET: (SECRET, png())})
        found = wait_for(stream, shown + 2)
        text = stream.getvalue()
    assert SECRET not in text
    assert ADMIN_KEY not in text
    assert USER_KEY not in text
    assert {"orientation": "stored"} in [line.get("query") for line in found]


def test_the_keys_name_is_told_and_not_the_key(tmp_path):
    with logged() as stream, swapping(tmp_path) as swap:
        swap.client.post("/segment", content=png(), headers={"Authorization": f"Bearer {USER_KEY}"})
        swap.client.get("/v1/models")
        found = wait_for(stream, 2)
    assert [line["key"] for line in found] == ["worker", "boss"]


FORGED = '\r\n{"level": "error", "message": "forged"}\x00\x1b[2J\u2028\u0085\x7f'


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nothing_that_a_client_writes_makes_a_line_of_its_own(log_format):
    from urllib.parse import quote

    with logged(log_format) as stream, running() as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            target = f"/{quote(FORGED)}?orientation={quote(FORGED)}"
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            while connection.recv(65536):
                pass
        eventually(lambda: "roadseg.request" in stream.getvalue(), "the log")
    text = stream.getvalue()
    assert "forged" in text
    assert all(character.isprintable() or character == "\n" for character in text)
    for line in text.split("\n")[:-1]:
        if log_format == "json":
            assert json.loads(line)["message"] != "forged"
        else:
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|error) +\S+: ", line), line


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exceptions_text_makes_no_line_of_its_own(formatter):
    try:
        raise ValueError(FORGED + "\n2026-01-01T00:00:00.000Z info    roadseg: forged")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "it failed: %s", (FORGED,), sys.exc_info())
    first, *rest = formatter.format(record).split("\n")
    assert "it failed" in first
    assert all(line.startswith("  | ") for line in rest)
    assert all(character.isprintable() for line in (first, *rest) for character in line)


def test_half_a_surrogate_pair_can_be_written():
    for formatter in (JsonFormatter(), TextFormatter()):
        record = logging.LogRecord("x", logging.INFO, "", 1, "\ud800", (), None)
        assert "\\ud800" in formatter.format(record).encode("utf-8").decode()


def test_health_checks_are_for_those_who_debug():
    with logged() as stream, running() as service:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            service.client.get(path)
        assert [line["path"] for line in wait_for(stream, 1)] == ["/openapi.json"]
        service.app.state.service.lifecycle.drain(1)
        service.client.get("/readyz")
        assert [line["path"] for line in wait_for(stream, 2)] == ["/openapi.json", "/readyz"]
    with logged(log_level="debug") as stream, running() as service:
        service.client.get("/livez")
        assert "/livez" in [line["path"] for line in wait_for(stream, 1)]
    with logged(log_level="warning") as stream, running() as service:
        service.client.get("/openapi.json")
    assert requests(stream) == []


def test_libraries_do_not_tell_what_is_in_images():
    with logged(log_level="debug") as stream:
        logging.getLogger("PIL.PngImagePlugin").debug("STREAM b'tEXt'")
        logging.getLogger("roadseg.x").debug("ours")
    assert [line["message"] for line in lines(stream)] == ["ours"]


def test_the_servers_own_lines_have_the_same_form_and_its_access_log_is_off():
    with logged() as stream, running() as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
            connection.sendall(b"no http at all\r\n\r\n")
            connection.recv(65536)
        service.client.get("/openapi.json")
        wait_for(stream, 1)
    found = lines(stream)
    assert "uvicorn.error" in {line["logger"] for line in found}
    assert "uvicorn.access" not in {line["logger"] for line in found}
    assert stream.getvalue().count("openapi.json") == 2  # the message and the path of one line


def test_warnings_are_lines_too():
    import warnings

    with logged() as stream:
        warnings.warn("two\nlines", stacklevel=1)
    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "two\nlines" in line["message"]


def test_lines_outside_of_a_request_have_no_id_and_those_inside_have():
    with logged() as stream:
        logging.getLogger("roadseg.x").info("outside")
        with serving(Observed("some-id", trace_id="f" * 32)):
            logging.getLogger("roadseg.x").info("inside")
    outside, inside = lines(stream)
    assert "request_id" not in outside
    assert (inside["request_id"], inside["trace_id"]) == ("some-id", "f" * 32)


def test_a_terminal_that_lacks_a_letter_loses_no_line():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", write_through=True)
    with logged():
        configure_logs("text", "info", stream)
        logging.getLogger("roadseg.x").info("Straße")
    assert raw.getvalue().endswith(b"Stra\\xdfe\n")


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "first"), [(io.StringIO(), "{"), (Terminal(), "2")])
def test_auto_is_text_on_a_terminal_and_json_elsewhere(stream, first):
    with logged():
        configure_logs("auto", "info", stream)
        logging.getLogger("roadseg.x").info("hello")
    assert stream.getvalue().startswith(first)
    assert stream.getvalue().count("\n") == 1


@contextmanager
def unread_pipe():
    """A stream that takes 64 KiB and then blocks, and a function that reads what it took, and all that follows."""
    read_end, write_end = os.pipe()
    stream = os.fdopen(write_end, "w")
    taken = []

    def read_on():
        reader = threading.Thread(target=lambda: taken.extend(os.fdopen(read_end)), daemon=True)
        reader.start()
        return reader

    try:
        yield stream, read_on, taken
    finally:
        with suppress(OSError):
            stream.close()


def told_lost(taken):
    told = [re.search(r'"(\d+) lines of the log were lost, as it was not read fast enough"', line) for line in taken]
    return sum(int(found[1]) for found in told if found)


def test_a_log_that_nobody_reads_holds_up_nobody_and_what_is_lost_is_told(monkeypatch):
    monkeypatch.setattr(log_writing, "MAX_WAITING_CHARACTERS", 100_000)
    with unread_pipe() as (stream, read_on, taken), logged():
        configure_logs("json", "info", stream)
        began = time.monotonic()
        for i in range(2000):
            logging.getLogger("roadseg.x").info("%d %s", i, "x" * 200)
        assert time.monotonic() - began < 5
        lost = log_writing.lost_lines()
        assert 500 < lost < 2000
        (writer,) = logging.getLogger().handlers
        reader = read_on()
        eventually(lambda: told_lost(list(taken)) == lost, "the line that tells it")
        logging.getLogger("roadseg.x").info("and on")
        writer.flush()
        writer.close()
        stream.close()
        reader.join(10)
    told = [json.loads(line)["message"] for line in taken]
    numbers = [int(message.split()[0]) for message in told if message.endswith("x" * 200)]
    assert numbers == sorted(set(numbers))
    assert numbers[:100] == list(range(100))
    assert len(numbers) == 2000 - lost
    assert told[-1] == "and on"


def test_waiting_for_a_log_that_nobody_reads_ends():
    with unread_pipe() as (stream, read_on, _), logged():
        configure_logs("json", "info", stream)
        for _ in range(500):
            logging.getLogger("roadseg.x").info("x" * 400)
        began = time.monotonic()
        logging.getLogger().handlers[0].flush()
        assert 0.9 < time.monotonic() - began < 3
        read_on()
        logging.getLogger().handlers[0].flush()


def test_lines_that_cannot_be_written_are_counted(capfd):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stream, logged():
        configure_logs("json", "info", stream)
        for _ in range(3):
            logging.getLogger("roadseg.x").info("nobody hears it")
        logging.getLogger().handlers[0].flush()
        assert log_writing.lost_lines() == 3
    assert capfd.readouterr().err == ""
