"""/livez and /readyz, and what happens before the model is there."""

import threading

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import DIGEST, HEADER, FakeEngine, eventually, running

from roadseg.errors import ConfigError, ModelFileError
from roadseg.inference.predictor import Predictor
from roadseg_service.settings import load_settings


def test_ready(client):
    assert client.get("/livez").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.head("/livez").status_code == client.head("/readyz").status_code == 200


def test_whatever_answers_get_answers_head_alike_but_for_the_body(client):
    for path in ("/v1/models", "/v1/taxonomy", "/metrics"):
        whole, head = client.get(path), client.head(path)
        assert (whole.status_code, head.status_code, head.content) == (200, 200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers.get("etag") == whole.headers.get("etag")
        assert int(head.headers["content-length"]) > 0


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


def test_ready_only_after_a_pass_that_warms_up():
    engine = FakeEngine()
    engine.gate.clear()
    with running(lambda: Predictor(engine, HEADER, DIGEST), wait_until_ready=False) as service:
        try:
            assert engine.entered.wait(30)
            answer = service.client.get("/readyz")
            assert_problem(answer, 503, "model-not-ready", "'fake-nano' is still loading")
            assert service.client.get("/livez").status_code == 200
        finally:
            engine.gate.set()
        eventually(lambda: service.client.get("/readyz").status_code == 200, "the model")
        assert engine.calls == 1


def test_it_is_warmed_up_at_the_sizes_of_the_settings():
    shapes = []

    class Watched(FakeEngine):
        """Notes what it runs."""

        def run(self, images, outputs, *, rescale=True):
            shapes.append(images.shape)
            return super().run(images, outputs, rescale=rescale)

    with running(lambda: Predictor(Watched(), HEADER, DIGEST), warm_up_sizes="64x32, 30x40"):
        assert shapes == [(1, 32, 64, 3), (1, 40, 30, 3)]
    shapes.clear()
    with running(lambda: Predictor(Watched(), HEADER, DIGEST)):
        assert shapes == [(1, 360, 480, 3)]
    shapes.clear()
    with running(lambda: Predictor(Watched(), HEADER, DIGEST, static_size=(48, 16))):  # it takes no other
        assert shapes == [(1, 48, 16, 3)]


@pytest.mark.parametrize("size", ["640", "0x5", "640X480", "640 x 480", "-1x4", "123456x1", "", "1920x1080x3"])
def test_what_is_no_size_ends_the_start(size):
    with pytest.raises(ConfigError, match="warm_up_sizes"):
        load_settings(warm_up_sizes=size)


def test_a_model_that_fails_its_first_pass_is_never_ready(caplog):
    engine = FakeEngine()
    engine.failure = RuntimeError("secret kernel")
    with running(lambda: Predictor(engine, HEADER, DIGEST), wait_until_ready=False) as service:
        eventually(lambda: "Retry-After" not in service.client.get("/readyz").headers, "the failure")
        response = service.client.get("/readyz")
        assert_problem(response, 503, "model-not-ready", "could not be loaded", "RuntimeError", "log")
        assert "secret" not in response.text
    assert "secret kernel" in caplog.text


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


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("/srv/models/city.safetensors has a damaged header", "city.safetensors has a damaged header"),
        ("cannot read '/srv/models/city.safetensors/x' and/or 3/4", "cannot read 'city.safetensors/x' and/or 3/4"),
        ("cannot write /home/maps/.cache/roadseg/x; chmod it", "the server's log has the details"),
        ("see (/srv/other), made of /srv/models/city.safetensors", "the server's log has the details"),
        ("look at ~/secret", "the server's log has the details"),
    ],
)
def test_strangers_are_told_no_folders_of_the_machine(caplog, reason, told):
    def load():
        raise ModelFileError(reason)

    with running(load, wait_until_ready=False, model="/srv/models/city.safetensors") as service:
        eventually(lambda: "Retry-After" not in service.client.get("/readyz").headers, "the failure")
        detail = assert_problem(service.client.get("/readyz"), 503, "model-not-ready")["detail"]
        assert detail == f"model 'city' could not be loaded: {told}"
    assert reason in caplog.text


def test_a_model_goes_by_the_name_that_it_was_loaded_with():
    named = Predictor(FakeEngine(), HEADER, DIGEST, name="city-v1.2")
    with running(lambda: named, model="/model") as service:
        assert service.client.get("/v1/models").json()["models"][0]["name"] == "city-v1.2"
        assert service.client.post("/segment", content=png()).headers["X-Roadseg-Model"] == "city-v1.2"


def test_unforeseen_load_failure_keeps_internals_to_the_log(caplog):
    def load():
        raise KeyError("secret-internal-name")

    with running(load, wait_until_ready=False) as service:
        eventually(lambda: "Retry-After" not in service.client.get("/readyz").headers, "the failure")
        response = service.client.get("/readyz")
        assert_problem(response, 503, "model-not-ready", "KeyError", "log")
        assert "secret-internal-name" not in response.text
    assert "secret-internal-name" in caplog.text
