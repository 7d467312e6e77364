"""Ignore regions in inference: 255 in masks, 0 in confidences, nothing in areas and answers."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

import roadseg
from roadseg.ignore_regions import IgnoreRegions
from roadseg.images import decode_image
from roadseg.inference.segmenting.pipeline import Pipeline
from roadseg.inference.segmenting.plan import plan_files
from roadseg_service.answers.encoding import encode_answer
from roadseg_service.answers.options import JSON, AnswerOptions

HOOD = [[0, 0.75], [1, 0.75], [1, 1], [0.25, 1]]  # neither symmetric to left and right nor to above and below


@pytest.fixture(scope="module")
def plain(model_file):
    return roadseg.load_predictor(model_file, device="cpu")


@pytest.fixture(scope="module")
def masked(model_file):
    regions = IgnoreRegions([{"polygon": HOOD, "frames": "front*"}, {"polygon": HOOD, "frames": "cam/rear_?"}])
    return roadseg.load_predictor(model_file, device="cpu", ignore_regions=regions)


def photo(size=(40, 56), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def covered(size):
    return IgnoreRegions([{"polygon": HOOD}]).covered(size)


def test_the_region_is_255_and_has_no_confidence_and_the_rest_is_as_without_it(plain, masked):
    image = photo()
    expected, result = plain(image, confidence=True), masked(image, confidence=True, name="front_1")
    region = covered((40, 56))
    assert (result.mask[region] == 255).all() and (result.confidence[region] == 0).all()
    assert np.array_equal(result.mask[~region], expected.mask[~region])
    assert np.array_equal(result.confidence[~region], expected.confidence[~region])
    assert (result.mask.dtype, result.confidence.dtype) == (np.uint8, np.float32)
    assert (expected.mask != 255).all()


def test_names_choose_the_images_of_a_batch_of_mixed_sizes(plain, masked):
    images = [photo(), photo((24, 24)), photo(seed=1), photo((24, 24), seed=2)]
    results = masked.batch(images, names=["front_1", "side", "other", "cam/rear_2"])
    for image, result, hit in zip(images, results, [True, False, False, True], strict=True):
        region = covered(image.shape[:2]) & hit
        assert np.array_equal(result.mask, np.where(region, 255, plain(image).mask))
    with pytest.raises(ValueError, match="1 names for 2 images; give one name an image"):
        masked.batch(images[:2], names=["front"])


def test_a_path_is_known_by_its_file_name_and_an_array_by_none(masked, tmp_path):
    for name in ("front_7.png", "rear_7.png"):
        Image.fromarray(photo()).save(tmp_path / name)
    assert (masked(tmp_path / "front_7.png").mask == 255).sum() == covered((40, 56)).sum() > 0
    assert (masked(str(tmp_path / "rear_7.png")).mask != 255).all()
    assert (masked(photo()).mask != 255).all()


@pytest.mark.parametrize("tag", range(1, 9))
def test_the_region_is_where_the_displayed_image_has_it_on_the_stored_raster_too(masked, tag, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = tag
    path = tmp_path / "front.jpg"
    Image.fromarray(photo((40, 56))).save(path, exif=exif, quality=95)
    displayed, stored = (masked(path, orientation=way).mask for way in ("displayed", "stored"))
    region = covered((56, 40) if tag >= 5 else (40, 56))
    assert stored.shape == (40, 56)
    assert np.array_equal(displayed == 255, region)
    # Pillow turns the stored region as it turns the stored photograph
    turned = Image.fromarray((stored == 255).astype(np.uint8))
    turned.getexif()[0x0112] = tag
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(turned)) == 1, region)


def test_areas_overlay_and_png_leave_the_region_out(masked):
    image = photo()
    result = masked(image, name="front")
    region = covered((40, 56))
    counts = {n: int((result.mask == i).sum()) for i, n in enumerate(result.taxonomy.names)}
    assert result.areas() == {n: count for n, count in counts.items() if count}
    assert sum(result.areas().values()) == (~region).sum()
    assert (result.overlay(1.0)[region] == 0).all()  # black, the colour of what is ignored
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(result.png()))), result.mask)


def test_the_service_would_answer_without_the_region(masked):
    buffer = io.BytesIO()
    Image.fromarray(photo()).save(buffer, "PNG")
    image = decode_image(buffer.getvalue())
    result = masked(image, name="front")
    answer = json.loads(encode_answer(image, result, "nano", AnswerOptions(media_type=JSON)).body)
    assert {c["name"]: c["area_px"] for c in answer["classes"]} == result.areas()
    assert {c["id"] for c in answer["classes"]} == set(np.unique(result.mask).tolist()) - {255}
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(encode_answer(image, result, "nano", AnswerOptions()).body))), result.mask
    )


def test_files_are_known_by_their_path_below_the_folder_that_was_searched(masked, plain, tmp_path):
    for name in ("front_1", "cam/rear_1", "cam/front_1", "rear_1"):
        path = tmp_path / "drive" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo()).save(path)
    jobs = plan_files([tmp_path / "drive"], tmp_path / "out")
    assert {job.name for job in jobs} == {"front_1", "cam/rear_1", "cam/front_1", "rear_1"}
    outcomes = []
    Pipeline(masked).run(((job, None) for job in jobs), outcomes.append)
    assert len(outcomes) == 4 and all(outcome.error is None for outcome in outcomes)
    whole, region = plain(photo()).mask, covered((40, 56))
    for name, hit in {"front_1": True, "cam/rear_1": True, "cam/front_1": False, "rear_1": False}.items():
        written = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert np.array_equal(written, np.where(region & hit, 255, whole)), name
