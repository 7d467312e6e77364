"""The line between before and after: moved by mouse, finger and keyboard, and told to those who do not see it."""

import numpy as np
import pytest
from page_driving import BLENDED_OFF, PHONE, SETTLED, blended, visiting
from service_corpus import png, scene

ON_SCREEN = """() => {
  const { left, right, top, bottom } = document.querySelector("#wipe-handle .knob").getBoundingClientRect();
  const line = document.getElementById("wipe-handle").getBoundingClientRect().left;
  return { left, right, top, bottom, line };
}"""


def where(visit):
    visit.page.evaluate(SETTLED)
    return visit.page.evaluate(ON_SCREEN)


def slider(visit):
    return visit.page.get_by_role("slider", name="Before | after")


def drag(visit, dx, dy=0):
    """Take the knob in its middle and move it."""
    at = where(visit)
    x, y = (at["left"] + at["right"]) / 2, (at["top"] + at["bottom"]) / 2
    visit.page.mouse.move(x, y)
    visit.page.mouse.down()
    visit.page.mouse.move(x + dx / 2, y)
    visit.page.mouse.move(x + dx, y + dy)
    visit.page.mouse.up()


def test_before_and_after_meet_where_the_slider_is(visit):
    pixels = scene(48, 400)
    visit.choose(png(pixels))
    slider(visit).fill("50")
    expected = np.where(np.arange(400)[:, None] < 200, pixels, blended(pixels))
    visit.assert_drawn(expected, BLENDED_OFF)


def test_the_line_goes_where_the_mouse_drags_it(visit):
    visit.choose(png(scene(300, 400)))
    box = visit.page.locator("#canvas").bounding_box()
    span = min(box["width"], box["height"] * 400 / 300)
    first = (box["width"] - span) / 2 + box["x"]
    assert where(visit)["line"] == pytest.approx(first, abs=1), "at the edge of the image, not of the room around it"
    drag(visit, span / 4, dy=30)
    assert where(visit)["line"] == pytest.approx(first + span / 4, abs=1)
    assert slider(visit).input_value() == "25"
    assert visit.page.locator("#wipe-value").inner_text() == "25 %"
    readout = visit.page.locator("#readout").inner_text()
    drag(visit, span)  # beyond the other edge
    assert where(visit)["line"] == pytest.approx(first + span, abs=1)
    assert slider(visit).input_value() == "100"
    drag(visit, -3 * span)
    assert slider(visit).input_value() == "0"
    assert readout.startswith("x "), "what lies beneath the line can be read"


def test_what_was_dragged_goes_on_by_keyboard(visit):
    visit.choose(png(scene(300, 400)))
    drag(visit, 100)
    value = int(slider(visit).input_value())
    visit.page.keyboard.press("ArrowRight")
    assert slider(visit).input_value() == str(value + 1)


def test_dragging_the_line_leaves_a_zoomed_image_where_it_is(visit):
    pixels = scene(300, 400)
    visit.choose(png(pixels))
    for _ in range(3):
        visit.page.get_by_role("button", name="Zoom in").click()
    box = visit.page.locator("#canvas").bounding_box()
    drag(visit, box["width"] / 2)
    assert slider(visit).input_value() == "50"
    visit.page.mouse.move(box["x"] + box["width"] / 2 + 100, box["y"] + box["height"] / 2)
    assert visit.page.locator("#readout").inner_text().startswith("x 2"), "right of the middle, as before"
    visit.page.keyboard.down("Control")
    visit.page.mouse.wheel(0, -100)
    visit.page.keyboard.up("Control")
    assert where(visit)["line"] == pytest.approx(box["x"] + box["width"] / 2, abs=1)


def test_the_line_is_told_in_words(visit):
    visit.choose(png())
    told = []
    for value in ("0", "30", "100"):
        slider(visit).fill(value)
        told.append(slider(visit).get_attribute("aria-valuetext"))
    assert told == ["the mask everywhere", "the image alone in the left 30 %", "the image alone everywhere"]


def test_without_a_mask_there_is_no_line(visit):
    assert not visit.page.locator("#wipe-handle").is_visible()
    visit.page.route("**/segment*", lambda route: route.abort())
    visit.page.locator("#file").set_input_files({"name": "a.png", "mimeType": "", "buffer": png()})
    visit.page.get_by_role("alert").wait_for()
    assert not visit.page.locator("#wipe-handle").is_visible()
    assert slider(visit).is_disabled()


def test_a_finger_drags_the_line(chromium, page_service):
    with visiting(chromium, str(page_service.client.base_url), **PHONE) as visit:
        visit.choose(png(scene(60, 80)))
        at = where(visit)
        assert at["right"] - at["left"] >= 44 and at["bottom"] - at["top"] >= 44, "what a finger hits"
        assert visit.page.locator("#wipe-handle").evaluate("(e) => getComputedStyle(e).touchAction") == "none"
        box = visit.page.locator("#canvas").bounding_box()
        x, y = (at["left"] + at["right"]) / 2, (at["top"] + at["bottom"]) / 2
        touch(visit, [(x, y), (x + 20, y + 9), (x + box["width"] / 2, y + 60)])
        assert slider(visit).input_value() == "50"
        assert visit.page.evaluate("() => scrollY") == 0, "the page did not scroll with it"
        slider(visit).fill("100")
        assert visit.page.evaluate("() => document.documentElement.scrollWidth") == 375


def touch(visit, points):
    """One finger goes along the points; the browser itself decides whether that scrolls."""
    session = visit.page.context.new_cdp_session(visit.page)
    for i, (x, y) in enumerate(points):
        kind = "touchMove" if i else "touchStart"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()
