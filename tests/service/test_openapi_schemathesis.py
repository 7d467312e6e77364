"""The running service against its own OpenAPI document, with requests that schemathesis makes up."""

import hypothesis
import pytest
from hypothesis import strategies as st
from service_corpus import jpeg, png, scene, webp
from service_running import running
from service_scored import scored_predictor

schemathesis = pytest.importorskip("schemathesis", reason="pip install '.[dev]' brings schemathesis")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

PATHS = ["/segment", "/segment/batch", "/v1/taxonomy", "/v1/models", "/livez", "/readyz"]

# Random bytes are no image: with some that are, requests get past the decoder.
IMAGES = st.sampled_from([png(scene(9, 13)), jpeg(scene(16, 12)), webp(scene(8, 8)), png()[:100], b""])
UPLOADS = IMAGES | st.binary(max_size=64)


ACCEPT = [
    None,
    None,
    "application/json",
    "image/webp, image/png;q=0.5",
    "application/json, */*;q=0.1",
    "multipart/mixed",
]


@pytest.fixture(scope="module")
def base_url():
    schemathesis.openapi.format("binary", UPLOADS)
    for kind in ("image/png", "image/jpeg", "image/webp", "application/octet-stream"):
        schemathesis.openapi.media_type(kind, UPLOADS)
    with running(scored_predictor) as service:
        yield str(service.client.base_url)


@pytest.fixture(scope="module")
def schema(base_url):
    return schemathesis.openapi.from_url(f"{base_url}/openapi.json")


def make_coherent(query):
    """Take out what the document cannot say: unknown classes, and parameters that have no effect beside others."""
    if "classes" in query:
        query["classes"] = "class_1,3"
    gone = ["geometry", "confidence"] if query.get("render") == "overlay" else ["opacity"]
    if query.get("geometry") != "polygons" or "geometry" in gone:
        gone.append("tolerance_px")
    for name in (*gone, "format"):
        query.pop(name, None)


def check(schema, base_url, path, mode, examples):
    method = "POST" if path.startswith("/segment") else "GET"
    seen = set()

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(schema[path][method].as_strategy(generation_mode=mode), st.sampled_from(ACCEPT), st.booleans())
    def ask(case, accept, coherent):
        if coherent:
            make_coherent(case.query)
        if accept:
            case.headers["Accept"] = accept
        response = case.call(base_url=base_url)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    ask()
    return seen


@pytest.mark.parametrize("path", PATHS)
def test_answers_are_as_documented(schema, base_url, path):
    seen = check(schema, base_url, path, GenerationMode.POSITIVE, 40 if path.startswith("/segment") else 5)
    assert 200 in seen


@pytest.mark.parametrize("path", ["/segment", "/segment/batch"])
def test_answers_to_wrong_requests_are_as_documented(schema, base_url, path):
    seen = check(schema, base_url, path, GenerationMode.NEGATIVE, 20)
    assert seen & {415, 422}


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", ["/segment", "/segment/batch"])
def test_answers_are_as_documented_at_length(schema, base_url, path, mode):
    assert len(check(schema, base_url, path, mode, 1000)) > 1
