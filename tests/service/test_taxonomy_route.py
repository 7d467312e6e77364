"""/v1/taxonomy."""

from dataclasses import replace

import pytest
from service_asserts import assert_problem
from service_corpus import png
from service_running import DIGEST, HEADER, TAXONOMY, FakeEngine, running

from roadseg.inference.predictor import Predictor
from roadseg.taxonomy import RoadClass, Taxonomy

PAIRED = Taxonomy(
    "paired",
    7,
    (
        RoadClass("kerb_left", (1, 2, 3), "edge", "kerb_right", "kerb"),
        RoadClass("road", (9, 9, 9), "surface"),
        RoadClass("kerb_right", (4, 5, 6), "edge", "kerb_left", "kerb"),
        *(RoadClass(name, (i, i, 0)) for i, name in enumerate(("a", "b"))),
    ),
    family="kerbs",
)


@pytest.fixture(scope="module")
def paired():
    with running(lambda: Predictor(FakeEngine(), replace(HEADER, taxonomy=PAIRED), DIGEST)) as service:
        yield service.client


def test_classes_with_groups_and_partners(paired):
    answer = paired.get("/v1/taxonomy").json()
    assert (answer["name"], answer["version"], answer["ignore_index"]) == ("paired", 7, 255)
    assert answer["family"] == "kerbs"
    assert answer["classes"][:3] == [
        {"id": 0, "name": "kerb_left", "colour": [1, 2, 3], "group": "edge", "left_right": 2, "refines": "kerb"},
        {"id": 1, "name": "road", "colour": [9, 9, 9], "group": "surface", "left_right": None, "refines": None},
        {"id": 2, "name": "kerb_right", "colour": [4, 5, 6], "group": "edge", "left_right": 0, "refines": "kerb"},
    ]


def test_the_list_of_models_says_the_same_of_the_classes(paired):
    (model,) = paired.get("/v1/models").json()["models"]
    assert model["taxonomy"].items() <= paired.get("/v1/taxonomy").json().items()


def test_the_palette_is_that_of_png_answers(client, service):
    from service_corpus import opened

    palette = client.get("/v1/taxonomy").json()["palette"]
    assert [v for colour in palette for v in colour] == opened(
        client.post("/segment", content=png()).content
    ).getpalette()
    assert palette[255] == [0, 0, 0]
    assert palette[: len(TAXONOMY)] == [list(c.colour) for c in TAXONOMY.classes]


def test_a_client_that_has_it_is_told_so(client, paired):
    first = client.get("/v1/taxonomy")
    for match in (first.headers["etag"], f'"x", W/{first.headers["etag"]}', "*"):
        response = client.get("/v1/taxonomy", headers={"If-None-Match": match})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == first.headers["etag"]
        assert response.headers["cache-control"] == first.headers["cache-control"] == "no-cache"
    changed = paired.get("/v1/taxonomy", headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_before_the_model_is_loaded_there_is_none():
    def load():
        raise RuntimeError("no")

    with running(load, wait_until_ready=False) as service:
        assert_problem(service.client.get("/v1/taxonomy"), 503, "model-not-ready")
