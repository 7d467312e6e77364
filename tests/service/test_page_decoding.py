"""The page's own decoders against those of Python: run-length encodings, confidence planes, times to wait."""

import base64
from email.utils import formatdate

import cv2
import numpy as np
import pytest
from page_driving import IN_TEXT, numbers
from pycocotools import mask as coco_mask
from service_corpus import opened, png16

from roadseg_service.answers.runs import column_runs, rle_of

IDS = f"""async ({{ classes, width, height, nothing }}) => {{
  const {{ classIds }} = await import("/page/rle.js");
  return {IN_TEXT}(classIds(classes, width, height, nothing));
}}"""

PLANE = f"""async ({{ data, width, height }}) => {{
  const {{ readGreyPng }} = await import("/page/grey_png.js");
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return {IN_TEXT}(await readGreyPng(bytes, width, height));
}}"""


@pytest.fixture(scope="module")
def visit(tab, page_service):
    """One page for all tests here: they use its modules, and leave the page as it is."""
    with tab.open(str(page_service.client.base_url)) as opened_page:
        yield opened_page


def class_ids(visit, classes, height, width):
    wanted = {"classes": classes, "width": width, "height": height, "nothing": 255}
    return numbers(visit.page.evaluate(IDS, wanted), height, width)


def masks():
    generator = np.random.default_rng(0)
    yield np.zeros((1, 1), np.uint8)
    yield generator.integers(0, 7, (65, 130)).astype(np.uint8)  # single pixels, and blocks that are not whole
    yield cv2.resize(generator.integers(0, 4, (5, 7)).astype(np.uint8), (301, 97), interpolation=cv2.INTER_NEAREST)
    yield np.repeat(np.array([0, 254, 3], np.uint8), 70_000).reshape(300, 700)  # runs of four digits
    yield np.where(generator.random((40, 50)) < 0.3, 255, 9).astype(np.uint8)  # 255 is no class


def test_run_lengths_are_read_as_pycocotools_writes_them(visit):
    for mask in masks():
        classes = []
        for i in np.unique(mask[mask != 255]):
            encoded = coco_mask.encode(np.asfortranarray(mask == i, dtype=np.uint8))
            classes.append({"id": int(i), "rle": {"size": encoded["size"], "counts": encoded["counts"].decode()}})
        assert np.array_equal(class_ids(visit, classes, *mask.shape), mask)


def test_run_lengths_are_read_as_the_service_writes_them(visit):
    for mask in masks():
        classes = [{"id": r.class_id, "rle": rle_of(r, mask.shape).model_dump()} for r in column_runs(mask)]
        assert np.array_equal(class_ids(visit, classes, *mask.shape), mask)


@pytest.mark.parametrize("counts", ["1", "", "99", "Z", "oooooooo1", "\x10", "é1", "05"])
def test_run_lengths_that_do_not_make_up_the_image_are_refused(visit, counts):
    with pytest.raises(Exception, match="RangeError: the run-length encoding is"):
        class_ids(visit, [{"id": 0, "rle": {"size": [2, 2], "counts": counts}}], 2, 2)


def plane(visit, data, height, width):
    wanted = {"data": base64.b64encode(data).decode(), "width": width, "height": height}
    return numbers(visit.page.evaluate(PLANE, wanted), height, width)


@pytest.mark.parametrize("name", ["NONE", "SUB", "UP", "AVG", "PAETH"])
def test_grey_planes_are_read_as_pillow_reads_them(visit, name):
    values = np.random.default_rng(1).integers(0, 256, (37, 53)).astype(np.uint8)
    values[10:30, 10:40] = cv2.GaussianBlur(values, (9, 9), 3)[10:30, 10:40]
    data = cv2.imencode(".png", values, [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{name}")])[
        1
    ].tobytes()
    assert np.array_equal(np.asarray(opened(data)), values)
    assert np.array_equal(plane(visit, data, 37, 53), values)


def test_planes_that_are_no_grey_png_of_the_size_are_refused(visit):
    grey = cv2.imencode(".png", np.zeros((4, 6), np.uint8))[1].tobytes()
    colour = cv2.imencode(".png", np.zeros((4, 6, 3), np.uint8))[1].tobytes()
    wrong = [grey[:-20], b"GIF89a", colour, png16(np.zeros((4, 6), np.uint16)), grey[:8]]
    for data in wrong:
        with pytest.raises(Exception, match="the confidence plane"):
            plane(visit, data, 4, 6)
    with pytest.raises(Exception, match="mask's size"):
        plane(visit, grey, 6, 4)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 1),
        ("999999", 60),
        (formatdate(1_800_000_030, usegmt=True), 30),
        (formatdate(1_700_000_000, usegmt=True), 1),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(visit, value, seconds):
    script = """async (value) => (await import("/page/service.js")).secondsOf(value, 1800000000000)"""
    assert visit.page.evaluate(script, value) == seconds
