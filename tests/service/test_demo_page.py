"""The picture of the page that the demo takes, and what it says where it cannot."""

import sys

import numpy as np
import pytest
from demo_page import EXECUTABLE_VARIABLE, find_chromium, photograph_page
from page_driving import COLOURS
from service_corpus import mask_of, png

from roadseg.images import read_image


@pytest.fixture
def no_browser(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(EXECUTABLE_VARIABLE, raising=False)


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_the_picture_shows_the_image_beside_its_mask(page_service, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    if reason := find_chromium()[1]:
        pytest.skip(reason)
    colour = np.array([201, 30, 77], np.uint8)
    picture = tmp_path / "page.png"
    url = str(page_service.client.base_url)
    told = photograph_page(url, png(np.tile(colour, (90, 160, 1))), picture)
    assert told == f"the page at {url}/ with the mask: {picture}"
    shown = read_image(picture).pixels
    assert shown.shape == (800, 1280, 3)
    blended = (colour + np.array(COLOURS[mask_of(colour)])) / 2
    assert np.abs(shown[300, 200] - colour.astype(int)).max() <= 1
    assert np.abs(shown[300, 700] - blended).max() <= 2


def test_a_page_that_is_not_there_is_told(page_service, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    if reason := find_chromium()[1]:
        pytest.skip(reason)
    url = f"{page_service.client.base_url}/none".replace("//none", "/none")
    assert f"{url}/ was answered 404" in photograph_page(url, png(), tmp_path / "page.png")
    assert "the page says: " in photograph_page(str(page_service.client.base_url), b"text", tmp_path / "page.png")
    assert list(tmp_path.iterdir()) == []


def test_without_a_browser_it_says_how_to_get_one(no_browser, tmp_path):
    (tmp_path / "page.png").write_bytes(b"of an earlier run")
    told = photograph_page("http://127.0.0.1:9", png(), tmp_path / "page.png")
    assert told.startswith("no picture of the page: no Chromium found: looked for chromium, ")
    assert EXECUTABLE_VARIABLE in told
    assert not (tmp_path / "page.png").exists(), "it would be taken for one of this run"


def test_the_browser_that_the_variable_names_comes_first(no_browser, monkeypatch, tmp_path):
    program(tmp_path / "chromium", "exit 1")
    assert find_chromium() == (str(tmp_path / "chromium"), "")
    other = program(tmp_path / "other", "exit 1")
    monkeypatch.setenv(EXECUTABLE_VARIABLE, str(other))
    assert find_chromium() == (str(other), "")
    monkeypatch.setenv(EXECUTABLE_VARIABLE, "/no/such")
    assert find_chromium() == (None, f"{EXECUTABLE_VARIABLE} is '/no/such', which is no program")


def test_a_browser_that_does_not_start_is_told(monkeypatch, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    broken = program(tmp_path / "broken", "exit 3")
    monkeypatch.setenv(EXECUTABLE_VARIABLE, str(broken))
    told = photograph_page("http://127.0.0.1:9", png(), tmp_path / "page.png")
    assert told.startswith(f"no picture of the page: {broken}: ")


def test_without_playwright_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv(EXECUTABLE_VARIABLE, sys.executable)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    told = photograph_page("http://127.0.0.1:9", png(), tmp_path / "page.png")
    assert "the package 'playwright.sync_api' is not installed; pip install" in told
