"""What the page says while the service is not ready, is full, refuses, wants a key, or is gone."""

import json
import re
import threading

import pytest
from page_driving import BLENDED_OFF, blended, predictor, visiting
from service_corpus import pixel_bomb, png, scene
from service_running import running

expect = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'").expect

KEY = "alice-0123456789abcdef"


def problem(status, detail, **headers):
    """What `Route.fulfill` takes for a refusal of the service."""
    body = {"type": "about:blank", "title": "A refusal", "status": status, "detail": detail, "instance": "urn:uuid:7"}
    return {
        "status": status,
        "headers": {"Content-Type": "application/problem+json", **headers},
        "body": json.dumps(body),
    }


def give(visit, data, name="scene.png"):
    visit.page.locator("#file").set_input_files({"name": name, "mimeType": "", "buffer": data})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just words, no image", "is not a JPEG, PNG or WebP"),
        (b"", "empty"),
        (png()[:300], "truncated"),
        (pixel_bomb(6000), "at most 25000000 pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "is not a JPEG, PNG or WebP"),
    ],
    ids=["text", "empty", "truncated", "bomb", "svg"],
)
def test_a_refusal_is_told_in_the_services_words(visit, page_service, data, words):
    give(visit, data, "notes.txt")
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text(words)
    told = page_service.client.post("/segment", content=data).json()
    assert told["detail"] in alert.inner_text() and told["title"] in alert.inner_text()
    assert not visit.page.get_by_role("button", name="Try again").is_visible(), "it would be refused again"
    give(visit, png(scene()))
    visit.wait()
    expect(alert).to_be_hidden()
    visit.assert_drawn(blended(scene()), BLENDED_OFF)


def test_a_file_over_the_bound_is_not_sent_at_all(visit):
    give(visit, bytes(4_000_001))
    expect(visit.page.get_by_role("alert")).to_contain_text("4000001 bytes, and the service takes at most 4000000")
    assert not any("/segment" in url for url in visit.requests)


def test_a_full_service_is_asked_again_when_it_says_so(visit):
    refusals = [problem(429, "64 requests are waiting", **{"Retry-After": "1"})]
    visit.page.route("**/segment*", lambda route: route.fulfill(**refusals.pop()) if refusals else route.continue_())
    give(visit, png(scene()))
    expect(visit.page.get_by_role("status")).to_contain_text("64 requests are waiting")
    visit.wait()
    visit.assert_drawn(blended(scene()), BLENDED_OFF)


def test_a_service_without_a_word_of_later_is_not_asked_again_by_itself(visit):
    visit.page.route("**/segment*", lambda route: route.fulfill(**problem(503, "the model could not be loaded")))
    give(visit, png(scene()))
    alert = visit.page.get_by_role("alert")
    expect(alert).to_contain_text("the model could not be loaded")
    expect(alert).to_contain_text("urn:uuid:7")
    visit.page.unroute("**/segment*")
    visit.page.get_by_role("button", name="Try again").click()
    visit.wait()
    expect(alert).to_be_hidden()


def test_a_service_that_is_gone_is_told_and_can_be_tried_again(visit):
    visit.page.route("**/segment*", lambda route: route.abort())
    give(visit, png(scene()))
    expect(visit.page.get_by_role("alert")).to_contain_text("could not be reached")
    visit.page.unroute("**/segment*")
    visit.page.get_by_role("button", name="Try again").press("Enter")
    visit.wait()
    visit.assert_drawn(blended(scene()), BLENDED_OFF)


def test_an_answer_of_a_proxy_that_is_no_problem_json_is_told_by_its_status(visit):
    visit.page.route("**/segment*", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    give(visit, png())
    expect(visit.page.get_by_role("alert")).to_contain_text("the service answered 502")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rle": {"size": [24, 40], "counts": "0"}}, "shorter than its image"),
        ({"rle": {"size": [24, 40], "counts": "oooooooo"}}, "damaged"),
        ({"rle": {"size": [40, 24], "counts": "0"}}, "another size"),
    ],
)
def test_an_answer_that_cannot_be_right_is_not_drawn(visit, change, words):
    def spoil(route):
        answer = route.fetch().json()
        answer["classes"][0] |= change
        route.fulfill(json=answer)

    visit.page.route("**/segment*", spoil)
    give(visit, png())
    expect(visit.page.get_by_role("alert")).to_contain_text(words)
    assert visit.page.locator("body[data-shown=mask]").count() == 0


