"""What the client makes of answers, and that it takes none that it cannot vouch for."""

import base64
import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from roadseg.client.rle import decode_rle
from roadseg.errors import ConfigError, ServiceAnswerError
from tests.client.scripted import MASK, PIXELS, Script, answer, models, png, scripted


def json_answer(mask, plane, digest="d1"):
    classes = [
        {
            "id": int(i),
            "rle": {"size": list(mask.shape), "counts": coco.encode(np.asfortranarray(mask == i))["counts"].decode()},
        }
        for i in np.unique(mask)
        if i != 255
    ]
    body = {"classes": classes, "confidence": {"scale": 1 / 255, "data": base64.b64encode(png(plane)).decode()}}
    headers = {"X-Roadseg-Model-Digest": digest, "X-Roadseg-Taxonomy": "five/3", "X-Roadseg-Orientation": "displayed"}
    return httpx.Response(200, headers=headers, content=json.dumps(body).encode())


def _without(key):
    """The model of a service that does not say all of its classes: what is left would pass for the truth."""
    (model,) = models()["models"]
    taxonomy = model["taxonomy"]
    taxonomy["classes"] = [{k: v for k, v in c.items() if k != key} for c in taxonomy["classes"]]
    return model | {"taxonomy": {k: v for k, v in taxonomy.items() if k != key}}


def _with_partner(i):
    (model,) = models()["models"]
    model["taxonomy"]["classes"][0]["left_right"] = i
    return model


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (13, 17), (200, 300)])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_run_lengths_are_read_as_pycocotools_reads_them(size, density):
    mask = np.random.default_rng(0).random(size) < density
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    np.testing.assert_array_equal(decode_rle(encoded["counts"].decode(), size), mask)


def test_long_runs_and_large_differences_are_read():
    mask = np.zeros((3000, 2000), bool)
    mask[0, 0] = mask[-1, -1] = mask[1500:, 700] = True  # runs of 1 beside runs of a million, and back
    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    np.testing.assert_array_equal(decode_rle(encoded["counts"].decode(), mask.shape), mask)


@pytest.mark.parametrize("counts", ["", "5", "~~", "\x01", "P" * 30, "P", "6é", "0" * 7])
def test_damaged_run_lengths_are_refused(counts):
    with pytest.raises(ValueError):
        decode_rle(counts, (2, 3))


def test_the_confidence_comes_with_the_mask_from_one_request():
    plane = np.array([[0, 128, 255], [3, 4, 5]], np.uint8)
    script = Script(json_answer(MASK, plane))
    result = scripted(script).segment(PIXELS, confidence=True)
    np.testing.assert_array_equal(result.mask, MASK)
    assert result.confidence.dtype == np.float32
    np.testing.assert_allclose(result.confidence, plane / 255, atol=1e-7)
    assert script.paths() == ["/segment", "/v1/models"]
    assert dict(script.requests[0].url.params) == {"confidence": "true"}
    assert script.requests[0].headers["Accept"] == "application/json"


def test_an_array_is_sent_without_loss():
    script = Script(answer())
    result = scripted(script).segment(PIXELS)
    with Image.open(io.BytesIO(script.requests[0].content)) as sent:
        assert sent.format == "PNG"
        np.testing.assert_array_equal(np.asarray(sent), PIXELS)
    np.testing.assert_array_equal(result.image, PIXELS)
    assert result.confidence is None


def test_parameters_reach_the_service_and_usual_ones_are_left_out():
    script = Script(answer())
    client = scripted(script)
    client.segment(PIXELS)
    client.segment(PIXELS, orientation="stored", classes=["road", 3], min_confidence=0.25)
    assert dict(script.requests[0].url.params) == {}
    assert dict(script.requests[-1].url.params) == {
        "orientation": "stored",
        "classes": "road,3",
        "min_confidence": "0.25",
    }


@pytest.mark.parametrize("classes", ["road", [], ()])
def test_classes_that_are_no_list_are_refused_before_anything_is_sent(classes):
    script = Script(answer())
    with pytest.raises(ConfigError, match="give a list"):
        scripted(script).segment(PIXELS, classes=classes)
    assert not script.requests


