"""Every example of the OpenAPI document and of the documentation, run."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from service_curl import BASE, run_curl
from service_running import running
from service_scored import scored_predictor

from roadseg.images import DecodedImage
from roadseg.inference.bundled import DEFAULT_MODEL, model_path
from roadseg.inference.package import read_model_file
from roadseg.inference.result import SegmentationResult
from roadseg_service.answers.encoding import encode_answer
from roadseg_service.answers.options import JSON, AnswerOptions
from roadseg_service.api_examples import SAMPLES
from roadseg_service.schemas import SegmentationAnswer

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="pip install '.[dev]' brings it, with schemathesis")

DOCS = Path(__file__).parents[2] / "docs" / "service.md"

SAMPLE_LIST = [(where, sample) for where, samples in SAMPLES.items() for sample in samples]


@pytest.fixture(scope="module")
def client():
    with running(scored_predictor) as service:
        yield service.client


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def documented_lines():
    text = DOCS.read_text(encoding="utf-8")
    section = text[text.index("## Endpoints") : text.index("## How images are read")]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("curl ")]


def assert_as_documented(response, where, document):
    """Status, media type, headers and, of JSON, the schema are those of the document."""
    method, path = where
    documented = document["paths"][path][method]["responses"][str(response.status_code)]
    kind = response.headers["content-type"].partition(";")[0]
    assert kind in documented["content"]
    for name in documented.get("headers", {}):
        assert name in response.headers
    if kind == JSON:
        schema = {**documented["content"][kind]["schema"], "components": document["components"]}
        jsonschema_rs.Draft202012Validator(schema).validate(response.json())


@pytest.mark.parametrize(
    ("where", "sample"), SAMPLE_LIST, ids=lambda value: value["label"] if "label" in value else None
)
def test_samples_of_the_document_run(client, document, where, sample):
    assert sample in document["paths"][where[1]][where[0]]["x-codeSamples"]
    response, called = run_curl(client, sample["source"])
    assert called == where
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].partition(";")[0] == sample["x-media-type"]
    assert_as_documented(response, where, document)


@pytest.mark.parametrize("line", documented_lines())
def test_lines_of_the_documentation_run(client, document, line):
    response, where = run_curl(client, line)
    assert response.status_code == 200, response.text
    assert_as_documented(response, where, document)


def test_the_documentation_has_lines_for_each_way_of_asking():
    text = "\n".join(documented_lines())
    for wanted in (
        "render=overlay",
        "geometry=polygons",
        "confidence=true",
        "/segment/batch",
        "classes=",
        "/v1/taxonomy",
    ):
        assert wanted in text
    assert BASE in text


def test_all_samples_are_in_the_document(document):
    found = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "x-codeSamples" in operation
    }
    assert found == set(SAMPLES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("run lengths", AnswerOptions(media_type=JSON)),
        ("polygons", AnswerOptions(media_type=JSON, geometry="polygons", tolerance_px=0)),
        ("confidences", AnswerOptions(media_type=JSON, confidence=True)),
    ],
)
def test_example_answers_are_what_the_bundled_model_answers(document, name, options):
    model = read_model_file(model_path(DEFAULT_MODEL))
    taxonomy = model.header.taxonomy
    road, sky = taxonomy.names.index("road"), taxonomy.names.index("sky")
    mask = np.array([[sky] * 4, [road] * 3 + [sky], [road] * 4], np.uint8)
    confidence = np.where(mask == sky, 0.75, 0.5).astype(np.float32)
    pixels = np.zeros((3, 4, 3), np.uint8)
    result = SegmentationResult(pixels, mask, taxonomy, model.digest, confidence)
    if not options.confidence:
        result = replace(result, confidence=None)
    image = DecodedImage(pixels, "JPEG", 1, "displayed")
    answer = json.loads(encode_answer(image, result, DEFAULT_MODEL, options).body)
    shown = document["paths"]["/segment"]["post"]["responses"]["200"]["content"][JSON]["examples"][name]["value"]
    assert answer == shown
    assert SegmentationAnswer.model_validate(shown).model_dump(mode="json", exclude_none=True) == shown
