"""The page in a real browser: images come in, masks are seen, read, compared and downloaded."""

import base64
import re

import cv2
import numpy as np
import pytest
from page_driving import BLENDED_OFF, COLOURS, MARKUP, NAMES, PICTURE, SETTLED, blended, confidence_of, numbers
from pycocotools import mask as coco_mask
from service_corpus import encode, mask_of, png, scene, with_orientation
from service_running import DIGEST

from roadseg.images import decode_image

EXAMPLE_PIXELS = "960 \N{MULTIPLICATION SIGN} 540 px"


def test_an_image_that_is_chosen_is_shown_under_its_mask(visit):
    pixels = scene()
    with visit.page.expect_file_chooser() as chooser:
        visit.page.get_by_role("button", name="Choose an image").click()
    chooser.value.set_files({"name": "scene.png", "mimeType": "image/png", "buffer": png(pixels)})
    visit.wait()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_an_image_that_is_dropped_is_shown_under_its_mask(visit):
    pixels = scene(seed=1)
    transfer = visit.transfer((png(pixels), "scene.png"))
    visit.page.dispatch_event("#start", "dragover", {"dataTransfer": transfer})
    visit.page.dispatch_event("#start", "drop", {"dataTransfer": transfer})
    visit.wait()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_an_image_that_is_pasted_is_shown_under_its_mask(visit):
    pixels = scene(seed=2)
    paste = (
        "(clipboardData) => document.body.dispatchEvent("
        "new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))"
    )
    assert visit.transfer((png(pixels), "scene.png")).evaluate(paste) is False, "the paste was not taken"
    visit.wait()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_the_example_is_one_click_away(visit):
    visit.page.get_by_role("button", name="Try the example").click()
    visit.wait()
    assert EXAMPLE_PIXELS in visit.page.locator("#file-size").inner_text()


def test_a_second_image_takes_the_place_of_the_first(visit):
    visit.choose(png(scene(20, 30)))
    pixels = scene(30, 20, seed=3)
    visit.choose(png(pixels))
    visit.page.get_by_text("Segmented 20 \N{MULTIPLICATION SIGN} 30 pixels").wait_for()
    visit.assert_drawn(blended(pixels), BLENDED_OFF)


def test_of_several_files_it_says_that_the_first_is_taken(visit):
    transfer = visit.transfer(*((png(scene(seed=i)), f"{i}.png") for i in range(3)))
    visit.page.dispatch_event("#start", "drop", {"dataTransfer": transfer})
    visit.wait()
    visit.assert_drawn(blended(scene(seed=0)), BLENDED_OFF)
    assert visit.page.locator("#file-name").inner_text() == "0.png"
    assert visit.page.locator("#file-size").inner_text() == "40 \N{MULTIPLICATION SIGN} 24 px, the first of 3 files"
    assert visit.page.get_by_role("status").inner_text().endswith("Of 3 files only the first is segmented.")
    visit.choose(png())
    visit.page.get_by_text("Segmented 40").wait_for()
    assert "files" not in visit.page.locator(".file").inner_text() + visit.page.get_by_role("status").inner_text()


def test_opacity_goes_from_the_image_alone_to_the_colours_alone(visit):
    pixels = scene()
    visit.choose(png(pixels))
    slider = visit.page.get_by_role("slider", name="Opacity")
    for value in (0, 80, 100):
        slider.fill(str(value))
        visit.assert_drawn(blended(pixels, value / 100), BLENDED_OFF)
        assert visit.page.locator("#opacity-value").inner_text() == f"{value} %"
    assert np.array_equal(visit.drawn(*pixels.shape[:2]), np.array(COLOURS)[mask_of(pixels)])


def test_pointing_at_a_pixel_reads_its_class_and_confidence(visit):
    pixels = scene()
    visit.choose(png(pixels))
    box = visit.page.locator("#canvas").bounding_box()
    width, height = visit.page.evaluate("() => [canvas.width, canvas.height]")
    scale = min(width / 40, height / 24, 32)
    left, top = round((width - 40 * scale) / 2), round((height - 24 * scale) / 2)
    for x, y in ((0, 0), (39, 0), (17, 9), (39, 23)):
        visit.page.mouse.move(box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale)
        assert visit.page.locator("#readout").inner_text() == readout(pixels, x, y)
    visit.page.mouse.move(2, 2)
    assert visit.page.locator("#readout").inner_text() == "Point at the image to read it"


