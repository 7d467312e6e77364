"""How the page is laid out and coloured: on a phone, in the dark, with names of any length, for those who see less."""

import pytest
from page_driving import PHONE, predictor, visiting
from service_corpus import png, scene
from service_running import running

# Of each element that has text of its own: its contrast against what is painted behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
  const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return context.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = [...colour].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, noscript")) continue;
    const [a, b] = [rgba(getComputedStyle(element).color), ground(element)].map(luminance);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.textContent.trim()]);
  }
  return found;
}"""

OVERFLOWING = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.checkVisibility() && !e.closest(".unseen") && e.getBoundingClientRect().right > innerWidth + 0.5)
  .map((e) => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(chromium, page_service, scheme):
    with visiting(chromium, str(page_service.client.base_url), color_scheme=scheme) as visit:
        found = visit.page.evaluate(CONTRASTS)
        visit.choose(png())
        visit.page.get_by_role("button", name="API key").click()
        found += visit.page.evaluate(CONTRASTS)
        visit.page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "", "buffer": b"no image"})
        visit.page.get_by_role("alert").wait_for()
        found += visit.page.evaluate(CONTRASTS)
    assert len(found) > 80
    assert [text for ratio, text in found if ratio < 4.5] == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(chromium, page_service):
    with visiting(chromium, str(page_service.client.base_url), **PHONE) as visit:
        assert visit.page.evaluate(OVERFLOWING) == []
        visit.choose(png(scene(60, 80)), "a_file_with_a_name_that_goes_on_and_on" * 5 + ".png")
        visit.page.get_by_text("Segmented").wait_for()
        assert visit.page.evaluate(OVERFLOWING) == []
        assert visit.page.evaluate("() => document.documentElement.scrollWidth") == 375
        heights = visit.page.locator("button:visible").evaluate_all("(all) => all.map((e) => e.offsetHeight)")
        assert min(heights) >= 44, "what a finger hits"


def boxes(visit, *selectors):
    return [visit.page.locator(selector).bounding_box() for selector in selectors]


def test_head_and_foot_keep_to_the_edges_of_what_is_between(visit):
    visit.choose(png(scene(60, 80)), "a_file_with_a_name_that_goes_on_and_on" * 5 + ".png")
    try:
        for width, height in ((1920, 1080), (1280, 800), (812, 375), (768, 1024), (375, 812)):
            visit.page.set_viewport_size({"width": width, "height": height})
            assert_in_line(visit)
    finally:
        visit.page.set_viewport_size({"width": 1280, "height": 800})


def assert_in_line(visit):
    brand, key, viewer, panel, foot = boxes(visit, "h1", "#access", ".viewer", ".panel", "footer p:first-child")
    assert visit.page.evaluate(OVERFLOWING) == []
    assert visit.page.locator("#stage").bounding_box()["width"] == viewer["width"]
    assert brand["x"] == foot["x"] == viewer["x"]
    assert key["x"] + key["width"] == max(panel["x"] + panel["width"], viewer["x"] + viewer["width"])
    assert abs(key["y"] + key["height"] / 2 - brand["y"] - brand["height"] / 2) < 2, "brand and key stand in one line"
    model, licence = boxes(visit, "#model", "#licence")
    assert model["x"] >= brand["x"] + brand["width"] or model["y"] >= key["y"] + key["height"]
    assert abs(model["y"] - licence["y"]) < 12 or model["x"] == licence["x"], "beside it, or right below"
    name = visit.page.locator("#file-name")
    assert name.bounding_box()["height"] < 30, "one line"
    assert name.get_attribute("title").endswith("on_and_on.png")
    assert visit.page.locator("#file-size").is_visible()


def test_the_foot_leads_to_the_documentation_where_there_is_one(chromium, visit):
    documentation = visit.page.get_by_role("link", name="API documentation")
    documentation.wait_for()
    assert visit.page.request.get(documentation.evaluate("(link) => link.href")).status == 200
    with running(predictor, api_docs=False) as service:
        with visiting(chromium, str(service.client.base_url)) as other:
            other.page.wait_for_load_state("networkidle")
            assert not other.page.get_by_role("link", name="API documentation").is_visible()
            assert other.page.get_by_role("link", name="OpenAPI").is_visible()


def test_a_finger_reads_moves_and_zooms(chromium, page_service):
    with visiting(chromium, str(page_service.client.base_url), **PHONE) as visit:
        visit.choose(png(scene(60, 80)))
        canvas = visit.page.locator("#canvas")
        assert canvas.evaluate("(c) => c.style.touchAction") == "pan-y", "the page can be scrolled from here"
        canvas.tap(position={"x": 100, "y": 100})
        assert visit.page.locator("#readout").inner_text().startswith("x ")
        visit.page.evaluate(
            """() => {
              const box = canvas.getBoundingClientRect();
              const at = (type, pointerId, x) => canvas.dispatchEvent(new PointerEvent(type, {
                pointerId, pointerType: "touch", bubbles: true, clientX: box.left + x, clientY: box.top + 80 }));
              canvas.setPointerCapture = () => {};
              at("pointerdown", 1, 100); at("pointerdown", 2, 140); at("pointermove", 2, 180); at("pointerup", 2, 180);
            }"""
        )
        before, after = visit.page.evaluate("() => [canvas.width / 80, parseInt(zoom.textContent) / 100]")
        assert after == pytest.approx(2 * before, rel=0.02), "two fingers twice as far apart"
        assert canvas.evaluate("(c) => c.style.touchAction") == "none"


def test_nothing_moves_for_those_who_want_it_still(chromium, page_service):
    with visiting(chromium, str(page_service.client.base_url), reduced_motion="reduce") as visit:
        styles = "(all) => all.map((e) => getComputedStyle(e)).map((s) => s.transitionDuration + s.animationName)"
        assert set(visit.page.locator("body *").evaluate_all(styles)) == {"0snone"}


def test_what_has_the_focus_is_outlined(visit):
    for _ in range(3):
        visit.page.keyboard.press("Tab")
        outline = visit.page.evaluate("() => getComputedStyle(document.activeElement).outline")
        assert "solid 3px" in outline
