"""The OpenAPI document against what the service really does."""

import numpy as np
import pytest
from service_corpus import encode, jpeg, png, scene
from service_running import running

from roadseg_service.answers.parameters import SegmentQuery
from roadseg_service.problems import Problem


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


@pytest.fixture(scope="module")
def operation(document):
    return document["paths"]["/segment"]["post"]


def test_paths(document):
    assert {"/segment", "/segment/batch", "/v1/models", "/v1/taxonomy", "/livez", "/readyz"} <= set(document["paths"])
    assert document["info"]["title"] == "roadseg"


def test_request_bodies(operation):
    body = operation["requestBody"]
    assert body["required"] is True
    form = body["content"].pop("multipart/form-data")["schema"]
    assert form["required"] == ["file"]
    assert form["properties"]["file"] == {"type": "string", "format": "binary"}
    assert set(body["content"]) == {"image/jpeg", "image/png", "image/webp", "application/octet-stream"}


def test_query_parameters(operation, document):
    parameters = {p["name"]: p for p in operation["parameters"]}
    assert set(parameters) == {*SegmentQuery.model_fields, "If-None-Match"}
    assert not any(p["required"] for p in parameters.values())
    assert all(p["description"] for p in parameters.values())
    choices = {name: p["schema"].get("enum") for name, p in parameters.items()}
    assert choices["orientation"] == ["displayed", "stored"]
    assert choices["render"] == ["mask", "overlay"]
    assert choices["geometry"] == ["rle", "polygons"]
    schema = parameters["min_confidence"]["schema"]
    assert (schema["type"], schema["minimum"], schema["maximum"]) == ("number", 0, 1)
    assert "default" not in schema or schema["default"] is None
    batch = {p["name"] for p in document["paths"]["/segment/batch"]["post"]["parameters"]}
    assert batch == {*SegmentQuery.model_fields, "format"}


def test_answer_headers_are_those_sent(operation, client):
    documented = {name.lower() for name in operation["responses"]["200"]["headers"]}
    sent = set(client.post("/segment", content=png()).headers)
    assert documented <= sent
    assert {name for name in sent if name.startswith("x-roadseg")} <= documented


def test_png_answer(operation):
    assert operation["responses"]["200"]["content"]["image/png"]["schema"]["format"] == "binary"


def test_problems(operation, document):
    responses = operation["responses"]
    refused = {"401", "403", "406", "408", "413", "415", "421", "422", "429", "500", "503", "504"}
    assert set(responses) == {"200", "304"} | refused
    assert set(document["paths"]["/segment/batch"]["post"]["responses"]) == {"200"} | refused
    assert document["components"]["schemas"]["Problem"]["required"] == ["type", "title", "status", "detail", "instance"]
    for status, response in responses.items():
        if status in {"200", "304"}:
            continue
        assert set(response["content"]) == {"application/problem+json"}
        content = response["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
        for example in content.get("examples", {}).values():
            assert Problem.model_validate(example["value"]).status == int(status)
    assert {"200", "503"} <= set(document["paths"]["/readyz"]["get"]["responses"])


def test_problem_examples_are_worded_as_the_service_words_them(operation, client):
    def example(status, name):
        content = operation["responses"][status]["content"]["application/problem+json"]
        return {k: v for k, v in content["examples"][name]["value"].items() if k != "instance"}

    def real(**options):
        problem = client.post("/segment", **{"content": png(), **options}).json()
        return {k: v for k, v in problem.items() if k not in {"instance", "errors", "request_id"}}

    assert real(headers={"Accept": "text/html"}) == example("406", "not acceptable")
    assert real(params={"orientation": "sideways"}) == example("422", "query parameter")
    assert real(content=None, files={"image": png()}) == example("422", "no file")
    assert real(headers={"Content-Type": "text/plain"}) == example("415", "content type")
    assert real(content=encode(scene(), "GIF")) == example("415", "image format")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    assert real(content=jpeg(noise)[:20_000]) == example("422", "damaged image")


def test_operations_have_names_that_generated_clients_can_use(document):
    ids = {
        path: {method: operation["operationId"] for method, operation in operations.items()}
        for path, operations in document["paths"].items()
    }
    assert ids["/segment"] == {"post": "segment"}
    assert ids["/segment/batch"] == {"post": "segment_batch"}
    assert ids["/v1/models"] == {"get": "list_models", "post": "change_model"}
    assert ids["/v1/models/rollback"] == {"post": "roll_back"}
    every = [name for operations in ids.values() for name in operations.values()]
    assert len(every) == len(set(every)) and all(name.isidentifier() for name in every)


def test_what_is_open_is_not_said_to_ask_for_keys_or_to_limit(document, tmp_path):
    def statuses(path, method="get"):
        return {status for status in document["paths"][path][method]["responses"] if status > "400"}

    for path in ("/livez", "/readyz", "/metrics"):
        assert {"421", "500"} <= statuses(path) <= {"421", "500", "503"}
    assert {"401", "429"} <= statuses("/v1/taxonomy") and "403" not in statuses("/v1/taxonomy")
    assert {"401", "403", "429"} <= statuses("/v1/models", "post")
    keys = tmp_path / "keys"
    keys.write_text("fleet:user:user-key-0123456789\n")
    keys.chmod(0o600)
    with running(metrics_need_key=True, api_keys_file=str(keys)) as service:
        closed = service.client.get("/openapi.json").json()["paths"]["/metrics"]["get"]["responses"]
    assert {"401", "429"} <= set(closed)


@pytest.mark.parametrize(
    ("path", "status", "options"),
    [
        ("/segment", 200, {"content": png()}),
        ("/segment", 304, {"content": png(), "headers": {"If-None-Match": "*"}}),
        ("/segment", 406, {"content": png(), "headers": {"Accept": "text/html"}}),
        ("/segment", 422, {"content": b""}),
        ("/segment/batch", 200, {"files": {"files": png()}}),
        ("/v1/taxonomy", 200, {}),
        ("/v1/taxonomy", 304, {"headers": {"If-None-Match": "*"}}),
        ("/v1/models", 200, {}),
        ("/metrics", 200, {}),
        ("/livez", 200, {}),
    ],
)
def test_headers_of_every_kind_of_answer_are_described(document, client, path, status, options):
    method = "post" if path.startswith("/segment") else "get"
    response = client.request(method, path, **options)
    assert response.status_code == status
    described = {name.lower() for name in document["paths"][path][method]["responses"][str(status)]["headers"]}
    general = {"date", "server", "content-length", "content-type"}
    assert set(response.headers) - general == described


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