def readout(pixels, x, y):
    name, sure = NAMES[mask_of(pixels)[y, x]], confidence_of(pixels)[y, x]
    return f"x {x}, y {y}: {name}, confidence {100 * sure:.0f} %"


def test_all_of_it_works_by_keyboard_alone(visit):
    page = visit.page
    page.locator("#file").set_input_files({"name": "scene.png", "mimeType": "", "buffer": png()})
    visit.wait()
    page.reload()
    page.get_by_text("Ready").wait_for()
    page.keyboard.press("Tab")
    while page.evaluate("() => document.activeElement.id") != "example":
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement !== document.body"), "the example cannot be reached"
    page.keyboard.press("Enter")
    visit.wait()
    focus = "() => document.activeElement.id || document.activeElement.textContent.trim()"
    assert page.evaluate(focus) == "canvas", "what was focused has gone, and the focus with it"
    page.keyboard.press("ArrowRight")
    assert page.locator("#spoken").inner_text().startswith("x 480, y 270: ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert page.locator("#spoken").inner_text().startswith("x 481, y 318: ")
    page.keyboard.press("End")
    assert page.locator("#spoken").inner_text() == page.locator("#readout").inner_text()
    assert page.locator("#spoken").inner_text().startswith("x 959, y 318: ")
    page.keyboard.press("1")
    assert page.locator("#zoom").inner_text() == "100 %"
    reached = []
    while (page.keyboard.press("Tab"), page.evaluate("() => document.activeElement === document.body"))[1] is False:
        reached.append(page.evaluate("() => document.activeElement.id || document.activeElement.type"))
        assert len(reached) < 40, "the focus is caught"
    expected = ["wipe", "opacity", "all", "none", *["checkbox"] * 5, "save-mask", "save-json", "save-overlay", "", ""]
    assert reached == expected


def test_a_screen_reader_is_told_what_each_control_is(visit):
    from playwright.sync_api import expect

    visit.choose(png())
    expect(visit.page.get_by_role("main")).to_match_aria_snapshot("""
- region "Image":
  - button "Choose another"
  - group "Zoom":
    - button "Zoom out"
    - button "Zoom in"
    - button "Fit" [pressed]
    - button "100 %"
  - application "Image with mask"
  - slider "Before | after": "0"
  - status: /Segmented 40 . 24 pixels. 5 classes/
- complementary "Mask and model":
  - region "Mask":
    - slider "Opacity": "50"
    - table "Classes Show all Hide all":
      - rowgroup:
        - row "Class Pixels Share Conf.":
          - columnheader "Class"
          - columnheader "Pixels"
    - group "Download":
      - button "Whole mask"
      - button "JSON"
      - button "Overlay"
  - region "Model"
""")
    assert visit.page.get_by_role("checkbox", checked=True).count() == 5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_the_mask_lies_on_the_image_as_its_exif_turns_it(visit, kind):
    # One colour a block, which JPEG keeps well enough, and no two corners alike.
    pixels = np.repeat(np.repeat(scene(3, 5, seed=4), 16, 0), 16, 1)
    # Of a WebP Chromium itself heeds no EXIF, so that the page turns it; of the others it does.
    for tag in range(2, 9) if kind == "WEBP" else (2, 6):
        data = with_orientation(kind, tag, pixels)
        displayed = decode_image(data).pixels
        visit.choose(data, f"{tag}.{kind.lower()}")
        visit.page.get_by_text(f"{tag}.{kind.lower()}").wait_for()
        visit.page.get_by_text("Segmented").wait_for()
        visit.page.get_by_role("slider", name="Opacity").fill("0")
        visit.assert_drawn(displayed, tolerance=0 if kind == "PNG" else 24)
        visit.page.get_by_role("slider", name="Opacity").fill("100")
        visit.assert_drawn(blended(displayed, 1))


def test_names_are_text_whatever_they_hold(visit):
    visit.choose(png(), f"{MARKUP}.png")
    assert visit.page.locator("#file-name").inner_text() == f"{MARKUP}.png"
    assert visit.page.get_by_role("checkbox", name=MARKUP).count() == 1
    assert "research use only <b>here</b>" in visit.page.locator("#licence").inner_text()
    assert visit.page.locator("img").count() == 1, "the page's own icon"
    assert visit.page.locator("b").count() == 0


def test_zooming_and_moving_keep_the_pixel_that_is_pointed_at(visit):
    visit.choose(png(scene(200, 300)))
    box = visit.page.locator("#canvas").bounding_box()

    def read_at(x, y):
        visit.page.mouse.move(0, 0)
        visit.page.mouse.move(box["x"] + x, box["y"] + y)
        return np.array(re.findall(r"\d+", visit.page.locator("#readout").inner_text())[:2], int)

    before = read_at(200, 150)
    visit.page.keyboard.down("Control")
    for _ in range(4):
        visit.page.mouse.wheel(0, -200)
    visit.page.keyboard.up("Control")
    zoomed = read_at(200, 150)
    assert int(visit.page.locator("#zoom").inner_text().removesuffix(" %")) > 2000
    assert np.abs(zoomed - before).max() <= 1
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + 260, box["y"] + 190)
    visit.page.mouse.up()
    assert np.array_equal(read_at(260, 190), zoomed)
    assert not np.array_equal(read_at(200, 150), zoomed)


