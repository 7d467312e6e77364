"""Entity tags: what changes them, and 304 in place of an answer that the client has."""

import time

import pytest
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene, with_orientation
from service_running import DIGEST, HEADER, running
from service_scored import ScoredEngine, scored_predictor

from roadseg.ignore_regions import IgnoreRegions
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg_service.answers import etag
from roadseg_service.answers.etag import IfNoneMatch

JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module")
def engine():
    return ScoredEngine()


@pytest.fixture(scope="module")
def service(engine):
    with running(lambda: scored_predictor(engine)) as started:
        yield started


@pytest.fixture(scope="module")
def client(service):
    return service.client


def tag(client, data=None, headers=None, **params):
    response = client.post("/segment", content=png() if data is None else data, headers=headers, params=params)
    assert response.status_code == 200, response.text
    found = response.headers["etag"]
    assert found.startswith('"') and found.endswith('"') and len(found) == 66
    return found


def test_the_same_request_has_the_same_tag_and_answer(client):
    first, second = (client.post("/segment", content=png(), headers=JSON) for _ in range(2))
    assert first.headers["etag"] == second.headers["etag"]
    assert first.content == second.content


def test_the_tag_is_of_the_file_however_it_is_sent(client):
    expected = tag(client)
    for name in ("a.png", "b.jpg"):
        response = client.post("/segment", files={"file": (name, png())})  # each form has a boundary of its own
        assert response.headers["etag"] == expected


@pytest.mark.parametrize(
    ("params", "headers"),
    [
        ({"orientation": "displayed"}, None),
        ({"render": "mask"}, None),
        ({"confidence": "false"}, None),
        ({"classes": "0,1,2,3,class_4"}, None),
        ({}, {"Accept": "image/png"}),
        ({}, {"Accept": "image/*;q=0.4"}),
    ],
)
def test_defaults_that_are_spelt_out_change_nothing(client, params, headers):
    assert tag(client, headers=headers, **params) == tag(client)


def test_whatever_changes_the_answer_changes_the_tag(client):
    tags = [
        tag(client),
        tag(client, png(scene(seed=1))),
        tag(client, png() + b"x"),  # the same picture in another file
        tag(client, headers=JSON),
        tag(client, orientation="stored"),
        tag(client, classes="1"),
        tag(client, classes="1,2"),
        tag(client, min_confidence="0"),
        tag(client, min_confidence="0.5"),
        tag(client, render="overlay"),
        tag(client, render="overlay", opacity="0.51"),
        tag(client, render="overlay", headers={"Accept": "image/webp"}),
        tag(client, confidence="true"),
        tag(client, geometry="polygons"),
        tag(client, geometry="polygons", tolerance_px="1.5"),
    ]
    assert len(set(tags)) == len(tags)


def test_the_same_parameters_in_other_words_have_the_same_tag(client):
    assert tag(client, classes="2,1") == tag(client, classes="class_1, 2,1")
    assert tag(client, min_confidence="0.50") == tag(client, min_confidence="5e-1")
    assert tag(client, render="overlay", opacity="0.5") == tag(client, render="overlay")


def test_what_the_server_runs_with_changes_the_tag(monkeypatch):
    def other_engine():
        engine = ScoredEngine()
        engine.precision = "int8"
        return engine

    hood, other = ({"polygon": [[0, 0.5], [1, 0.5], [1, 1], [x, 1]]} for x in (0, 0.5))
    loads = [
        scored_predictor,
        lambda: Predictor(ScoredEngine(), HEADER, "cd" * 32),
        lambda: scored_predictor(other_engine()),
        lambda: scored_predictor(options=InferenceOptions(min_confidence=0.1)),
        lambda: scored_predictor(ignore_regions=IgnoreRegions([hood])),
        lambda: scored_predictor(ignore_regions=IgnoreRegions([other])),
    ]
    tags = []
    for load in loads:
        with running(load) as service:
            tags.append(tag(service.client))
    with running(scored_predictor, model="/models/renamed.safetensors") as service:
        tags.append(tag(service.client))
    monkeypatch.setattr(etag, "__version__", "999")
    with running(scored_predictor) as service:
        tags.append(tag(service.client))
    assert len(set(tags)) == len(tags)
    monkeypatch.undo()
    with running(loads[4]) as service:
        assert tag(service.client) == tags[4], "another process gives the same"


def test_a_match_is_304_and_runs_no_network(service, engine):
    first = service.client.post("/segment", content=png())
    calls = engine.calls
    for match in (
        first.headers["etag"],
        f"W/{first.headers['etag']}",
        f'"other" , {first.headers["etag"]}, W/"z"',
        "*",
    ):
        response = service.client.post("/segment", files={"file": png()}, headers={"If-None-Match": match})
        assert response.status_code == 304, response.text
        assert response.content == b""
        assert "content-type" not in response.headers
        for name in ("etag", "vary", "cache-control"):  # RFC 9110, section 15.4.5
            assert response.headers[name] == first.headers[name]
        assert "date" in response.headers
    assert engine.calls == calls
    assert service.admission.held_bytes == 0


def test_several_lines_of_the_header_are_one_list(client):
    lines = [("If-None-Match", '"a"'), ("If-None-Match", tag(client))]
    assert client.post("/segment", content=png(), headers=lines).status_code == 304


@pytest.mark.parametrize("match", ['"other"', "", "unquoted", '"', 'W/"x', "**", ", ,", '"*"', "w/*"])
def test_what_does_not_match_is_answered(client, match):
    response = client.post("/segment", content=png(), headers={"If-None-Match": match})
    assert (mask_in(response) == mask_of(scene())).all()


def test_the_tag_of_another_answer_does_not_match(client):
    headers = {"If-None-Match": tag(client, headers=JSON)}
    assert client.post("/segment", content=png(), headers=headers).status_code == 200
    assert client.post("/segment", content=png(), headers={**headers, **JSON}).status_code == 304
    headers = {"If-None-Match": tag(client)}
    assert client.post("/segment", content=png(scene(seed=2)), headers=headers).status_code == 200


@pytest.mark.parametrize("data", [b"", b"GIF89a", png()[:200]])
def test_any_tag_does_not_stand_for_the_answer_to_what_is_no_image(client, data):
    response = client.post("/segment", content=data, headers={"If-None-Match": "*"})
    assert response.status_code in {415, 422}


def test_a_stored_answer_is_private_and_asked_about_again(client):
    response = client.post("/segment", content=with_orientation("JPEG", 6))
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Accept"
    problem = client.post("/segment", content=b"x")
    assert "etag" not in assert_problem(problem, 415, "unsupported-image") | dict(problem.headers)


@pytest.mark.parametrize("piece", [" ", ",", ", ", '"', '" ', 'W/"', "W/", '"a" ', "\t,"])
def test_no_header_takes_long_to_read(piece):
    began = time.process_time()
    assert not IfNoneMatch([piece * (60_000 // len(piece)) + "x"]).matches('"b"')
    assert time.process_time() - began < 0.5


def test_commas_in_tags():
    assert IfNoneMatch(['"a,b", "c"']).matches('"a,b"')
    assert not IfNoneMatch(['"a,b", "c"']).matches('"b"')


def test_digest_in_header_is_the_predictors(client):
    assert client.post("/segment", content=png()).headers["x-roadseg-model-digest"] == DIGEST
