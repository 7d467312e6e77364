"""What mask values give away, measured on many scenes: never on clean masks, always on damaged ones."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from roadseg.audit.label_checks import find_shift
from roadseg.audit.label_space import LabelSpace
from roadseg.audit.mask_values import explain_unknown, histogram, is_lossy
from roadseg.audit.tally import LabelTally
from roadseg.data.class_table import ClassTable, SourceLabel, load_class_table
from roadseg.data.synthetic import render_scene
from tests.audit.planted import jpeg


@pytest.fixture(scope="module")
def masks() -> list[np.ndarray]:
    return [render_scene(seed, (96, 160)).mask for seed in range(24)]


@pytest.mark.parametrize("factor", [0.5, 0.7, 1, 1.5, 3])
def test_masks_resized_with_nearest_neighbour_are_clean(factor, masks):
    size = (round(160 * factor), round(96 * factor))
    assert not any(is_lossy(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)) for mask in masks)


@pytest.mark.parametrize("quality", [50, 75, 85, 90, 95])
def test_masks_that_went_through_jpeg_are_lossy(quality, masks):
    assert all(is_lossy(np.array(Image.open(io.BytesIO(jpeg(mask, quality))))) for mask in masks)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.5, 2, 3])
@pytest.mark.parametrize("how", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
def test_masks_resized_with_interpolation_are_lossy(factor, how, masks):
    size = (round(160 * factor), round(96 * factor))
    assert all(is_lossy(cv2.resize(mask, size, interpolation=how)) for mask in masks)


def test_anti_aliased_polygons_are_lossy_and_plain_ones_are_not():
    corners = np.array([[8, 8], [120, 20], [90, 110], [12, 70]], np.int32)
    for line, lossy in ((cv2.LINE_8, False), (cv2.LINE_AA, True)):
        canvas = np.zeros((128, 128), np.uint8)
        cv2.fillPoly(canvas, [corners], 20, line)
        cv2.circle(canvas, (60, 60), 25, 7, -1, line)
        assert is_lossy(canvas) is lossy


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_histograms_are_numpys(dtype):
    labels = np.random.default_rng(0).choice([0, 3, 7, 255], (61, 47)).astype(dtype)
    for found, expected in zip(histogram(labels), np.unique(labels, return_counts=True), strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("ids", "check", "detail"),
    [
        ([1, 5, 12], "off-by-one", "ids 1 to 12; camvid has 0 to 11"),
        ([0, 5, 12], "unknown-label", "12 (1024 px) not in camvid"),  # 0 occurs: nothing was shifted
        ([1, 5, 13], "unknown-label", "13 (1024 px) not in camvid"),
        ([1, 5, 12, 255], "off-by-one", "ids 1 to 12; camvid has 0 to 11"),
        ([0, 257, 257 * 7], "unknown-label", "every value is a multiple of 257: 8-bit ids were stretched to 16 bits"),
        ([0, 256, 512], "unknown-label", "every value is a multiple of 256: 8-bit ids were stretched to 16 bits"),
        ([0, 3, 255], "unknown-label", "if 255 marks unlabelled pixels, add it to the table as an ignored label"),
    ],
)
def test_unknown_values_are_explained(ids, check, detail):
    labels = np.repeat(np.array(ids, np.uint16), 1024).reshape(-1, 64)
    defect = explain_unknown(labels, *histogram(labels), LabelSpace(load_class_table("camvid")))
    assert defect.check == check and detail in defect.detail


def tally_of(masks: list[np.ndarray]) -> LabelTally:
    tally = LabelTally()
    for mask in masks:
        tally.add(mask, *histogram(mask))
    return tally


def synthetic_space() -> LabelSpace:
    """The scenes' own table with a label in front and one behind, both of which no scene shows."""
    labels = load_class_table("synthetic").labels
    shifted = [SourceLabel(x.id + 1, x.name, x.colour, x.to) for x in labels]
    return LabelSpace(ClassTable("own", (SourceLabel(0, "void"), *shifted, SourceLabel(14, "spare"))))


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_shifts_within_the_table_show_by_where_sky_and_road_are(shift, masks):
    tally = tally_of([mask + np.uint8(1 + shift) for mask in masks])
    assert find_shift(tally, synthetic_space()) == shift


def test_pictures_without_sky_are_no_shift(masks):
    """Sky is CamVid's label 0: that it is missing alone says nothing."""
    lookup = np.array([3, 3, 4, 7, 2, 2, 6, 6, 1, 5, 5, 1, 8], np.uint8)
    assert find_shift(tally_of([lookup[mask] for mask in masks]), LabelSpace(load_class_table("camvid"))) == 0


def test_two_masks_show_no_rule(masks):
    assert find_shift(tally_of([mask + 2 for mask in masks[:2]]), synthetic_space()) == 0


def test_tallies_add_up_however_they_are_cut(masks):
    whole, parts = tally_of(masks), LabelTally()
    for start in range(0, 24, 5):
        parts.merge(tally_of(masks[start : start + 5]))
    assert parts.masks == 24 and set(parts.labels) == set(whole.labels)
    joined = np.stack(masks)
    for label, count in whole.labels.items():
        assert parts.labels[label].pixels == count.pixels == (joined == label).sum()
        assert parts.labels[label].frames == count.frames == (joined == label).any(axis=(1, 2)).sum()
        assert parts.labels[label].height == pytest.approx(count.height)
