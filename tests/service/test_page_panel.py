"""The panel beside the image: what its table tells, what hiding a class does, and what it hands out."""

import json

import numpy as np
from page_driving import BLENDED_OFF, NAMES, blended, confidence_of
from PIL import Image
from service_corpus import mask_of, png, scene

from roadseg.images import decode_image


def test_the_table_tells_areas_shares_and_confidences(visit):
    pixels = scene()
    visit.choose(png(pixels))
    mask, confidence = mask_of(pixels), confidence_of(pixels)
    expected = [
        [
            NAMES[i],
            str(np.sum(mask == i)),
            f"{100 * np.mean(mask == i):.1f} %",
            f"{100 * confidence[mask == i].astype(float).mean():.0f} %",
        ]
        for i in np.argsort(-np.bincount(mask.ravel()), kind="stable")
    ]
    rows = visit.page.locator("#classes tr").all()
    assert [[cell.strip() for cell in row.locator("th, td").all_text_contents()] for row in rows] == expected


def test_a_class_that_is_unticked_shows_the_image_beneath(visit):
    pixels = scene()
    visit.choose(png(pixels))
    visit.page.get_by_role("checkbox", name="sky").uncheck()
    visit.assert_drawn(blended(pixels, hidden=[4]), BLENDED_OFF)
    visit.page.get_by_role("button", name="Hide all").click()
    visit.assert_drawn(pixels)
    visit.page.get_by_role("checkbox", name="road").check()
    visit.assert_drawn(blended(pixels, hidden=[1, 2, 3, 4]), BLENDED_OFF)


def test_classes_that_are_hidden_stay_hidden_with_the_next_image(visit):
    visit.choose(png(scene()))
    sky = visit.page.get_by_role("checkbox", name="sky")
    sky.uncheck()
    pixels = scene(seed=6)
    visit.choose(png(pixels))
    visit.assert_drawn(blended(pixels, hidden=[4]), BLENDED_OFF)
    assert not sky.is_checked() and visit.page.get_by_role("checkbox", checked=True).count() == 4
    only_road = np.tile(np.array([5, 0, 0], np.uint8), (24, 40, 1))
    visit.page.get_by_role("button", name="Hide all").click()
    visit.page.get_by_role("checkbox", name="road").check()
    visit.choose(png(only_road))
    visit.assert_drawn(blended(only_road), BLENDED_OFF)
    visit.choose(png(pixels))
    visit.assert_drawn(blended(pixels, hidden=[1, 2, 3, 4]), BLENDED_OFF)
    visit.page.get_by_role("button", name="Show all").click()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_classes_of_another_model_are_all_shown(visit):
    visit.choose(png(scene()))
    visit.page.get_by_role("button", name="Hide all").click()

    def change(route):
        answer = route.fetch().json()
        answer["model"]["digest"] = "cd" * 32
        route.fulfill(json=answer)

    visit.page.route("**/segment*", change)
    visit.choose(png(scene(seed=7)))
    visit.assert_drawn(blended(scene(seed=7)), BLENDED_OFF)


def test_shares_are_rounded_to_nothing_and_to_all_only_where_they_are(visit):
    percent = """async (cases) => {
      const { percent } = await import("/page/legend.js");
      return cases.map((values) => percent(...values));
    }"""
    cases = {
        (1, 0): "100 %",
        (0.996, 0): ">99 %",
        (0.994, 0): "99 %",
        (0.9996, 1): ">99.9 %",
        (0.9994, 1): "99.9 %",
        (1, 1): "100.0 %",
        (0, 0): "0 %",
        (0.004, 0): "<1 %",
        (0.0004, 1): "<0.1 %",
        (0.123, 1): "12.3 %",
    }
    assert visit.page.evaluate(percent, [list(case) for case in cases]) == list(cases.values())


def download(page, name):
    with page.expect_download() as downloading:
        page.get_by_role("button", name=name).click()
    return downloading.value


def test_downloads_are_what_the_service_answers_byte_for_byte(visit, page_service):
    data = png()
    visit.choose(data, "drive 7.of march.png")
    post = page_service.client.post
    mask = download(visit.page, "Whole mask")
    assert mask.suggested_filename == "drive 7.of march_mask.png"
    assert mask.path().read_bytes() == post("/segment", content=data).content
    document = download(visit.page, "JSON")
    assert document.suggested_filename == "drive 7.of march.json"
    answer = post("/segment?confidence=true", content=data, headers={"Accept": "application/json"})
    assert json.loads(document.path().read_bytes()) == answer.json()
    assert document.path().read_bytes() == answer.content


def test_the_overlay_is_downloaded_as_it_is_seen(visit, page_service):
    data = png()
    visit.choose(data)
    visit.page.get_by_role("slider", name="Opacity").fill("30")
    visit.page.get_by_role("checkbox", name="sky").uncheck()
    overlay = download(visit.page, "Overlay").path().read_bytes()
    assert (
        overlay == page_service.client.post("/segment?render=overlay&opacity=0.3&classes=0,1,2,3", content=data).content
    )
    seen = blended(scene(), 0.3, hidden=[4])
    assert np.abs(decode_image(overlay).pixels - seen).max() <= 1


def test_the_mask_and_the_json_are_whole_whatever_is_hidden_on_the_page(visit):
    pixels = scene()
    visit.choose(png(pixels))
    visit.page.get_by_role("button", name="Hide all").click()
    visit.page.get_by_role("checkbox", name="road").check()
    assert np.array_equal(np.array(Image.open(download(visit.page, "Whole mask").path())), mask_of(pixels))
    document = json.loads(download(visit.page, "JSON").path().read_bytes())
    assert [entry["area_px"] for entry in document["classes"]] == np.bincount(mask_of(pixels).ravel()).tolist()
    told = visit.page.get_by_text("Mask and JSON hold all classes; the overlay holds those shown.")
    assert told.is_visible()
