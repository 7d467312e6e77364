"""Test-time augmentation against a loop written by hand in PyTorch; and the views that it is made of."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from roadseg.inference.augmentation import average_views, scaled_size
from roadseg.inference.options import InferenceOptions
from roadseg.inference.plan import plan_image
from roadseg.inference.running import segment_images
from roadseg.inference.views import cut_view
from roadseg.inference.windows import Region
from roadseg.taxonomy import RoadClass, Taxonomy
from tests.inference.fake_engine import FakeEngine

SIDED = Taxonomy(
    "sided",
    1,
    (
        RoadClass("road", (1, 1, 1)),
        RoadClass("left_edge", (2, 2, 2), left_right="right_edge"),
        RoadClass("pole", (3, 3, 3)),
        RoadClass("right_edge", (4, 4, 4), left_right="left_edge"),
    ),
)
SWAPPED = [0, 3, 2, 1]


def photo(height, width, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def by_hand(engine, image, size, scales, flip, swapped):
    """Mean probabilities (C, h, w) over views of the whole image, in float64."""
    views = []
    for scale in scales:
        height, width = round(size[0] * scale), round(size[1] * scale)
        view = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        for mirrored in [False, True][: 1 + flip]:
            seen = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else view
            logits = torch.tensor(engine.logits(np.asarray(seen)[None])).double()
            logits = logits.flip(3)[:, swapped] if mirrored else logits
            views.append(F.interpolate(logits, size, mode="bilinear").softmax(1)[0])
    return torch.stack(views).mean(0)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.75), (1.3,)])
@pytest.mark.parametrize("flip", [False, True])
def test_probabilities_are_averaged_and_sides_swapped_back(scales, flip):
    engine, image = FakeEngine(), photo(45, 67)
    options = InferenceOptions(scales=scales, flip=flip)
    plan = plan_image((45, 67), None, 4, options)
    expected = by_hand(engine, image, (45, 67), scales, flip, SWAPPED)
    [(mask, confidence)] = segment_images(engine, [image], plan, options, SIDED, confidence=True)
    top = expected.topk(2, dim=0).values
    clear = ((top[0] - top[1]) > 1e-4).numpy()
    # in the middle column the two sides are level, once they are seen from both
    assert clear.mean() > 0.97 and np.array_equal(mask[clear], expected.argmax(0).numpy()[clear])
    assert np.abs(confidence - expected.amax(0).numpy()).max() < 1e-5
    assert len(np.unique(mask)) >= 3
    if flip:  # the test would see it if the classes were not swapped back
        wrong = by_hand(engine, image, (45, 67), scales, flip, [0, 1, 2, 3])
        assert (wrong.argmax(0).numpy() != mask).mean() > 0.02


def test_views_of_a_model_with_a_scale_are_made_from_the_image_itself():
    engine, image = FakeEngine(), photo(240, 320)
    options = InferenceOptions(scales=(0.5, 1.0, 2.0), flip=True)
    plan = plan_image((240, 320), 64, 4, options)
    [(mask, _)] = segment_images(engine, [image], plan, options, SIDED, confidence=False)
    mean = by_hand(engine, image, (64, 85), options.scales, True, SWAPPED)
    full = F.interpolate(mean.log()[None], (240, 320), mode="bilinear")[0]
    assert (mask == full.argmax(0).numpy()).mean() > 0.999
    assert {shape[1:3] for shape, *_ in engine.calls} == {(32, 42), (64, 85), (128, 170)}
    assert all(outputs == ("logits",) and not rescale for _, outputs, rescale in engine.calls)


def test_a_mirrored_scene_gets_the_mirrored_mask():
    """With the image and its mirror image both seen, the network's own preference for a side cannot show."""
    engine, options = FakeEngine(), InferenceOptions(flip=True)
    image = photo(40, 64)
    plan = plan_image((40, 64), None, 4, options)
    there, back = (
        segment_images(engine, [pixels], plan, options, SIDED, confidence=True)[0]
        for pixels in (image, np.ascontiguousarray(image[:, ::-1]))
    )
    assert (np.array(SWAPPED)[back[0][:, ::-1]] == there[0]).mean() > 0.999
    assert np.allclose(back[1][:, ::-1], there[1], atol=1e-6)


def test_windows_are_augmented_one_by_one():
    engine, image = FakeEngine(), photo(150, 190)
    options = InferenceOptions(scales=(0.5, 1.5), flip=True, max_pixels=150 * 190, window=(96, 96))
    plan = plan_image((150, 190), None, 4, options)
    assert plan.window == (64, 64)
    [(mask, confidence)] = segment_images(engine, [image], plan, options, SIDED, confidence=True)
    assert mask.shape == (150, 190) and np.isfinite(confidence).all()
    assert {shape for shape, *_ in engine.calls} == {(1, 32, 32, 3), (1, 96, 96, 3)}
    first = average_views(
        (64, 64),
        options.scales,
        True,
        SWAPPED,
        lambda size, mirrored: engine.logits(
            cut_view(image, (150, 190), Region(0, 0, 64, 64), size)[None, :, :: -1 if mirrored else 1]
        )[0],
    )
    assert np.array_equal(mask[:16, :16], first.argmax(0)[:16, :16].astype(np.uint8)), "where one window is alone"


def test_classes_that_every_view_excludes_give_no_infinity():
    def see(size, mirrored):
        return np.stack([np.full(size, 900, np.float32), np.full(size, -900, np.float32)])

    logits = average_views((5, 6), (1.0, 2.0), True, [0, 1], see)
    assert np.isfinite(logits).all() and (logits[0] == 0).all() and (logits[1] < -80).all()


def test_views_are_a_pixel_at_least():
    assert scaled_size((1, 3), 0.1) == (1, 1) and scaled_size((100, 75), 1.5) == (150, 112)


@pytest.mark.parametrize("working", [(331, 517), (140, 219), (500, 800), (33, 517), (331, 40)])
def test_a_view_is_the_part_of_the_resized_image(working):
    image = np.random.default_rng(0).integers(0, 256, (331, 517, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(image).resize(working[::-1], Image.Resampling.BILINEAR)).astype(int)
    assert np.array_equal(cut_view(image, working, Region(0, 0, *working), working), whole)
    for top, left, height, width in [(0, 0, 32, 32), (1, 7, 30, 33), (working[0] - 20, working[1] - 40, 20, 40)]:
        view = cut_view(image, working, Region(top, left, height, width), (height, width))
        difference = np.abs(view - whole[top : top + height, left : left + width])
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01  # the filter's weights are rounded
        assert view.flags.owndata and view.flags.writeable and view.dtype == np.uint8


@pytest.mark.parametrize("size", [(16, 16), (48, 48), (1, 1)])
def test_a_scaled_view_shows_its_region_and_no_more(size):
    image = np.zeros((90, 120, 3), np.uint8)
    image[32:64, 64:96] = 200
    view = cut_view(image, (90, 120), Region(32, 64, 32, 32), size).astype(int)
    assert view.shape == (*size, 3)
    inside = view[2:-2, 2:-2] if size[0] > 4 else view[:0]
    assert (inside == 200).all() and view.min() > 90
