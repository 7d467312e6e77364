"""The page's files: what they are sent with, that they load nothing from elsewhere, and that a wheel holds them."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hatchling.builders.wheel import WheelBuilder

from roadseg.data.synthetic import render_scene
from roadseg.images import read_image
from roadseg_service.routes.page import FOLDER, page_files

ROOT = Path(__file__).resolve().parents[2]
PATHS = ["/", *(f"/page/{path.name}" for path in sorted(FOLDER.iterdir()) if path.name != "index.html")]

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "worker-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "roadseg-worker",
}


@pytest.mark.parametrize("path", PATHS)
def test_each_file_is_sent_with_the_strict_policy(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    sent = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert sent == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.content == (FOLDER / (path.rpartition("/")[2] or "index.html")).read_bytes()


def test_types_are_those_that_browsers_insist_on(client):
    types = {Path(path).suffix: client.head(path).headers["content-type"] for path in PATHS}
    assert types == {
        "": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".jpg": "image/jpeg",
    }


def test_a_file_that_the_browser_has_is_not_sent_again(client):
    tags = [client.get(path).headers["etag"] for path in PATHS]
    assert len(set(tags)) == len(PATHS)
    for path, tag in zip(PATHS, tags, strict=True):
        answer = client.get(path, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in answer.headers
        assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/index.html",
        "/page/none.js",
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/%2e%2e/app.py",
        "/page/..%5capp.py",
        "/page/page.js%00",
        "/page/page.js/",
        "/page//etc/passwd",
    ],
)
def test_nothing_else_is_sent(service, path):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    connection.request("GET", path)  # as it stands: a client library would tidy it up
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (404, "application/problem+json")
    connection.close()


def test_a_head_request_gets_headers_alone(client):
    answer = client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("name", sorted(page_files()))
def test_no_file_names_another_place(name):
    text = page_files()[name].body.decode("utf-8", "replace") if not name.endswith(".jpg") else ""
    places = set(re.findall(r"""(?:https?:)?//[\w.-]+\.\w+[^\s"'`]*""", text)) - {"http://www.w3.org/2000/svg"}
    assert places == set()


class Inline(HTMLParser):
    """Collects what the policy would block: styles, handlers and scripts in the markup."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]


def test_the_markup_holds_no_script_style_or_handler():
    parser = Inline()
    parser.feed(page_files()["index.html"].body.decode())
    assert parser.found == []


def test_the_example_is_the_synthetic_scene_that_it_says():
    example = read_image(FOLDER / "example.jpg").pixels
    scene = render_scene(5, (540, 960)).image
    error = np.mean((example.astype(float) - scene) ** 2)
    assert 10 * np.log10(255**2 / error) > 30, "decibels, which JPEG at quality 88 keeps"
    assert b"render_scene(5, (540, 960)). No photograph." in (FOLDER / "example.jpg").read_bytes()


def test_the_page_is_no_part_of_the_api(client):
    assert not {"/", "/page/{name}"} & set(client.get("/openapi.json").json()["paths"])


def test_a_wheel_holds_every_file_of_the_page():
    held = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"roadseg_service/page/{path.name}" for path in FOLDER.iterdir()} <= held


def test_every_file_in_the_folder_is_sent():
    assert set(page_files()) == {path.name for path in FOLDER.iterdir()}
