"""Mutated uploads through the service's own reading of them: an image, or a problem that is the client's."""

import numpy as np
from hand_made import form, part
from hypothesis import example, given, settings
from hypothesis import strategies as st
from service_corpus import png
from starlette.datastructures import Headers
from upload_case import PHOTO

from roadseg_service.form import FormContent
from roadseg_service.problems import ProblemError
from roadseg_service.upload import UploadFormat
from tests.image_seeds import SEEDS
from tests.test_images_fuzz import edit, mutate

CLIENTS_FAULT = {413, 415, 422}


class Counting:
    """A ticket that notes what is held."""

    def __init__(self):
        self.held = 0

    def hold(self, count):
        self.held += count


def decoded(upload, body):
    """The image, or None where a problem said what is wrong; what was held must have covered the pixels."""
    ticket = Counting()
    try:
        image = upload.decode(body, ticket, "displayed", 100_000, 4096)
    except ProblemError as problem:
        assert problem.kind.status in CLIENTS_FAULT and problem.detail
        return None
    assert image.pixels.size <= ticket.held <= 12 * 100_000
    return image.pixels


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(SEEDS), st.lists(edit, min_size=1, max_size=4))
def test_mutated_images_are_an_image_or_the_clients_problem(seed, edits):
    decoded(UploadFormat(None), mutate(seed, edits))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(edit, min_size=1, max_size=4))
@example([("insert", 0.0, b"\r\n\r\n")])
def test_mutated_forms_are_an_image_or_the_clients_problem(edits):
    whole = form(part(png(PHOTO), b"Content-Type: image/png"))
    pixels = decoded(UploadFormat(FormContent(b"b")), mutate(whole, edits))
    assert pixels is None or pixels.shape[2] == 3


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.characters(max_codepoint=255), max_size=60), st.booleans())
def test_any_content_type_is_taken_or_the_clients_problem(text, of_form):
    value = f"multipart/form-data;{text}" if of_form else text
    try:
        upload = UploadFormat.of(Headers({"content-type": value}))
    except ProblemError as problem:
        assert problem.kind.status in CLIENTS_FAULT
        return
    pixels = decoded(upload, png(PHOTO))
    assert pixels is None if upload.form else np.array_equal(pixels, PHOTO)