def answer_of(mask, levels):
    """The service's answer for a mask (H, W) and a confidence plane (H, W) uint8, put together by hand."""
    height, width = mask.shape
    classes = []
    for i, area in enumerate(np.bincount(mask.ravel())):
        rle = coco_mask.encode(np.asfortranarray(mask == i, dtype=np.uint8))
        entry = {"id": i, "name": NAMES[i], "colour": COLOURS[i], "area_px": int(area), "share": area / mask.size}
        classes.append({**entry, "rle": {"size": [height, width], "counts": rle["counts"].decode()}})
    plane = base64.b64encode(cv2.imencode(".png", levels)[1]).decode()
    return {
        "image": {
            "width": width,
            "height": height,
            "format": "PNG",
            "exif_orientation": 1,
            "orientation": "displayed",
        },
        "model": {"name": "fake-nano", "digest": DIGEST},
        "classes": classes,
        "confidence": {"media_type": "image/png", "scale": 1 / 255, "data": plane},
    }


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(2160, 3840), (4500, 5000)])
def test_large_images_are_read_exactly(visit, height, width):
    """4K, and beyond what a canvas is trusted with: drawn smaller, but read pixel by pixel."""
    coarse = np.random.default_rng(0).integers(0, 5, (height // 30, width // 40)).astype(np.uint8)
    mask = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    mask[-1, -1] = 4
    levels = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    visit.page.route("**/segment*", lambda route: route.fulfill(json=answer_of(mask, levels)))
    visit.choose(encode(np.full((height, width), 90, np.uint8)))
    visit.page.locator("#canvas").focus()

    def at(x, y):
        return f"x {x}, y {y}: {NAMES[mask[y, x]]}, confidence {100 * int(levels[y, x]) / 255:.0f} %"

    read = visit.page.locator("#readout").inner_text
    visit.page.keyboard.press("ArrowRight")
    assert read() == at(width // 2, height // 2)
    visit.page.keyboard.press("Home")
    assert read() == at(0, height // 2)
    for _ in range(20):
        visit.page.keyboard.press("Shift+ArrowDown")
    visit.page.keyboard.press("End")
    assert read() == at(width - 1, height - 1)
    visit.page.get_by_role("slider", name="Opacity").fill("100")
    visit.page.evaluate(SETTLED)
    shown = np.array(visit.page.evaluate("() => [canvas.width, canvas.height]"))
    scale = max((width, height) / shown)
    for offset in ((-200, -100), (-31, 77), (170, -140), (3, 9)):
        spot = shown // 2 + offset
        x, y = np.round((spot - shown / 2) * scale + (width / 2, height / 2)).astype(int)
        around = mask[y - 8 : y + 8, x - 8 : x + 8]
        if (around == around[0, 0]).all():  # away from edges, which are drawn between two colours
            colour = numbers(visit.page.evaluate(PICTURE, [int(spot[0]), int(spot[1]), 1, 1]), 4)
            assert tuple(colour[:3]) == COLOURS[around[0, 0]]
