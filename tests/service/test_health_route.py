"""/livez and /readyz, and what happens before the model is there."""

import threading

from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import DIGEST, HEADER, FakeEngine, eventually, running

from roadseg.errors import ModelFileError
from roadseg.inference.predictor import Predictor


def test_ready(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.head("/livez").status_code == client.head("/readyz").status_code == 200


def test_while_the_model_loads():
    gate = threading.Event()

    def load():
        assert gate.wait(30)
        return Predictor(FakeEngine(), HEADER, DIGEST)

    with running(load, wait_until_ready=False) as service:
        client = service.client
        try:
            assert client.get("/livez").status_code == 200
            for response in (
                client.get("/readyz"),
                client.get("/v1/models"),
                client.post("/segment", content=png()),
            ):
                assert_problem(response, 503, "model-not-ready", "'fake-nano' is still loading")
                assert int(response.headers["Retry-After"]) > 0
        finally:
            gate.set()
        eventually(lambda: client.get("/readyz").status_code == 200, "the model")
        assert (mask_in(client.post("/segment", content=png())) == mask_of(scene())).all()


def test_load_failure_tells_the_reason(caplog):
    def load():
        raise ModelFileError("fake.safetensors has a damaged header; package it again")

    with running(load, wait_until_ready=False) as service:
        client = service.client
        eventually(lambda: "Retry-After" not in client.get("/readyz").headers, "the failure")
        for response in (client.get("/readyz"), client.post("/segment", content=png())):
            assert_problem(response, 503, "model-not-ready", "could not be loaded", "has a damaged header; package it")
        assert client.get("/livez").status_code == 200
    assert "has a damaged header" in caplog.text


def test_unforeseen_load_failure_keeps_internals_to_the_log(caplog):
    def load():
        raise KeyError("secret-internal-name")

    with running(load, wait_until_ready=False) as service:
        eventually(lambda: "Retry-After" not in service.client.get("/readyz").headers, "the failure")
        response = service.client.get("/readyz")
        assert_problem(response, 503, "model-not-ready", "KeyError", "log")
        assert "secret-internal-name" not in response.text
    assert "secret-internal-name" in caplog.text
