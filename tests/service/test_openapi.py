"""The OpenAPI document against what the service really does."""

import pytest
from pycocotools import mask as coco_mask
from service_corpus import png
from service_running import running

from roadseg_service.problems import Problem
from roadseg_service.schemas import SegmentationAnswer


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def operation(document):
    return document["paths"]["/segment"]["post"]


def shape(value):
    """The structure of a JSON value: keys and types, the first element standing for a list."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_paths(document):
    assert set(document["paths"]) == {"/segment", "/v1/models", "/livez", "/readyz"}
    assert document["info"]["title"] == "roadseg"


def test_request_bodies(operation):
    body = operation["requestBody"]
    assert body["required"] is True
    form = body["content"].pop("multipart/form-data")["schema"]
    assert form["required"] == ["file"]
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}
    assert set(body["content"]) == {"image/jpeg", "image/png", "image/webp", "application/octet-stream"}


def test_query_parameter(operation):
    (parameter,) = operation["parameters"]
    assert (parameter["name"], parameter["in"], parameter["required"]) == ("orientation", "query", False)
    assert (parameter["schema"]["enum"], parameter["schema"]["default"]) == (["displayed", "stored"], "displayed")


def test_json_example_has_the_shape_of_a_real_answer(operation, client):
    example = operation["responses"]["200"]["content"]["application/json"]["example"]
    real = client.post("/segment", content=png(), headers={"Accept": "application/json"}).json()
    assert shape(example) == shape(real)
    answer = SegmentationAnswer.model_validate(example)
    for entry, typed in zip(example["classes"], answer.classes, strict=True):
        assert coco_mask.decode(entry["rle"]).sum() == typed.area_px
    assert sum(entry.share for entry in answer.classes) == 1


def test_answer_headers_are_those_sent(operation, client):
    documented = {name.lower() for name in operation["responses"]["200"]["headers"]}
    sent = {name for name in client.post("/segment", content=png()).headers if name.startswith("x-")}
    assert documented == sent


def test_png_answer(operation):
    assert operation["responses"]["200"]["content"]["image/png"]["schema"]["format"] == "binary"


def test_problems(operation, document):
    responses = operation["responses"]
    assert set(responses) == {"200", "406", "408", "413", "415", "422", "429", "500", "503"}
    assert document["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "detail", "instance"]
    for status, response in responses.items():
        if status == "200":
            continue
        assert set(response["content"]) == {"application/problem+json"}
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for example in content["examples"].values():
            assert Problem.model_validate(example["value"]).status == int(status)
    assert set(document["paths"]["/readyz"]["get"]["responses"]) == {"200", "503"}


def test_problem_examples_are_worded_as_the_service_words_them(operation, client):
    def example(status, name):
        content = operation["responses"][status]["content"]["application/problem+json"]
        return {k: v for k, v in content["examples"][name]["value"].items() if k != "instance"}

    def real(**options):
        problem = client.post("/segment", **{"content": png(), **options}).json()
        return {k: v for k, v in problem.items() if k not in {"instance", "errors"}}

    assert real(headers={"Accept": "text/html"}) == example("406", "not acceptable")
    assert real(params={"orientation": "sideways"}) == example("422", "query parameter")
    assert real(content=None, files={"image": png()}) == example("422", "no file")


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references(document))
    assert found
    assert {r.removeprefix("#/components/schemas/") for r in found} <= set(document["components"]["schemas"])


def test_docs_page_can_be_switched_off(client):
    assert client.get("/docs").status_code == 200
    with running(api_docs=False) as service:
        assert service.client.get("/docs").status_code == 404
        assert service.client.get("/openapi.json").status_code == 200
