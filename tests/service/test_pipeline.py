"""Many clients, failures of the engine, and the bounds on what is held."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from service_asserts import assert_problem, mask_in
from service_corpus import jpeg, mask_of, png, rgb, scene, webp
from service_running import eventually, running


@pytest.fixture
def service():
    with running() as started:
        yield started


def test_twelve_clients_get_their_own_answers(service):
    def ask(number):
        make = (png, jpeg, webp)[number % 3]
        base_url = service.client.base_url
        with httpx.Client(base_url=base_url, timeout=60, trust_env=False) as client:
            for turn in range(3):
                data = make(scene(30 + number, 200 - 9 * number - turn, seed=turn))
                expected = mask_of(rgb(data))
                if turn == 1:
                    answer = client.post("/segment", files={"file": data}, headers={"Accept": "application/json"})
                    mask = sum(e["id"] * coco_mask.decode(e["rle"]).astype(int) for e in answer.json()["classes"])
                else:
                    mask = mask_in(client.post("/segment", content=data))
                np.testing.assert_array_equal(mask, expected)
        return True

    with ThreadPoolExecutor(12) as clients:
        assert all(clients.map(ask, range(12)))
    assert service.engine.calls == 36  # and never two at once, which the engine checks
    assert service.admission.accepted == 0


def test_alive_while_the_network_is_busy(service):
    service.engine.gate.clear()
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(
            httpx.post, f"{service.client.base_url}/segment", content=png(), timeout=60, trust_env=False
        )
        assert service.engine.entered.wait(30)
        assert service.client.get("/livez").status_code == 200
        assert service.client.get("/v1/models").status_code == 200
        assert not slow.done()
        service.engine.gate.set()
        assert (mask_in(slow.result()) == mask_of(scene())).all()


@pytest.mark.parametrize(
    ("failure", "status", "slug", "fragment"),
    [
        (RuntimeError("secret shape mismatch"), 500, "prediction-failed", "40x24 pixels"),
        (RuntimeError("CUDA out of memory. Tried to allocate secret"), 503, "out-of-memory", "smaller image"),
        (MemoryError("secret"), 503, "out-of-memory", "smaller image"),
    ],
)
def test_engine_failure_is_a_problem_and_the_next_request_is_right(service, caplog, failure, status, slug, fragment):
    service.engine.failure = failure
    response = service.client.post("/segment", content=png())
    problem = assert_problem(response, status, slug, fragment)
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert problem["instance"] in caplog.text

    service.engine.failure = None
    assert (mask_in(service.client.post("/segment", content=png())) == mask_of(scene())).all()


def test_memory_running_out_in_decoding_is_a_problem(service, monkeypatch):
    def decode(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("roadseg_service.upload.decode_inspected", decode)
        response = service.client.post("/segment", content=png())
    assert_problem(response, 503, "out-of-memory", "decoding the image")
    assert mask_in(service.client.post("/segment", content=png())).shape == (24, 40)


def test_full_queue():
    with running(max_queued=2) as service, ThreadPoolExecutor(2) as others:
        service.engine.gate.clear()
        url = f"{service.client.base_url}/segment"
        held = [others.submit(httpx.post, url, content=png(), timeout=60, trust_env=False) for _ in range(2)]
        eventually(lambda: service.admission.accepted == 2, "two requests")
        response = service.client.post("/segment", content=png())
        assert_problem(response, 429, "queue-full", "2 requests", "try again")
        assert int(response.headers["Retry-After"]) > 0
        service.engine.gate.set()
        for request in held:
            assert (mask_in(request.result()) == mask_of(scene())).all()
        eventually(lambda: service.admission.accepted == 0, "the places")
        assert mask_in(service.client.post("/segment", content=png())).shape == (24, 40)


def test_work_of_a_client_that_left_is_dropped(service):
    service.engine.gate.clear()
    with ThreadPoolExecutor(1) as other:
        url = f"{service.client.base_url}/segment"
        first = other.submit(httpx.post, url, content=png(), timeout=60, trust_env=False)
        assert service.engine.entered.wait(30)
        leaving = socket.create_connection(("127.0.0.1", service.port))
        body = png(scene(50, 50))
        leaving.sendall(
            b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        eventually(lambda: service.admission.accepted == 2, "the second request")
        leaving.close()
        eventually(lambda: service.admission.accepted == 1, "its end")
        service.engine.gate.set()
        assert (mask_in(first.result()) == mask_of(scene())).all()
    assert mask_in(service.client.post("/segment", content=png())).shape == (24, 40)
    assert service.engine.calls == 2


def test_client_that_leaves_while_uploading_frees_its_place(service):
    leaving = socket.create_connection(("127.0.0.1", service.port))
    leaving.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nstart")
    eventually(lambda: service.admission.held_bytes == 5, "the request")
    assert service.admission.accepted == 0
    leaving.close()
    eventually(lambda: service.admission.tickets == 0, "its end")
    assert service.admission.held_bytes == 0
    assert service.engine.calls == 0


def test_upload_that_never_ends():
    with running(upload_timeout_s=0.2) as service:
        with socket.create_connection(("127.0.0.1", service.port), timeout=30) as slow:
            slow.sendall(b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nstart")
            answer = b""
            while chunk := slow.recv(65536):  # until the server closes the connection
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert "within 0.2 s" in json.loads(body)["detail"]
        assert service.admission.accepted == 0


def test_model_name_that_no_header_can_hold():
    with running(model="/models/straße\n✓.safetensors") as service:
        response = service.client.post("/segment", content=png())
        assert response.headers["X-Roadseg-Model"] == "stra%C3%9Fe%0A%E2%9C%93"
        assert (mask_in(response) == mask_of(scene())).all()
