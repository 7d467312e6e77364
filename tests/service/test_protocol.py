"""Clients that are slow, broken or hostile on purpose, on real sockets."""

import logging
import socket
import time
from contextlib import ExitStack, contextmanager, suppress

import httpx
import numpy as np
import pytest
from raw_http import Reader, connect, problem_in, read_to_end, request, seconds_until_closed
from service_asserts import assert_problem, mask_in
from service_corpus import jpeg, mask_of, png, scene
from service_running import eventually, running

from roadseg_service.protocol import GuardedProtocol


@pytest.fixture(scope="module")
def service():
    """A service with short deadlines."""
    with running(header_timeout_s=0.5, upload_timeout_s=1) as started:
        yield started


@pytest.fixture(autouse=True)
def short_linger(monkeypatch):
    monkeypatch.setattr(GuardedProtocol, "linger_s", 0.5)


@pytest.fixture(autouse=True)
def nothing_unexpected(caplog):
    yield
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


def served(service):
    response = service.client.post("/segment", content=png())
    assert (mask_in(response) == mask_of(scene())).all()


def open_connections(service):
    return len(service.server.server_state.connections)


def test_a_connection_without_a_byte_is_closed(service):
    with connect(service.port) as silent:
        assert 0.4 < seconds_until_closed(silent) < 10


