"""Signals, sent to a real process that serves a fake network."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from raw_http import Reader, connect, problem_in, read_to_end, request
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import eventually

import roadseg
import roadseg_service

HERE = Path(__file__).parent
PATHS = [str(HERE), *(str(Path(module.__file__).parent.parent) for module in (roadseg, roadseg_service))]


@dataclass
class Serving:
    """A process that serves."""

    process: subprocess.Popen
    client: httpx.Client

    @property
    def port(self):
        return self.client.base_url.port

    def post(self, data, client=None):
        return (client or self.client).post("/segment", content=data)

    def signal(self, number):
        self.process.send_signal(number)
        return time.monotonic()

    def exit_status_within(self, since, seconds):
        """The status, having ended in time; half a second is for a machine that does other things too."""
        status = self.process.wait(60)
        assert time.monotonic() - since < seconds + 0.5
        return status


def is_ready(client):
    return client.get("/readyz").status_code == 200


@contextmanager
def serving(*, port=0, drain_s=0.0, graceful_s=5, seconds_each=0.0, what=""):
    command = [sys.executable, str(HERE / "serve_fake.py"), *map(str, (port, drain_s, graceful_s, seconds_each)), what]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROADSEG_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(PATHS)}
    process = subprocess.Popen(command[: None if what else -1], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            if what != "loading":
                eventually(lambda: is_ready(client), "the model")
            yield Serving(process, client)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_sigterm_under_load_from_eight_clients_loses_nothing():
    picture = scene()
    data, expected = png(picture), mask_of(picture)

    with serving(drain_s=1, seconds_each=0.03) as service:
        told = threading.Event()

        def ask_until_refused(_):
            answers = 0
            with httpx.Client(base_url=service.client.base_url, timeout=60, trust_env=False) as client:
                while True:
                    was_told = told.is_set()
                    response = service.post(data, client)  # whatever httpx raises fails the test
                    if response.status_code != 200:
                        assert_problem(response, 503, "draining", "about to stop")
                        assert response.headers["Retry-After"] == "1"
                        return answers, was_told
                    assert (mask_in(response) == expected).all()
                    answers += 1

        with ThreadPoolExecutor(8) as clients:
            asking = [clients.submit(ask_until_refused, i) for i in range(8)]
            time.sleep(1)
            told.set()
            since = service.signal(signal.SIGTERM)
            time.sleep(0.3)
            with httpx.Client(base_url=service.client.base_url, timeout=60, trust_env=False) as balancer:
                response = balancer.get("/readyz")
                assert_problem(response, 503, "draining")
                assert int(response.headers["Retry-After"]) >= 1
                assert balancer.get("/livez").status_code == 200
            outcomes = [future.result() for future in asking]
        assert service.exit_status_within(since, 1 + 5 + 2) == 0
    assert sum(answers for answers, _ in outcomes) > 8
    assert time.monotonic() - since >= 1
    with pytest.raises(OSError):
        connect(service.port)


def test_what_was_accepted_is_finished_after_the_drain_phase():
    with serving(drain_s=0.2, seconds_each=0.7) as service, ThreadPoolExecutor(3) as clients:
        asking = [
            clients.submit(httpx.post, f"{service.client.base_url}/segment", content=png(), timeout=60, trust_env=False)
            for _ in range(3)
        ]
        time.sleep(0.4)
        since = service.signal(signal.SIGTERM)
        for future in asking:
            assert (mask_in(future.result()) == mask_of(scene())).all()
        assert time.monotonic() - since > 0.5
        assert service.exit_status_within(since, 0.2 + 5 + 2) == 0


def test_an_upload_that_had_begun_is_finished():
    with serving(drain_s=0.3) as service, connect(service.port) as slow:
        data = request("POST", "/segment", body=png())
        slow.sendall(data[:-20])
        time.sleep(0.3)
        since = service.signal(signal.SIGTERM)
        time.sleep(1)
        slow.sendall(data[-20:])
        assert Reader(slow).answer()[0] == 200
        assert service.exit_status_within(since, 0.3 + 5 + 2) == 0


def test_idle_and_half_open_connections_do_not_keep_it():
    with serving(drain_s=0.2, graceful_s=20) as service, connect(service.port) as idle, connect(service.port) as half:
        idle.sendall(request())
        assert Reader(idle).answer()[0] == 200
        half.sendall(b"GET /livez HT")
        since = service.signal(signal.SIGTERM)
        assert service.exit_status_within(since, 2) == 0
        assert read_to_end(half) == b""


def test_requests_that_arrive_just_after_the_drain_phase_are_told_and_not_reset():
    with serving(drain_s=0.3) as service, connect(service.port) as new, connect(service.port) as kept:
        reader = Reader(kept)
        kept.sendall(request())
        assert reader.answer()[0] == 200
        since = service.signal(signal.SIGTERM)
        time.sleep(0.8)
        for connection, begin in ((new, Reader(new)), (kept, reader)):
            connection.sendall(request("POST", "/segment", body=png()))
            assert begin.answer()[0] == 503
        assert Reader(new).closed()
        assert reader.closed()
        assert service.exit_status_within(since, 0.3 + 5 + 2) == 0


def test_a_log_that_nobody_reads_holds_up_neither_answers_nor_the_end():
    with serving(drain_s=0.2, what="logging") as service, connect(service.port) as connection:
        reader = Reader(connection)
        for _ in range(20):
            connection.sendall(request() * 50)  # a line each, of more than 200 bytes: twice what the pipe takes
            for _ in range(50):
                assert reader.answer()[0] == 200
        since = service.signal(signal.SIGTERM)
        assert service.exit_status_within(since, 0.2 + 2 + 1) == 0
        assert len(service.process.stdout.read()) > 60_000  # what the pipe took


def test_without_descriptors_it_says_so_seldom_and_serves_those_that_are_connected():
    with serving(what="logging") as service, ExitStack() as stack:
        connection = stack.enter_context(connect(service.port))
        reader = Reader(connection)
        connection.sendall(request())
        assert reader.answer()[0] == 200
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (60, 4096))
        waiting = [stack.enter_context(connect(service.port)) for _ in range(200)]
        began = time.monotonic()
        while time.monotonic() < began + 2.5:
            asked = time.monotonic()
            connection.sendall(request())
            assert reader.answer()[0] == 200
            assert time.monotonic() - asked < 1
            time.sleep(0.05)
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (4096, 4096))
        waiting[-1].sendall(request())
        assert Reader(waiting[-1]).answer()[0] == 200
        service.signal(signal.SIGTERM)
        told = service.process.stdout.read()
        assert 1 <= told.count("no new connection can be taken: [Errno 24] Too many open files") <= 5
        assert "out of system resource" not in told


def test_a_client_that_never_ends_its_upload_does_not_keep_it_for_ever():
    with serving(drain_s=0.2, graceful_s=1) as service, connect(service.port) as slow:
        slow.sendall(request("POST", "/segment", body=png())[:-20])
        time.sleep(0.3)
        since = service.signal(signal.SIGTERM)
        assert service.exit_status_within(since, 0.2 + 1 + 2) == 0


def test_a_network_that_hangs_does_not_keep_it_and_the_status_is_0():
    with serving(drain_s=0.2, graceful_s=1, what="hanging") as service, connect(service.port) as waiting:
        waiting.sendall(request("POST", "/segment", body=png()))
        time.sleep(0.3)
        since = service.signal(signal.SIGTERM)
        assert service.exit_status_within(since, 0.2 + 1 + 2) == 0
        problem = problem_in(read_to_end(waiting))
        assert (problem["status"], problem["type"]) == (503, "urn:roadseg:problem:draining")


def test_a_model_that_still_loads_does_not_keep_it():
    with serving(drain_s=0.2, graceful_s=1, what="loading") as service:
        assert_problem(service.client.get("/readyz"), 503, "model-not-ready")
        since = service.signal(signal.SIGTERM)
        time.sleep(0.1)
        assert_problem(service.client.get("/readyz"), 503, "draining")
        assert service.exit_status_within(since, 0.2 + 1 + 2) == 0


def test_a_second_sigterm_skips_the_drain_phase_and_not_what_was_accepted():
    with serving(drain_s=60, seconds_each=1) as service, ThreadPoolExecutor(1) as client:
        asking = client.submit(service.post, png())
        time.sleep(0.3)
        service.signal(signal.SIGTERM)
        time.sleep(0.3)
        since = service.signal(signal.SIGTERM)
        assert (mask_in(asking.result()) == mask_of(scene())).all()
        assert service.exit_status_within(since, 5 + 2) == 0


def test_sigint_has_no_drain_phase_and_finishes_what_was_accepted():
    with serving(drain_s=60, seconds_each=1) as service, ThreadPoolExecutor(1) as client:
        asking = client.submit(service.post, png())
        time.sleep(0.3)
        since = service.signal(signal.SIGINT)
        assert (mask_in(asking.result()) == mask_of(scene())).all()
        assert service.exit_status_within(since, 5 + 2) == 0


def test_a_second_sigint_ends_what_still_runs():
    with serving(drain_s=60, graceful_s=60, what="hanging") as service, connect(service.port) as waiting:
        waiting.sendall(request("POST", "/segment", body=png()))
        time.sleep(0.3)
        for _ in range(3):
            since = service.signal(signal.SIGINT)
            time.sleep(0.3)
        assert service.exit_status_within(since, 2) == 0


def test_killed_and_started_again_on_the_same_port_at_once():
    with serving(seconds_each=5) as service, ThreadPoolExecutor(1) as client:
        lost = client.submit(service.post, png())
        time.sleep(0.3)
        service.process.kill()
        service.process.wait()
        with pytest.raises(httpx.TransportError):
            lost.result()
        with serving(port=service.port) as again:
            assert again.port == service.port
            assert (mask_in(again.post(png())) == mask_of(scene())).all()
