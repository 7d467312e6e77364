"""/v1/models."""

from dataclasses import replace

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import DIGEST, HEADER, TAXONOMY, FakeEngine, running

from roadseg.errors import ModelFileError
from roadseg.inference.predictor import Predictor
from roadseg.taxonomy import RoadClass, Taxonomy


def test_the_model_and_its_classes(client):
    (model,) = client.get("/v1/models").json()["models"]
    assert model["name"] == "fake-nano"
    assert model["digest"] == DIGEST
    assert (model["taxonomy"]["name"], model["taxonomy"]["version"]) == ("five", 3)
    assert model["taxonomy"]["classes"][2] == {
        "id": 2,
        "name": "class_2",
        "colour": [20, 40, 60],
        "group": "other",
        "left_right": None,
        "refines": None,
    }
    assert model["taxonomy"]["family"] is None
    assert len(model["taxonomy"]["classes"]) == 5
    assert model["weights_licence"] == "CC0-1.0"
    assert (model["engine"], model["device"], model["precision"]) == ("fake", "none", "exact")
    assert model["limits"] == {
        "max_body_bytes": 2_000_000,
        "max_pixels": 1_000_000,
        "max_side_px": 16_383,
        "formats": ["image/jpeg", "image/png", "image/webp"],
    }


LONE = "\ud800"
"""Half of a surrogate pair: the JSON of a header can say it, UTF-8 cannot."""


@pytest.mark.parametrize(
    "header",
    [
        replace(HEADER, weights_licence=f"CC0{LONE}"),
        replace(HEADER, taxonomy=replace(TAXONOMY, name=f"five{LONE}")),
        replace(HEADER, taxonomy=Taxonomy("five", 10**400, TAXONOMY.classes)),
        replace(HEADER, taxonomy=Taxonomy("five", 3, (RoadClass(LONE, (0, 0, 0)), *TAXONOMY.classes[1:]))),
        replace(HEADER, provenance={"note": LONE}),
    ],
)
def test_odd_values_of_a_header_are_shown(header):
    with running(lambda: Predictor(FakeEngine(), header, DIGEST)) as service:
        (model,) = service.client.get("/v1/models").json()["models"]
        assert model["weights_licence"] == header.weights_licence.replace(LONE, "?")
        assert model["taxonomy"]["name"] == header.taxonomy.name.replace(LONE, "?")
        assert model["taxonomy"]["version"] == header.taxonomy.version
        assert [c["name"] for c in model["taxonomy"]["classes"]] == [
            name.replace(LONE, "?") for name in header.taxonomy.names
        ]
        assert (mask_in(service.client.post("/segment", content=png())) == mask_of(scene())).all()
        answer = service.client.post("/segment", content=png(), headers={"Accept": "application/json"})
        assert answer.json()["taxonomy"]["name"] == model["taxonomy"]["name"]


def test_a_failure_that_quotes_an_odd_value_is_told():
    def load():
        raise ModelFileError(f"no backbone '{LONE}'")

    with running(load, wait_until_ready=False) as service:
        for path in ("/v1/models", "/readyz"):
            response = service.client.get(path)
            while "still loading" in response.text:
                response = service.client.get(path)
            assert_problem(response, 503, "model-not-ready", "no backbone '?'")


def test_unexpected_error_is_a_problem_without_internals(caplog):
    with running() as service:
        service.app.state.service.model._models = (object(), None)  # no model at all: whatever touches it fails
        response = service.client.get("/v1/models")
        problem = assert_problem(response, 500, None, "unexpected error", "log")
        assert "attribute" not in response.text
        assert "Traceback" not in response.text
        assert service.client.get("/livez").status_code == 200
    assert problem["instance"] in caplog.text
    assert "AttributeError" in caplog.text


def test_nothing_loads_or_has_changed(client):
    answer = client.get("/v1/models").json()
    assert [model["role"] for model in answer["models"]] == ["active"]
    assert answer["loading"] is None
    last = answer["last_attempt"]
    assert (last["trigger"], last["model"], last["outcome"]) == ("start", "fake-nano", "succeeded")
    assert last["seconds"] >= 0


def test_without_a_file_of_keys_nobody_changes_the_model(client):
    answer = client.post("/v1/models", json={"model": "roadseg-nano"})
    assert_problem(answer, 403, "admin-only", "no file of API keys")