@pytest.mark.parametrize("begin", [b"G", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: y"])
def test_headers_that_never_end_are_answered_408(service, begin):
    with connect(service.port) as slow:
        slow.sendall(begin)
        problem = problem_in(read_to_end(slow))
    assert (problem["status"], problem["type"]) == (408, "urn:roadseg:problem:headers-timeout")
    assert "within 0.5 s" in problem["detail"]


def test_the_headers_deadline_does_not_begin_anew_with_every_byte(service):
    with connect(service.port) as slow:
        slow.settimeout(0.05)
        began = time.monotonic()
        answer = b""
        for byte in request(path="/livez?" + "x" * 1000):
            slow.send(bytes([byte]))
            try:
                answer += slow.recv(1)
                break
            except TimeoutError:
                pass
        assert answer == b"H"
        assert time.monotonic() - began < 10


def test_a_second_request_has_its_own_headers_deadline(service):
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(request())
        assert reader.answer()[0] == 200
        time.sleep(0.7)  # longer than headers may take: an idle connection is not one
        connection.sendall(b"GET /livez HT")
        assert problem_in(reader.data + read_to_end(connection))["status"] == 408


def test_a_second_request_that_begins_before_the_first_answer_has_a_headers_deadline(service):
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(request() + b"GET /livez HT")
        assert reader.answer()[0] == 200
        began = time.monotonic()
        assert problem_in(reader.data + read_to_end(connection))["status"] == 408
        assert time.monotonic() - began < 4  # and not only when an idle connection would be closed


def test_pipelined_requests_are_answered_in_order(service):
    pictures = [scene(seed=seed) for seed in range(4)]
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(b"".join(request("POST", "/segment", body=png(picture)) for picture in pictures))
        for picture in pictures:
            status, _, body = reader.answer()
            assert status == 200
            response = httpx.Response(200, headers={"content-type": "image/png"}, content=body)
            assert (mask_in(response) == mask_of(picture)).all()
    served(service)


def test_two_hundred_slow_clients_keep_nobody_from_being_served():
    with running(header_timeout_s=3, upload_timeout_s=3) as service, ExitStack() as stack:
        slow = [stack.enter_context(connect(service.port)) for _ in range(200)]
        for i, connection in enumerate(slow):
            head = request("POST", "/segment", "Content-Length: 100000")
            connection.sendall(head[:20] if i % 2 else head + b"x")
        eventually(lambda: open_connections(service) >= 200, "the slow clients")
        waits = []
        ends = time.monotonic() + 2
        while time.monotonic() < ends:
            for connection in slow:
                connection.send(b"x")  # half of them trickle their headers, half their bodies
            began = time.monotonic()
            served(service)
            waits.append(time.monotonic() - began)
            time.sleep(0.2)
        assert max(waits) < 1.5
        assert service.admission.accepted == 0
        statuses = [problem_in(read_to_end(connection))["status"] for connection in slow]
        assert statuses == [408] * 200
        served(service)
        eventually(
            lambda: (service.admission.tickets, service.admission.held_bytes) == (0, 0), "the end of all uploads"
        )


def test_one_connection_too_many_takes_the_place_of_the_one_that_was_idle_longest(caplog):
    with running(max_connections=5, header_timeout_s=20) as service, ExitStack() as stack:
        service.client.close()
        eventually(lambda: open_connections(service) == 0, "the end of the client's own connection")
        places = service.app.state.service.connections
        idle = []
        for i in range(5):
            idle.append(stack.enter_context(connect(service.port)))
            eventually(lambda i=i: places.open == i + 1, "its place")
        first, second, *others = idle
        first.sendall(request())
        assert Reader(first).answer()[0] == 200  # since when it is idle anew: the second has been for longest
        third = others[0]
        third.sendall(b"GET /livez HT")  # bytes that come to nothing do not count
        for i, taken in enumerate((second, third)):
            new = stack.enter_context(connect(service.port))
            new.sendall(request())
            assert Reader(new).answer()[0] == 200
            assert read_to_end(taken) == b""
            assert (places.open, places.evicted, places.refused) == (5, i + 1, 0)
        first.sendall(request())
        assert Reader(first).answer()[0] == 200
    assert "all 5 connections are taken, 5 of them idle; 5 are of 127.0.0.1" in caplog.text


def test_a_connection_whose_request_is_answered_gives_way_to_nobody():
    with running(max_connections=2) as service, ExitStack() as stack:
        service.client.close()
        eventually(lambda: open_connections(service) == 0, "the end of the client's own connection")
        places = service.app.state.service.connections
        service.engine.gate.clear()
        busy = [stack.enter_context(connect(service.port)) for _ in range(2)]
        for i, connection in enumerate(busy):
            connection.sendall(request("POST", "/segment", body=png()))
            eventually(lambda i=i: service.admission.accepted == i + 1, "the upload")
        with connect(service.port) as one_more:
            assert seconds_until_closed(one_more) < 5
        assert (places.open, places.evicted, places.refused) == (2, 0, 1)
        service.engine.gate.set()
        for connection in busy:
            assert Reader(connection).answer()[0] == 200
        with connect(service.port) as one_more:
            one_more.sendall(request())
            assert Reader(one_more).answer()[0] == 200
        assert (places.evicted, places.refused) == (1, 1)


def test_idle_connections_of_one_address_do_not_keep_others_out_and_the_metrics_tell():
    with running(max_connections=20, header_timeout_s=20) as service, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(service.port))
        eventually(lambda: service.app.state.service.connections.evicted == 41, "all of them")
        for _ in range(5):
            served(service)
        text = service.client.get("/metrics").text
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("roadseg_connections"))
    assert float(told["roadseg_connections"]) == float(told["roadseg_connections_limit"]) == 20
    assert float(told['roadseg_connections_closed_total{reason="evicted"}']) >= 41
    assert float(told['roadseg_connections_closed_total{reason="refused"}']) == 0


@pytest.mark.parametrize(
    ("target", "expected"),
    [("http://localhost/livez", 200), ("HTTP://127.0.0.1:8000/livez?x=1", 200), ("https://localhost/none", 404)],
)
def test_a_whole_url_is_a_target(service, target, expected):
    with connect(service.port) as connection:
        connection.sendall(request("GET", target))
        assert Reader(connection).answer()[0] == expected


def test_a_url_without_a_path_is_the_page(service):
    with connect(service.port) as connection:
        reader = Reader(connection)
        for target in ("http://localhost", "http://localhost?x", "/"):
            connection.sendall(request("GET", target))
            assert reader.answer()[::2] == reader_of_page(service)


def reader_of_page(service):
    with connect(service.port) as connection:
        connection.sendall(request("GET", "/"))
        return Reader(connection).answer()[::2]


@pytest.mark.parametrize("header", ["Host: localhost", "Host: evil.example"])
def test_a_urls_host_counts_and_not_the_headers(service, header):
    for host, expected in (("evil.example", 421), ("localhost", 200)):
        with connect(service.port) as connection:
            connection.sendall(f"GET http://{host}/livez HTTP/1.1\r\n{header}\r\n\r\n".encode())
            assert Reader(connection).answer()[0] == expected


