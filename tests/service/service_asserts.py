"""Checks that many service tests share."""

import io

import numpy as np
from PIL import Image


def assert_problem(response, status, slug, *fragments):
    """The response is a problem of this kind, and its detail says all these things."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == (f"urn:roadseg:problem:{slug}" if slug else "about:blank")
    assert problem["title"]
    assert problem["instance"].startswith("urn:uuid:")
    for fragment in fragments:
        assert fragment in problem["detail"]
    return problem


def mask_in(response):
    """The mask (H, W) in a PNG answer."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(response.content))
    assert (picture.format, picture.mode) == ("PNG", "P")
    return np.asarray(picture)
