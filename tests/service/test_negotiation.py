"""The choice of an answer's media type."""

import pytest

from roadseg_service.negotiation import choose_media_type

PNG, JSON = "image/png", "application/json"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", PNG),
        ("   ", PNG),
        ("*/*", PNG),
        ("*", PNG),
        ("image/*", PNG),
        ("application/*", JSON),
        ("IMAGE/PNG", PNG),
        ("Application/JSON;charset=utf-8", JSON),
        ("image/png, application/json", PNG),
        ("application/json, image/png", PNG),
        # a named type wins over a wildcard of the same quality, and loses against a better one
        ("application/json, */*", JSON),
        ("application/json, image/*", JSON),
        ("application/json;q=0.5, */*;q=0.8", PNG),
        # the most specific range decides a type's quality, be it lower
        ("image/png;q=0.1, image/*;q=0.9, application/json;q=0.5", JSON),
        ("image/png;q=0, */*", JSON),
        ("image/png;q=0, image/*;q=1", None),
        ("*/*;q=0", None),
        ("application/json;q=0.000", None),
        ("application/json;q=0.001", JSON),
        ("application/json;q=.2", JSON),
        ("application/json ; Q=0.3 , text/html", JSON),
        ("text/html", None),
        ("image/webp", None),
        # malformed elements are skipped
        ("image/png;q=2, application/json", JSON),
        ("image/png;q=-1, application/json", JSON),
        ("image/png;q=nan, application/json", JSON),
        ("image/png;q=, application/json", JSON),
        ("*/png, application/json", JSON),
        (",,;;, application/json,", JSON),
        ("image/png/x", None),
        ("image", None),
        (",", None),
    ],
)
def test_choice(accept, expected):
    assert choose_media_type(accept, [PNG, JSON]) == expected


def test_order_of_the_offer_is_the_default():
    assert choose_media_type("*/*", [JSON, PNG]) == JSON