@pytest.mark.parametrize("target", ["http:///livez", "http://a@localhost/livez", "http://?x"])
def test_a_url_without_a_host_or_with_a_user_is_refused(service, target):
    with connect(service.port) as connection:
        connection.sendall(request("GET", target))
        problem = problem_in(read_to_end(connection))
    assert problem["status"] == 400
    assert "send the path alone" in problem["detail"]


@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        (b"GET  /livez  HTTP/1.1\r\nHost: localhost\r\n\r\n", "'GET  /livez  HTTP/1.1'"),
        (request("GET", "/livez", "X'\": b'y')"), "'X\\'\": b\\'y\\')'"),
        (request("POST", "/segment", "Transfer-Encoding: chunked", body=b"3\r\nabcd\r\n", length=False), r"'d\r'"),
    ],
)
def test_what_is_not_http_is_quoted_without_pythons_types(service, data, quoted):
    with connect(service.port) as connection:
        connection.sendall(data)
        detail = problem_in(read_to_end(connection))["detail"]
    assert "bytearray" not in detail
    assert quoted in detail
    assert "b" + quoted not in detail


@contextmanager
def serving_large_answers(**settings):
    """A service whose answers do not fit into the kernel's buffers, and a request for one of them."""
    with running(max_pixels=4_000_000, max_body_bytes=20_000_000, **settings) as service:
        for listener in service.server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # which its connections inherit
        noise = np.random.default_rng(0).integers(0, 256, (500, 2000, 3), np.uint8)
        yield service, png(noise, compress_level=0)


def connect_with_small_window(port):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", port))
    return connection


@pytest.mark.parametrize("headers", [[], ["Connection: close"]])
def test_a_client_that_does_not_fetch_its_answer_is_dropped(headers):
    with serving_large_answers(upload_timeout_s=1.5) as (service, body):
        others = open_connections(service)
        with connect_with_small_window(service.port) as slow:
            slow.sendall(request("POST", "/segment", *headers, body=body))
            eventually(lambda: service.engine.calls == 1, "the network")
            began = time.monotonic()
            eventually(lambda: open_connections(service) == others, "its end")
            assert 1 < time.monotonic() - began < 4.5  # before an idle connection would be closed
        served(service)


def test_a_client_that_asks_on_without_fetching_is_dropped_too():
    with serving_large_answers(upload_timeout_s=1.5) as (service, body):
        others = open_connections(service)
        with connect_with_small_window(service.port) as slow:
            slow.sendall(request("POST", "/segment", body=body))
            eventually(lambda: service.engine.calls == 1, "the network")
            began = time.monotonic()
            while open_connections(service) > others:
                assert time.monotonic() < began + 15
                with suppress(OSError):
                    slow.send(request())
                time.sleep(0.05)
        assert time.monotonic() - began < 4.5
        eventually(lambda: not service.server.server_state.tasks, "the end of what it asked for")
        served(service)


def test_answers_that_are_not_fetched_have_a_bound_in_bytes(monkeypatch):
    with serving_large_answers(upload_timeout_s=30) as (service, body), ExitStack() as stack:
        connections = service.server.server_state.connections

        def unfetched():
            return sum(connection.transport.get_write_buffer_size() for connection in list(connections))

        others = open_connections(service)
        sizes = []
        for i in range(6):
            connection = stack.enter_context(connect_with_small_window(service.port))
            connection.sendall(request("POST", "/segment", body=body))
            eventually(lambda i=i: service.engine.calls == i + 1, "the network")
            eventually(lambda: not service.server.server_state.tasks, "the answer")
            if i == 0:
                one = unfetched()
                assert one > 100_000
                monkeypatch.setattr(service.server.config.http_protocol_class, "max_unfetched_bytes", 3.5 * one)
            sizes.append(unfetched())
        assert max(sizes) <= 3.5 * one
        eventually(lambda: open_connections(service) == others + 3, "the end of those that waited longest")
        served(service)


