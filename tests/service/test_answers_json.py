"""The JSON answer against pycocotools, float64 and counting by hand; which classes and pixels answers hold."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png, scene
from service_running import DIGEST, HEADER, TAXONOMY, running
from service_scored import ScoredEngine, confidence_of, scored_predictor

from roadseg.images import image_from_array
from roadseg.inference.options import InferenceOptions
from roadseg.inference.predictor import Predictor
from roadseg.inference.result import SegmentationResult
from roadseg.taxonomy import RoadClass, Taxonomy
from roadseg_service.answers import document
from roadseg_service.answers.encoding import encode_answer
from roadseg_service.answers.options import JSON, AnswerOptions
from roadseg_service.answers.runs import column_runs, rle_of

PIXELS = scene(60, 80)
MASK, CONFIDENCE = mask_of(PIXELS), confidence_of(PIXELS)


@pytest.fixture(scope="module")
def client():
    with running(scored_predictor) as service:
        yield service.client


def ask(client, pixels=PIXELS, accept=JSON, **params):
    return client.post("/segment", content=png(pixels), headers={"Accept": accept}, params=params)


def painted(answer, shape=MASK.shape):
    """The mask that the run-length encodings of an answer add up to; 255 where there is none."""
    mask = np.full(shape, 255, np.uint8)
    for entry in answer["classes"]:
        inside = coco_mask.decode(entry["rle"]).astype(bool)
        assert inside.sum() == entry["area_px"]
        assert entry["share"] == entry["area_px"] / mask.size
        mask[inside] = entry["id"]
    return mask


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 56), (64, 64)])
@pytest.mark.parametrize("coarseness", [1, 8])
def test_run_lengths_are_those_of_pycocotools(shape, coarseness):
    generator = np.random.default_rng([*shape, coarseness])
    small = generator.choice([0, 1, 2, 200, 255], [-(-side // coarseness) for side in shape]).astype(np.uint8)
    mask = np.ascontiguousarray(np.kron(small, np.ones((coarseness, coarseness), np.uint8))[: shape[0], : shape[1]])
    found = {region.class_id: (region.area, rle_of(region, shape)) for region in column_runs(mask)}
    assert sorted(found) == sorted(set(np.unique(mask).tolist()) - {255})
    for class_id, (area, rle) in found.items():
        expected = coco_mask.encode(np.asfortranarray(mask == class_id, dtype=np.uint8))
        assert (list(rle.size), rle.counts) == (expected["size"], expected["counts"].decode())
        assert area == (mask == class_id).sum()


def test_without_confidence_there_is_none_and_nothing_is_null(client):
    text = ask(client).text
    assert "confidence" not in text
    assert "polygons" not in text
    assert "null" not in text


def test_mean_confidences_are_the_float64_means(client):
    answer = ask(client, confidence="true").json()
    assert len(answer["classes"]) == len(TAXONOMY)
    for entry in answer["classes"]:
        expected = CONFIDENCE[entry["id"] == MASK].astype(np.float64).mean()
        assert entry["mean_confidence"] == pytest.approx(expected, rel=1e-12)
    assert (painted(answer) == MASK).all()


def test_mean_confidences_of_more_pixels_than_are_summed_at_once():
    generator = np.random.default_rng(0)
    mask = generator.integers(0, 3, (700, 900), np.uint8)
    mask[mask == 2] = 255
    confidence = generator.random(mask.shape, np.float32)
    result = SegmentationResult(np.zeros((*mask.shape, 3), np.uint8), mask, TAXONOMY, DIGEST, confidence)
    body = encode_answer(image_from_array(result.image), result, "m", AnswerOptions(media_type=JSON)).body
    for entry in document.SegmentationAnswer.model_validate_json(body).classes:
        inside = mask == entry.id
        assert entry.area_px == inside.sum()
        assert entry.mean_confidence == pytest.approx(confidence[inside].astype(np.float64).mean(), rel=1e-12)


def test_the_plane_of_confidences_is_off_by_half_a_step(client):
    plane = ask(client, confidence="true").json()["confidence"]
    picture = Image.open(io.BytesIO(base64.b64decode(plane["data"], validate=True)))
    assert (plane["media_type"], picture.format, picture.mode) == ("image/png", "PNG", "L")
    assert plane["scale"] == 1 / 255
    off = np.abs(np.asarray(picture) * plane["scale"] - CONFIDENCE.astype(np.float64))
    assert off.max() <= plane["scale"] / 2 + 1e-6
    assert off.max() > plane["scale"] / 4


@pytest.mark.parametrize(
    ("classes", "kept"),
    [
        ("class_1,class_3", {1, 3}),
        ("1,3", {1, 3}),
        ("class_3,1,3,1", {1, 3}),
        (" class_1 , 3 ", {1, 3}),
        ("4", {4}),
        ("0,1,2,3,4", {0, 1, 2, 3, 4}),
    ],
)
def test_pixels_of_other_classes_are_255_and_left_out_of_the_json(client, classes, kept):
    expected = np.where(np.isin(MASK, list(kept)), MASK, 255)
    assert (mask_in(ask(client, accept="image/png", classes=classes)) == expected).all()
    answer = ask(client, classes=classes).json()
    assert {entry["id"] for entry in answer["classes"]} == kept
    assert (painted(answer) == expected).all()


def test_a_class_that_does_not_occur_gives_an_empty_list(client):
    pixels = np.zeros((6, 8, 3), np.uint8)  # all of class 0
    answer = ask(client, pixels, classes="class_2").json()
    assert answer["classes"] == []
    assert (mask_in(ask(client, pixels, accept="image/png", classes="2")) == 255).all()


def test_a_class_that_is_named_like_an_id_is_known_by_its_name_first():
    names = ("1", "0", "z", "3", "2")
    taxonomy = Taxonomy("odd", 1, tuple(RoadClass(name, (i, 0, 0)) for i, name in enumerate(names)))
    header = replace(HEADER, taxonomy=taxonomy)
    pixels = np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0]]], np.uint8)  # classes 0, 1, 2
    with running(lambda: Predictor(ScoredEngine(), header, DIGEST)) as service:
        assert mask_in(ask(service.client, pixels, "image/png", classes="1")).tolist() == [[0, 255, 255]]
        assert mask_in(ask(service.client, pixels, "image/png", classes="z")).tolist() == [[255, 255, 2]]


@pytest.mark.parametrize("least", [0.0, 0.25, float(np.float32(CONFIDENCE[7, 11])), 1.0])
def test_pixels_below_the_least_confidence_are_255(client, least):
    expected = np.where(np.float32(least) > CONFIDENCE, 255, MASK)
    assert (mask_in(ask(client, accept="image/png", min_confidence=repr(least))) == expected).all()
    answer = ask(client, min_confidence=repr(least)).json()
    assert (painted(answer) == expected).all()
    assert "confidence" not in answer


def test_means_count_the_pixels_that_are_left_and_the_plane_all(client):
    answer = ask(client, min_confidence="0.5", confidence="true", classes="2,4").json()
    assert {entry["id"] for entry in answer["classes"]} == {2, 4}
    for entry in answer["classes"]:
        left = (entry["id"] == MASK) & (CONFIDENCE >= 0.5)
        assert entry["area_px"] == left.sum()
        assert entry["mean_confidence"] == pytest.approx(CONFIDENCE[left].astype(np.float64).mean(), rel=1e-12)
    plane = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["confidence"]["data"]))))
    assert (np.abs(plane / 255 - CONFIDENCE) < 1 / 500).all()


def test_a_request_overrides_the_servers_own_least_confidence_and_no_other_option():
    seen = []

    class Recorded(Predictor):
        def batch(self, images, *, options=None, **others):
            seen.append(options or self.options)
            return super().batch(images, options=options, **others)

    own = InferenceOptions(min_confidence=0.5, max_pixels=1_234_567)
    with running(lambda: Recorded(ScoredEngine(), HEADER, DIGEST, options=own)) as service:
        by_default = np.where(CONFIDENCE < 0.5, 255, MASK)
        assert (mask_in(ask(service.client, accept="image/png")) == by_default).all()
        assert (mask_in(ask(service.client, accept="image/png", min_confidence="0")) == MASK).all()
    assert seen[-2:] == [own, replace(own, min_confidence=0.0)]


def test_requests_with_other_parameters_do_not_share_answers(client):
    first, second = ask(client, classes="1"), ask(client, min_confidence="0.6")
    assert (painted(first.json()) == np.where(MASK == 1, 1, 255)).all()
    assert (painted(second.json()) == np.where(np.float32(0.6) > CONFIDENCE, 255, MASK)).all()


@pytest.mark.parametrize("accept", ["*/*", "application/*", "image/png;q=0.1, */*", "image/png, application/json"])
@pytest.mark.parametrize("params", [{"geometry": "rle"}, {"geometry": "polygons"}, {"confidence": "true"}])
def test_what_only_json_can_say_is_answered_in_json(client, accept, params):
    assert ask(client, accept=accept, **params).headers["content-type"] == JSON


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"geometry": "polygons"}, "with geometry"),
        ({"confidence": "true"}, "with confidence"),
        ({"geometry": "rle", "confidence": "true"}, "with geometry and confidence"),
    ],
)
def test_what_only_json_can_say_is_not_said_in_png(client, params, named):
    response = ask(client, accept="image/png", **params)
    assert_problem(response, 406, "not-acceptable", "'image/png'", named, "application/json; accept that")


def test_confidence_false_asks_for_nothing(client):
    assert (mask_in(ask(client, accept="*/*", confidence="false")) == MASK).all()


def test_polygons_of_very_many_corners_are_refused(client, monkeypatch):
    monkeypatch.setattr(document, "MAX_CORNERS", 20)
    response = ask(client, geometry="polygons", tolerance_px="0")
    assert_problem(response, 422, "invalid-parameter", "more than 20 corners", "tolerance_px of 0", "geometry=rle")


def test_a_mask_too_fine_for_polygons_is_refused_before_they_are_made(client, monkeypatch):
    monkeypatch.setattr(document, "polygons_of", None)
    monkeypatch.setattr(document, "MAX_EDGE_PX", 100)
    response = ask(client, geometry="polygons", tolerance_px="50")
    length = int((MASK[1:] != MASK[:-1]).sum() + (MASK[:, 1:] != MASK[:, :-1]).sum())
    assert_problem(response, 422, "invalid-parameter", f"{length} pixels long", "at most 100", "geometry=rle")
