"""POST /segment: the answers, exact to the pixel."""

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from service_asserts import assert_problem, mask_in
from service_corpus import encode, jpeg, mask_of, opened, png, png16, rgb, scene, webp, with_orientation
from service_running import DIGEST, TAXONOMY

PNG, JSON = "image/png", "application/json"


def post(client, data, **options):
    return client.post("/segment", content=data, **options)


def test_form_field_file(client):
    pixels = scene()
    response = client.post("/segment", files={"file": ("drive.png", png(pixels), PNG)})
    assert (mask_in(response) == mask_of(pixels)).all()


def test_form_file_without_file_name_or_type_given_by_the_other(client):
    pixels = scene()
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: image/png\r\n\r\n'
        + png(pixels)
        + b"\r\n--b--\r\n"
    )
    response = post(client, body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (mask_in(response) == mask_of(pixels)).all()


@pytest.mark.parametrize(
    "name",
    [
        b"filename*=UTF-8''a%20b.png",
        b"FileName*=utf-8''a%20b.png",
        b"filename*0=a; filename*1=b.png",
        b"filename=\"a.png\"; filename*=UTF-8''a%20b.png",
    ],
)
def test_form_file_with_an_extended_file_name(client, name):
    pixels = scene()
    disposition = b'Content-Disposition: form-data; name="file"; ' + name
    body = b"--b\r\n" + disposition + b"\r\n\r\n" + png(pixels) + b"\r\n--b--\r\n"
    response = post(client, body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (mask_in(response) == mask_of(pixels)).all()


@pytest.mark.parametrize("content_type", [PNG, "image/jpeg", "application/octet-stream", "IMAGE/PNG; x=y", None])
def test_raw_body_is_told_by_its_bytes_whatever_image_type_it_claims(client, content_type):
    pixels = scene()
    headers = {"Content-Type": content_type} if content_type else {}
    assert (mask_in(post(client, png(pixels), headers=headers)) == mask_of(pixels)).all()


def test_png_answer_holds_ids_and_palette(client):
    pixels = scene()
    response = post(client, png(pixels))
    assert mask_in(response).dtype == np.uint8
    assert (mask_in(response) == mask_of(pixels)).all()
    palette = opened(response.content).getpalette()
    assert palette[: 3 * len(TAXONOMY)] == [v for c in TAXONOMY.classes for v in c.colour]


def test_headers_name_model_taxonomy_and_orientation(client):
    for accept in (PNG, JSON):
        headers = post(client, png(), headers={"Accept": accept}).headers
        assert headers["X-Roadseg-Model"] == "fake-nano"
        assert headers["X-Roadseg-Model-Digest"] == DIGEST
        assert headers["X-Roadseg-Taxonomy"] == "five/3"
        assert headers["X-Roadseg-Exif-Orientation"] == "1"
        assert headers["X-Roadseg-Orientation"] == "displayed"
        assert headers["Vary"] == "Accept"


def test_json_areas_and_rle_are_the_mask(client):
    pixels = scene(30, 50)
    expected = mask_of(pixels)
    answer = post(client, webp(pixels, lossless=True), headers={"Accept": JSON}).json()
    assert answer["image"] == {
        "width": 50,
        "height": 30,
        "format": "WEBP",
        "exif_orientation": 1,
        "orientation": "displayed",
    }
    assert answer["model"] == {"name": "fake-nano", "digest": DIGEST}
    assert answer["taxonomy"] == {"name": "five", "version": 3}
    rebuilt = np.full((30, 50), 255, np.uint8)
    for entry in answer["classes"]:
        binary = coco_mask.decode(entry["rle"]).astype(bool)
        assert (rebuilt[binary] == 255).all()
        rebuilt[binary] = entry["id"]
        assert entry["area_px"] == (expected == entry["id"]).sum()
        assert entry["share"] == entry["area_px"] / 1500
        assert entry["name"] == f"class_{entry['id']}"
        assert entry["colour"] == list(TAXONOMY.classes[entry["id"]].colour)
    assert (rebuilt == expected).all()


def test_json_names_only_classes_that_occur(client):
    black = np.zeros((4, 6, 3), np.uint8)
    (only,) = post(client, png(black), headers={"Accept": JSON}).json()["classes"]
    assert (only["id"], only["area_px"], only["share"], only["rle"]["size"]) == (0, 24, 1.0, [4, 6])


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_as_pillow_transposes(client, kind, tag):
    data = with_orientation(kind, tag)
    displayed = np.asarray(ImageOps.exif_transpose(opened(data)).convert("RGB"))
    response = post(client, data)
    assert (mask_in(response) == mask_of(displayed)).all()
    assert response.headers["X-Roadseg-Exif-Orientation"] == str(tag)

    response = post(client, data, params={"orientation": "stored"})
    assert (mask_in(response) == mask_of(rgb(data))).all()
    assert response.headers["X-Roadseg-Orientation"] == "stored"


def test_json_says_the_displayed_size(client):
    data = with_orientation("JPEG", 6, scene(20, 32))
    image = post(client, data, headers={"Accept": JSON}).json()["image"]
    assert (image["width"], image["height"], image["exif_orientation"]) == (20, 32, 6)
    image = post(client, data, headers={"Accept": JSON}, params={"orientation": "stored"}).json()["image"]
    assert (image["width"], image["height"], image["orientation"]) == (32, 20, "stored")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5000, 1), (1, 5000), (7, 13), (999, 1001)])