@pytest.mark.parametrize("upgrade", ["websocket", "h2c"])
def test_an_upgrade_is_ignored(service, caplog, upgrade):
    headers = ["Connection: Upgrade", f"Upgrade: {upgrade}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]
    with connect(service.port) as connection:
        reader = Reader(connection)
        for _ in range(2):
            connection.sendall(request("GET", "/livez", *headers))
            assert reader.answer()[0] == 200
        connection.sendall(request("POST", "/segment", *headers, body=png()))
        assert reader.answer()[0] == 200
    assert "pgrade" not in caplog.text


LENGTH, CHUNKED = "Content-Length: 3", "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request("POST", "/segment", LENGTH, "Content-Length: 4", body=b"abc", length=False), id="lengths"),
        pytest.param(request("POST", "/segment", "Content-Length: 3, 4", body=b"abc", length=False), id="length-list"),
        pytest.param(request("POST", "/segment", LENGTH, CHUNKED, body=b"0\r\n\r\n", length=False), id="both"),
        pytest.param(request("POST", "/livez", CHUNKED, LENGTH, body=b"0\r\n\r\n", length=False), id="both-turned"),
        pytest.param(
            request("POST", "/segment", CHUNKED, CHUNKED, body=b"0\r\n\r\n", length=False), id="chunked-twice"
        ),
        pytest.param(request("POST", "/segment", "Transfer-Encoding: gzip, chunked"), id="unknown-coding"),
        pytest.param(request("POST", "/segment", "Transfer-Encoding: xchunked"), id="misspelt-coding"),
        pytest.param(request("POST", "/segment", CHUNKED, body=b"zz\r\nabc\r\n", length=False), id="chunk-size"),
        pytest.param(request("POST", "/segment", CHUNKED, body=b"3\r\nabcd\r\n", length=False), id="chunk-end"),
        pytest.param(request("POST", "/segment", CHUNKED, body=b"-3\r\nabc\r\n", length=False), id="chunk-negative"),
        pytest.param(request("POST", "/segment", CHUNKED, body=b"f" * 30 + b"\r\n", length=False), id="chunk-huge"),
        pytest.param(request("POST", "/segment", "Content-Length: -3"), id="length-negative"),
        pytest.param(request("POST", "/segment", "Content-Length: 0x3", body=b"abc", length=False), id="length-hex"),
        pytest.param(request("POST", "/segment", "Content-Length: " + "9" * 5000), id="length-huge"),
        pytest.param(request("POST", "/segment", "Content-Length : 3", body=b"abc", length=False), id="space-in-name"),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET  /livez  HTTP/1.1\r\nHost: localhost\r\n\r\n", id="spaces"),
        pytest.param(b"GET /livez HTTP/11\r\nHost: localhost\r\n\r\n", id="version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
        pytest.param(b"\r\n\r\n\r\n", id="blank-lines"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01", id="tls"),
        pytest.param(bytes(range(256)) * 8, id="noise"),
        pytest.param(request("GET", "/livez", "X: \x00"), id="nul-in-value"),
        pytest.param(request("GET", "/livez\x7f"), id="del-in-path"),
        pytest.param(request("GET", "/livez", "X: " + "y" * 400_000), id="long-header"),
        pytest.param(request("GET", "/livez?" + "y" * 400_000), id="long-path"),
    ],
)
def test_what_is_not_http_is_answered_4xx_and_closed(service, data):
    with connect(service.port) as connection:
        try:
            connection.sendall(data)
        except ConnectionResetError:
            pytest.fail("reset before the answer could be read")
        problem = problem_in(read_to_end(connection))
    assert problem["status"] in {400, 431}
    assert problem["detail"]
    served(service)


def test_headers_that_are_too_large_have_their_own_status(service):
    with connect(service.port) as connection:
        connection.sendall(request("GET", "/livez", "X: " + "y" * 400_000))
        assert problem_in(read_to_end(connection))["status"] == 431


def test_one_answer_only_to_what_is_smuggled_behind_two_lengths(service):
    smuggled = request("GET", "/readyz")
    with connect(service.port) as connection:
        body = b"0\r\n\r\n" + smuggled
        connection.sendall(request("POST", "/segment", f"Content-Length: {len(body)}", CHUNKED) + body)
        answer = read_to_end(connection)
    assert answer.count(b"HTTP/1.1") == 1
    assert problem_in(answer)["status"] == 400


def test_a_chunk_that_breaks_after_the_answer_only_closes(service):
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(request("GET", "/livez", CHUNKED) + b"3\r\nabc\r\n")
        assert reader.answer()[0] == 200
        connection.sendall(b"zz\r\n")
        assert reader.closed()
    served(service)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/livez", 405), ("GET", "/livez", 200), ("POST", "/nothing", 404)]
)
def test_a_body_without_end_on_a_route_that_takes_none_is_bounded(service, method, path, status):
    held = service.admission.held_bytes
    with connect(service.port) as connection:
        connection.sendall(request(method, path, CHUNKED))
        reader = Reader(connection)
        assert reader.answer()[0] == status
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 20:
                connection.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        assert time.monotonic() - began < 10
    assert service.admission.held_bytes == held
    served(service)


