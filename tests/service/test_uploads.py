"""Bad and odd uploads through the running service: each gets the answer that docs/decoding.md publishes."""

import re
from pathlib import Path

import numpy as np
import pytest
from bad_uploads import REFUSED
from hand_made import cmyk, rgb_of_cmyk
from odd_uploads import TAKEN
from service_asserts import assert_problem, mask_in
from service_corpus import mask_of, png
from upload_case import PHOTO

from roadseg.images import decode_image
from tests.test_images_fuzz import resident_bytes

UPLOADS = [*TAKEN, *REFUSED]
DOCUMENT = Path(__file__).parents[2] / "docs" / "decoding.md"
SLUGS = {413: "image-too-large", 415: "unsupported-image"}


def slug(upload):
    if upload.status == 422:
        return "invalid-upload" if not upload.body or upload.content_type.startswith("multipart") else "corrupt-image"
    return SLUGS[upload.status]


def post(client, upload):
    headers = {"Content-Type": upload.content_type}
    return client.post("/segment", content=upload.body, headers=headers, params=upload.query)


@pytest.mark.parametrize("upload", UPLOADS, ids=[upload.name for upload in UPLOADS])
def test_an_upload_gets_its_documented_answer_and_the_next_is_right(client, upload):
    response = post(client, upload)
    if upload.status == 200:
        assert_mask(mask_in(response), upload)
        assert {name: response.headers[name] for name in upload.headers} == upload.headers
    else:
        assert_problem(response, upload.status, slug(upload), *upload.says)
    assert (mask_in(client.post("/segment", content=png(PHOTO))) == mask_of(PHOTO)).all()


def assert_mask(mask, upload):
    """The mask is of the pixels; of CMYK, whose products round either way, of pixels within two levels of them."""
    pixels = upload.pixels
    if "CMYK" in upload.row:
        pixels = decode_image(upload.body).pixels
        assert np.abs(pixels.astype(int) - upload.pixels).max() <= 2
    assert (mask == mask_of(pixels)).all()


@pytest.mark.parametrize("transform", [0, None])
def test_cmyk_is_ink_over_white_with_or_without_adobes_marker(transform):
    data, planes = cmyk(transform)
    assert np.abs(decode_image(data).pixels - rgb_of_cmyk(planes)).max() <= 2


def rows():
    """The published table: what is uploaded, and the status of its answer."""
    lines = re.findall(
        r"^\| (.+?) \|.*\| (\d{3})(?: `([a-z-]+)`)? \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE
    )
    return {what: (int(status), kind) for what, status, kind in lines}


def test_the_published_table_has_a_row_for_each_upload_and_an_upload_for_each_row():
    table = {what.replace("`", ""): answer for what, answer in rows().items()}
    assert set(table) == {upload.row for upload in UPLOADS}
    for upload in UPLOADS:
        expected = (200, "") if upload.status == 200 else (upload.status, slug(upload))
        assert table[upload.row] == expected, upload.name


def test_there_are_far_more_than_forty_uploads_and_no_two_have_one_name():
    assert len({upload.name for upload in UPLOADS}) == len(UPLOADS) > 40


def test_bad_and_odd_uploads_leave_memory_flat(client):
    for upload in UPLOADS:
        post(client, upload)
    before = resident_bytes()
    for upload in UPLOADS:
        post(client, upload)
    assert resident_bytes() - before < 24_000_000  # the two bombs alone would be half a gigabyte
