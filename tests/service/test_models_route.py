"""/v1/models."""

from service_asserts import assert_problem
from service_running import DIGEST, running


def test_the_model_and_its_classes(client):
    (model,) = client.get("/v1/models").json()["models"]
    assert model["name"] == "fake-nano"
    assert model["digest"] == DIGEST
    assert (model["taxonomy"]["name"], model["taxonomy"]["version"]) == ("five", 3)
    assert model["taxonomy"]["classes"][2] == {"id": 2, "name": "class_2", "colour": [20, 40, 60]}
    assert len(model["taxonomy"]["classes"]) == 5
    assert model["weights_licence"] == "CC0-1.0"
    assert (model["engine"], model["device"], model["precision"]) == ("fake", "none", "exact")
    assert model["limits"] == {
        "max_body_bytes": 2_000_000,
        "max_pixels": 1_000_000,
        "formats": ["image/jpeg", "image/png", "image/webp"],
    }


def test_unexpected_error_is_a_problem_without_internals(caplog):
    with running(lambda: object()) as service:  # no predictor at all: whatever touches it fails
        response = service.client.get("/v1/models")
        problem = assert_problem(response, 500, None, "unexpected error", "log")
        assert "attribute" not in response.text
        assert "Traceback" not in response.text
        assert service.client.get("/livez").status_code == 200
    assert problem["instance"] in caplog.text
    assert "AttributeError" in caplog.text