def test_what_is_under_way_can_be_cancelled(visit):
    visit.page.route("**/segment*", lambda route: route.fulfill(**problem(429, "full", **{"Retry-After": "60"})))
    give(visit, png())
    expect(visit.page.get_by_role("status")).to_contain_text("full")
    visit.page.get_by_role("button", name="Cancel").click()
    expect(visit.page.get_by_role("status")).to_have_text("Cancelled.")
    expect(visit.page.get_by_role("button", name="Cancel")).to_be_hidden()
    expect(visit.page.get_by_role("progressbar")).to_be_hidden()
    expect(visit.page.get_by_role("alert")).to_be_hidden()
    again = visit.page.get_by_role("button", name="Segment again")
    expect(again).to_be_focused()
    canvas = visit.page.locator("#canvas")
    canvas.hover()
    expect(visit.page.locator("#readout")).to_have_text(re.compile(r"x \d+, y \d+: no mask$"))
    visit.page.unroute("**/segment*")
    again.press("Enter")
    visit.wait()
    expect(again).to_be_hidden()
    expect(canvas).to_be_focused()
    visit.assert_drawn(blended(scene()), BLENDED_OFF)


def test_of_two_images_the_later_is_shown_even_if_the_earlier_is_answered_last(visit):
    held = []
    visit.page.route("**/segment*", lambda route: route.continue_() if held else held.append(route))
    give(visit, png(scene(20, 30)))
    expect(visit.page.get_by_role("status")).to_have_text("Segmenting…")
    pixels = scene(30, 20, seed=3)
    give(visit, png(pixels))
    visit.wait()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_a_model_that_loads_is_waited_for(chromium):
    may_load = threading.Event()

    def load():
        may_load.wait(30)
        return predictor()

    with running(load, wait_until_ready=False) as service:
        with visiting(chromium, str(service.client.base_url), wait=False) as visit:
            status = visit.page.get_by_role("status")
            expect(status).to_contain_text("still loading")
            give(visit, png(scene()))
            expect(status).to_contain_text("still loading")
            may_load.set()
            visit.wait()
            visit.assert_drawn(blended(scene()), BLENDED_OFF)
            expect(visit.page.locator("#model")).to_contain_text("fake-nano")


def assert_beside(page, first, second):
    """No part of one element lies on the other."""
    a, b = (page.locator(selector).bounding_box() for selector in (first, second))
    apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    assert apart or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"], (a, b)


def test_the_key_field_closes_with_escape(visit):
    button, field = visit.page.get_by_role("button", name="API key"), visit.page.get_by_label("API key of this service")
    for _ in range(2):
        button.press("Enter")
        expect(field).to_be_focused()
        expect(button).to_have_attribute("aria-expanded", "true")
        visit.page.keyboard.press("Escape")
        expect(field).to_be_hidden()
        expect(button).to_be_focused()


def test_a_key_that_is_given_beside_a_mask_is_tried_and_leaves_the_mask(visit):
    visit.choose(png(scene()))
    visit.page.get_by_role("button", name="API key").click()
    visit.page.keyboard.type(KEY)
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("status")).to_have_text("Ready: fake-nano.")
    expect(visit.page.get_by_role("button", name="API key")).to_be_focused()
    visit.assert_drawn(blended(scene()), BLENDED_OFF)


def test_a_key_is_asked_for_sent_and_kept_in_the_tab_alone(chromium, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"alice:user:{KEY}\n")
    keys.chmod(0o600)
    sent = set()
    with running(predictor, api_keys_file=str(keys)) as service:
        with visiting(chromium, str(service.client.base_url), wait=False) as visit:
            page = visit.page
            page.on("request", lambda request: sent.add(request.headers.get("authorization")))
            alert, field = page.get_by_role("alert"), page.get_by_label("API key of this service")
            expect(alert).to_contain_text("An API key is needed")
            expect(field).to_be_focused()
            assert "`" not in alert.inner_text() and "Bearer" not in alert.inner_text(), "words for who wrote a program"
            expect(page.locator("header")).not_to_contain_text("Asking the service")
            for wrong, words in (("schlüssel", "visible ASCII"), ("alice-of-another-place", "API key")):
                field.fill(wrong)
                page.get_by_role("button", name="Use").click()
                expect(alert).to_contain_text(words)
                expect(field).to_be_focused()
            assert "Bearer" not in alert.inner_text()
            assert_beside(page, "#key-form", "main")
            give(visit, png(scene()))
            expect(alert).to_contain_text("API key")
            field.fill(f" {KEY} ")
            page.keyboard.press("Enter")
            visit.wait()  # the image that was refused is taken up again
            expect(alert).to_be_hidden()
            expect(field).to_be_hidden()
            expect(page.get_by_role("button", name="API key")).to_be_focused()
            expect(page.locator("#model")).to_contain_text("fake-nano")
            visit.assert_drawn(blended(scene()), BLENDED_OFF)
            assert sent == {None, "Bearer alice-of-another-place", f"Bearer {KEY}"}
            stored = "() => [localStorage.length, JSON.stringify({...sessionStorage}), document.cookie]"
            assert page.evaluate(stored) == [0, json.dumps({"roadseg-api-key": KEY}, separators=(",", ":")), ""]
            page.reload()
            expect(page.get_by_role("status")).to_contain_text("Ready")
            page.get_by_role("button", name="API key").click()
            expect(field).to_be_focused()
            field.fill("")
            page.get_by_role("button", name="Use").click()
            expect(alert).to_contain_text("An API key is needed")
            assert page.evaluate(stored)[1] == "{}"
