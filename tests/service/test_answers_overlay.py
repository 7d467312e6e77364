"""Overlays against blending by hand, in float64."""

import io

import numpy as np
import pytest
from PIL import Image
from service_asserts import assert_problem
from service_corpus import jpeg, mask_of, png, rgb, scene
from service_running import TAXONOMY, running
from service_scored import confidence_of, scored_predictor

from roadseg.inference.result import SegmentationResult
from roadseg_service.answers.options import AnswerOptions
from roadseg_service.answers.overlay import WEBP_MAX_SIDE_PX, encode_overlay

PIXELS = scene(60, 80)
MASK = mask_of(PIXELS)
COLOURS = np.array([c.colour for c in TAXONOMY.classes], np.float64)[MASK]


@pytest.fixture(scope="module")
def client():
    with running(scored_predictor) as service:
        yield service.client


def ask(client, accept="image/png", data=None, **params):
    data = png(PIXELS) if data is None else data
    return client.post("/segment", content=data, headers={"Accept": accept}, params={"render": "overlay", **params})


def picture_in(response, kind="PNG"):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == f"image/{kind.lower()}"
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.mode) == (kind, "RGB")
    return np.asarray(picture)


@pytest.mark.parametrize("opacity", [None, "0", "0.25", "0.5", "1", "1e-1"])
def test_colours_are_blended_with_the_image(client, opacity):
    share = 0.5 if opacity is None else float(opacity)
    overlay = picture_in(ask(client, **({} if opacity is None else {"opacity": opacity})))
    exact = (1 - share) * PIXELS + share * COLOURS
    assert np.abs(overlay - exact).max() <= 0.5 + 1e-3  # rounded, whichever way a half goes


def test_pixels_of_no_class_show_the_image_alone(client):
    overlay = picture_in(ask(client, classes="2", opacity="1"))
    assert (overlay[MASK == 2] == COLOURS[MASK == 2]).all()
    assert (overlay[MASK != 2] == PIXELS[MASK != 2]).all()
    overlay = picture_in(ask(client, min_confidence="0.5", opacity="1"))
    low = confidence_of(PIXELS) < 0.5
    assert 0 < low.sum() < low.size
    assert (overlay == np.where(low[..., None], PIXELS, COLOURS)).all()


def test_webp_shows_the_same_with_small_losses(client):
    overlay, webp = picture_in(ask(client)), picture_in(ask(client, "image/webp"), "WEBP")
    assert overlay.shape == webp.shape
    assert np.abs(overlay.astype(float) - webp).mean() < 6
    assert ask(client, "image/webp").content != ask(client).content


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "image/png"),
        ("image/*", "image/png"),
        ("image/webp, */*", "image/webp"),
        ("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", "image/webp"),
        ("image/webp;q=0.5, image/png", "image/png"),
    ],
)
def test_accept_chooses_png_or_webp(client, accept, expected):
    response = ask(client, accept)
    assert (response.headers["content-type"], response.headers["Vary"]) == (expected, "Accept")


def test_the_image_is_the_one_that_was_segmented(client):
    data = jpeg(PIXELS)
    assert (picture_in(ask(client, data=data, opacity="0")) == rgb(data)).all()


def test_json_is_no_overlay(client):
    response = ask(client, "application/json")
    assert_problem(response, 406, "not-acceptable", "with render=overlay", "image/png or image/webp")


def test_webp_is_no_mask(client):
    response = client.post("/segment", content=png(PIXELS), headers={"Accept": "image/webp"})
    assert_problem(
        response, 406, "not-acceptable", "image/png or application/json", "or ask for image/webp with render=overlay"
    )
    response = client.post("/segment", content=png(PIXELS), headers={"Accept": "text/html"})
    assert "overlay" not in response.json()["detail"]


def test_a_png_overlay_has_the_pixels_that_were_blended():
    rng = np.random.default_rng(3)
    image, mask = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8), rng.integers(0, 5, (37, 53), dtype=np.uint8)
    mask[::3] = 255
    result = SegmentationResult(image, mask, TAXONOMY, "digest")
    decoded = np.asarray(Image.open(io.BytesIO(encode_overlay(result, AnswerOptions(render="overlay", opacity=0.3)))))
    expected = np.where((mask == 255)[..., None], image, result.overlay(0.3))
    assert (decoded == expected).all()


def test_a_side_that_webp_cannot_hold_is_refused_before_the_network_runs():
    with running(scored_predictor, max_side_px=20_000) as service:
        client = service.client
        wide = np.zeros((2, WEBP_MAX_SIDE_PX + 1, 3), np.uint8)
        assert_problem(ask(client, "image/webp", png(wide)), 413, "image-too-large", "16384x2", "16383", "image/png")
        assert picture_in(ask(client, data=png(wide))).shape == wide.shape
        assert picture_in(ask(client, "image/webp", png(wide[:, 1:])), "WEBP").shape == (2, WEBP_MAX_SIDE_PX, 3)