def test_the_taxonomy_is_asked_for_once():
    script = Script(answer())
    client = scripted(script)
    results = [client.segment(PIXELS) for _ in range(3)]
    assert script.paths() == ["/segment", "/v1/models", "/segment", "/segment"]
    assert results[2].taxonomy.names == ["five_0", "five_1", "five_2"]
    assert results[2].taxonomy.classes[1].colour == (1, 3, 9)


def test_a_model_that_was_swapped_brings_its_own_taxonomy():
    script = Script(answer(), answer(digest="d2", taxonomy="six/1"), listed=[models(), models("d2", "six", 1)])
    client = scripted(script)
    before, after = client.segment(PIXELS), client.segment(PIXELS)
    assert (before.model_digest, before.taxonomy.name) == ("d1", "five")
    assert (after.model_digest, after.taxonomy.name, after.taxonomy.version) == ("d2", "six", 1)


def test_an_image_is_segmented_again_when_the_model_goes_between_answer_and_list():
    """The first answer is of a model of other classes that is not listed any more: nobody knows what its ids mean."""
    script = Script(answer(digest="d0", taxonomy="old/1"), answer(), listed=[models()])
    result = scripted(script).segment(PIXELS)
    assert result.model_digest == "d1" and result.taxonomy.name == "five"
    assert script.paths() == ["/segment", "/v1/models", "/segment"]


def test_a_model_that_is_never_listed_is_an_error_that_names_it():
    script = Script(answer(digest="d0", taxonomy="old/1"))
    with pytest.raises(ServiceAnswerError, match="model d0"):
        scripted(script, retries=2).segment(PIXELS)
    assert script.paths().count("/segment") == 3


def test_while_machines_are_replaced_one_taxonomy_serves_the_models_of_all():
    script = Script(answer(digest="d9"))
    result = scripted(script).segment(PIXELS)
    assert result.model_digest == "d9" and result.taxonomy.name == "five"


def test_one_digest_with_another_taxonomy_is_looked_up_again():
    script = Script(answer(), answer(taxonomy="five/4"), listed=[models(), models(version=4)])
    client = scripted(script)
    assert [client.segment(PIXELS).taxonomy.version for _ in range(2)] == [3, 4]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (answer(np.zeros((3, 2), np.uint8)), "3 x 2 px for an image of 2 x 3"),
        (answer(np.zeros((2, 3, 3), np.uint8)), "type RGB"),
        (answer(np.full((2, 3), 7, np.uint8)), "class 7.*ends at 2"),
        (httpx.Response(200, text="<html>"), "X-Roadseg-Model-Digest"),
        (answer(taxonomy="five"), "NAME/VERSION"),
        (answer(taxonomy="five/x"), "NAME/VERSION"),
        (httpx.Response(200, headers=answer().headers, content=b"\x89PNG\r\n\x1a\n"), "cannot be used"),
        (httpx.Response(200, headers=answer().headers, content=png(MASK)[:-30]), "cannot be used"),
    ],
)
def test_an_answer_that_is_not_of_this_image_is_refused(bad, words):
    with pytest.raises(ServiceAnswerError, match=words):
        scripted(Script(bad)).segment(PIXELS)


@pytest.mark.parametrize(
    "listed",
    [
        {},
        [],
        {"models": []},
        {"models": [{"name": "n", "digest": "d1", "taxonomy": {"name": "t", "version": 1, "classes": [{"id": 1}]}}]},
        {"models": "many"},
        {"models": [_without("group")]},
        {"models": [_without("family")]},
        {"models": [_with_partner(9)]},
        {"models": [models(count=1)["models"][0] | {"taxonomy": None}]},
    ],
)
def test_a_list_that_is_none_of_models_is_refused(listed):
    with pytest.raises(ServiceAnswerError, match="/v1/models"):
        scripted(Script(answer(), listed=[listed])).segment(PIXELS)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://h:99999",
        "http://user:secret@host",
        "http://h/?key=1",
        "",
        "http://a\nb",
    ],
)
def test_what_is_no_url_of_a_service_is_refused(url):
    from roadseg.client import Client

    with pytest.raises(ConfigError, match="http://HOST:PORT") as caught:
        Client(url)
    assert "secret" not in str(caught.value)


def test_a_path_in_the_url_goes_before_the_services_own():
    from roadseg.client import Client

    script = Script(answer())
    with Client("https://host.test/roads/", transport=httpx.MockTransport(script)) as client:
        client.segment(PIXELS)
    assert script.paths() == ["/roads/segment", "/roads/v1/models"]