def test_any_size(client, height, width):
    pixels = scene(height, width)
    assert (mask_in(post(client, png(pixels))) == mask_of(pixels)).all()
    answer = post(client, png(pixels), headers={"Accept": JSON}).json()
    assert sum(entry["area_px"] for entry in answer["classes"]) == height * width


def test_pixel_bound_is_inclusive(client):
    at_bound = scene(1000, 1000)
    assert (mask_in(post(client, jpeg(at_bound))) == mask_of(rgb(jpeg(at_bound)))).all()
    assert_problem(
        post(client, jpeg(scene(1001, 1000))), 413, "image-too-large", "1000x1001 = 1001000 pixels", "1000000"
    )


def test_16_bit_png_gives_its_high_byte(client):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), np.uint16)
    assert (mask_in(post(client, png16(values))) == mask_of(values >> 8)).all()
    grey = values[..., 0]
    expected = np.repeat((grey >> 8)[..., None], 3, axis=2)
    assert (mask_in(post(client, png16(grey))) == mask_of(expected)).all()


def test_colour_modes(client):
    picture = Image.fromarray(scene())
    cmyk = encode(picture.convert("CMYK"), "JPEG", quality=95)
    assert (mask_in(post(client, cmyk)) == mask_of(rgb(cmyk))).all()

    grey = scene()[..., 0]
    expected = mask_of(np.repeat(grey[..., None], 3, axis=2))
    assert (mask_in(post(client, png(grey))) == expected).all()
    grey_alpha = Image.merge("LA", [Image.fromarray(grey), Image.new("L", picture.size, 9)])
    assert (mask_in(post(client, encode(grey_alpha))) == expected).all()

    alpha = Image.fromarray(scene()[..., 1])
    see_through = Image.merge("RGBA", [*picture.split(), alpha])
    assert (mask_in(post(client, encode(see_through))) == mask_of(scene())).all()

    palette = encode(picture.quantize(16), "PNG", transparency=3)
    reference = np.asarray(opened(palette).convert("RGBA"))[..., :3]
    assert (mask_in(post(client, palette)) == mask_of(reference)).all()

    one_bit = encode(picture.convert("1"))
    assert (mask_in(post(client, one_bit)) == mask_of(rgb(one_bit))).all()


def test_bytes_behind_the_image_are_ignored(client):
    pixels = scene()
    assert (mask_in(post(client, png(pixels) + b"trailing" * 50)) == mask_of(pixels)).all()


def test_a_form_whose_image_holds_line_ends_and_dashes(client):
    noise = np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8)
    noise[:20] = np.frombuffer(b"\r\n--\r\n", np.uint8)[np.arange(60 * 60) % 6].reshape(20, 60, 3)
    data = png(noise, compress_level=0)
    assert b"\r\n--\r\n" in data
    assert (mask_in(client.post("/segment", files={"file": data})) == mask_of(noise)).all()


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", PNG),
        ("image/*", PNG),
        ("application/json", JSON),
        ("application/json, text/plain, */*", JSON),
        ("image/png;q=0.2, application/json;q=0.9", JSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", PNG),
    ],
)
def test_accept_chooses_the_answer(client, accept, expected):
    assert post(client, png(), headers={"Accept": accept}).headers["content-type"] == expected


def test_without_accept_header_png(service):
    request = service.client.build_request("POST", "/segment", content=png())
    del request.headers["accept"]
    assert service.client.send(request).headers["content-type"] == PNG


def test_no_origin_is_allowed(client):
    response = post(client, png(), headers={"Origin": "http://elsewhere.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