def test_a_declared_body_that_is_too_large_is_answered_and_bounded(service):
    with connect(service.port) as connection:
        connection.sendall(request("POST", "/segment", "Content-Length: 1000000000000"))
        reader = Reader(connection)
        assert reader.answer()[0] == 413
        began = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < began + 20:
                connection.sendall(bytes(0x10000))
        assert time.monotonic() - began < 10


def test_a_small_body_that_nobody_reads_leaves_the_connection_usable(service):
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(request("GET", "/livez", LENGTH))
        assert reader.answer()[0] == 200
        connection.sendall(b"abc" + request("POST", "/segment", body=jpeg()))
        assert reader.answer()[0] == 200


def test_a_connection_that_idles_after_a_body_that_nobody_read_is_closed():
    with running(header_timeout_s=1) as service:
        service.server.config.timeout_keep_alive = 1
        with connect(service.port) as connection:
            reader = Reader(connection)
            connection.sendall(request("GET", "/livez", LENGTH))
            assert reader.answer()[0] == 200
            connection.sendall(b"abc")
            assert reader.closed()


def test_leave_to_send_a_body_is_given_after_admission(service):
    body = png()
    with connect(service.port) as connection:
        reader = Reader(connection)
        connection.sendall(request("POST", "/segment", "Expect: 100-continue", f"Content-Length: {len(body)}"))
        assert reader.answer()[0] == 100
        connection.sendall(body)
        assert reader.answer()[0] == 200


def test_who_expects_leave_and_is_refused_is_told_without_it_and_closed(service):
    for header, status in [("Content-Length: 90000000", 413), ("Content-Type: text/html", 415)]:
        with connect(service.port) as connection:
            lines = [header] if status == 413 else [header, "Content-Length: 100"]
            connection.sendall(request("POST", "/segment", "Expect: 100-continue", *lines))
            answer, headers, _ = reader_answer = Reader(connection).answer()
            assert answer == status, reader_answer
            assert headers["connection"] == "close"
            assert read_to_end(connection) == b""


def test_who_expects_leave_in_a_full_house_gets_429_and_no_leave():
    with running(max_queued=1) as service:
        service.engine.gate.clear()
        with connect(service.port) as first, connect(service.port) as second:
            first.sendall(request("POST", "/segment", body=png()))
            assert service.engine.entered.wait(30)
            second.sendall(request("POST", "/segment", "Expect: 100-continue", "Content-Length: 100"))
            status, headers, _ = Reader(second).answer()
            assert (status, headers["connection"]) == (429, "close")
            assert int(headers["retry-after"]) >= 1
            service.engine.gate.set()
            assert Reader(first).answer()[0] == 200


def test_any_refusal_before_the_body_reaches_a_client_that_sends_on():
    with running(max_queued=1, max_body_bytes=20_000_000) as service:
        service.engine.gate.clear()
        with connect(service.port) as first:
            first.sendall(request("POST", "/segment", body=png()))
            assert service.engine.entered.wait(30)
            response = service.client.post("/segment", content=bytes(15_000_000))
            assert_problem(response, 429, "queue-full")
            service.engine.gate.set()
            assert Reader(first).answer()[0] == 200
