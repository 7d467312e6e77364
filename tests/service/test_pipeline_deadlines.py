"""Requests whose time is over, wherever they are, and what the times in an answer say."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import eventually, running


@pytest.fixture
def service():
    with running(deadline_s=0.6, max_batch=1) as started:
        yield started


def post(service, size=(24, 40)):
    url = f"{service.client.base_url}/segment"
    return httpx.post(url, content=png(scene(*size)), timeout=60, trust_env=False)


def test_a_network_that_takes_too_long_is_answered_504_at_the_deadline(service, caplog):
    service.engine.gate.clear()
    began = time.monotonic()
    response = post(service)
    assert 0.6 <= time.monotonic() - began < 3
    assert_problem(response, 504, "deadline-exceeded", "within 0.6 s", "try again")
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert "Traceback" not in caplog.text  # it is no error of the server's
    assert service.admission.accepted == 0
    assert service.admission.held_bytes > 0  # the network still has the image
    service.engine.gate.set()
    eventually(lambda: service.admission.held_bytes == 0, "the end of what ran")
    assert (mask_in(post(service)) == mask_of(scene())).all()


def test_what_expires_while_it_waits_never_reaches_the_network():
    with running(deadline_s=2, max_batch=1) as service:
        expire_behind_one(service)


def expire_behind_one(service):
    service.engine.gate.clear()
    with ThreadPoolExecutor(5) as clients:
        first = clients.submit(post, service)
        assert service.engine.entered.wait(30)
        others = [clients.submit(post, service, (30, 30 + i)) for i in range(4)]
        for request in [first, *others]:
            assert_problem(request.result(), 504, "deadline-exceeded")
    assert service.pipeline.batcher.waiting == 0
    service.engine.gate.set()
    eventually(lambda: service.admission.held_bytes == 0, "the end of what ran")
    assert mask_in(post(service)).shape == (24, 40)
    assert service.engine.calls == 2


@pytest.fixture
def held_decoder(service, monkeypatch):
    from roadseg_service import upload

    gate, entered, inspect = threading.Event(), threading.Semaphore(0), upload.inspect_image

    def hold(*arguments, **options):
        entered.release()
        assert gate.wait(30)
        return inspect(*arguments, **options)

    monkeypatch.setattr(upload, "inspect_image", hold)
    yield gate, entered
    gate.set()


def test_what_expires_in_a_decoder_holds_no_memory_for_ever(service, held_decoder):
    gate, entered = held_decoder
    with ThreadPoolExecutor(6) as clients:
        requests = [clients.submit(post, service) for _ in range(6)]  # two are decoded, four wait for that
        for _ in range(2):
            assert entered.acquire(timeout=30)
        statuses = [request.result().status_code for request in requests]
    # Those that come late, on a busy machine, find that the first ones take long.
    assert statuses.count(504) >= 2 and set(statuses) <= {429, 504}
    assert (service.admission.tickets, service.admission.accepted) == (0, 0)
    assert service.admission.held_bytes == 2 * len(png(scene()))  # the two uploads that are in use
    gate.set()
    eventually(lambda: service.admission.held_bytes == 0, "the decoders")
    assert mask_in(post(service)).shape == (24, 40)
    assert service.engine.calls == 1
    assert service.admission.held_bytes == 0


def timings(response):
    pairs = re.findall(r"(\w+);dur=([\d.]+)", response.headers["Server-Timing"])
    return {name: float(milliseconds) for name, milliseconds in pairs}


def test_waiting_for_the_device_and_the_network_are_told_apart():
    with running(max_batch=1, deadline_s=30) as service, ThreadPoolExecutor(2) as clients:
        service.engine.gate.clear()
        first = clients.submit(post, service)
        assert service.engine.entered.wait(30)
        second = clients.submit(post, service)
        eventually(lambda: service.pipeline.batcher.waiting == 1, "the second")
        time.sleep(0.3)
        service.engine.gate.set()
        first, second = timings(first.result()), timings(second.result())
    assert list(first) == list(second) == ["upload", "decode", "queue", "network", "encode"]
    assert first["network"] >= 300 > first["queue"]
    assert second["queue"] >= 300 > second["network"]


def test_load_is_measured_and_too_long_a_wait_is_refused_at_once():
    with running(max_batch=1, deadline_s=1.0, max_queued=100) as service, ThreadPoolExecutor(20) as clients:
        real = service.engine.run

        def slow(images, outputs, *, rescale=True):
            time.sleep(0.15)
            return real(images, outputs, rescale=rescale)

        service.engine.run = slow
        for _ in range(3):
            post(service)
        began = time.monotonic()
        responses = list(clients.map(lambda _: post(service), range(20)))
        assert time.monotonic() - began < 3
        statuses = [response.status_code for response in responses]
        assert set(statuses) == {200, 429}, statuses
        assert 1 <= statuses.count(200) <= 7  # half a second, at 0.15 s each, and some for which a place came free
        refused = next(response for response in responses if response.status_code == 429)
        assert_problem(refused, 429, "queue-full", "would take about", "it may take 1 s")
        assert refused.headers["Retry-After"] == "1"
