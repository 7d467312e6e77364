"""Which way images take, without a network."""

import pytest

from roadseg.errors import EngineError, ImageSizeError
from roadseg.inference.options import InferenceOptions
from roadseg.inference.plan import MAX_IMAGE_BYTES, MAX_PLANE_BYTES, plan_image
from roadseg.inference.scale import working_size

HD, UHD, FRAME_8K = (1080, 1920), (2160, 3840), (4320, 7680)


def test_images_of_a_size_run_together_up_to_the_bounds_where_the_engine_runs_them_at_once():
    for accelerated, way in ((True, "masks"), (False, "logits")):
        plan = plan_image((480, 640), None, 14, InferenceOptions(), accelerated=accelerated)
        assert (plan.way, plan.working, plan.whole) == (way, (480, 640), True)
        assert plan.together == 2048 * 1024 // (480 * 640)
        assert (
            plan_image((480, 640), None, 14, InferenceOptions(), accelerated=accelerated, batches=False).together == 1
        )


def test_images_are_finished_here_on_a_cpu_and_by_engines_on_other_devices():
    assert plan_image((480, 640), None, 14, InferenceOptions()).way == "logits"
    plan = plan_image(HD, 360, 14, InferenceOptions())
    assert (plan.way, plan.whole) == ("logits", True) and "faster" in plan.reason
    assert plan.together == 2048 * 1024 // (360 * 640) == 9
    # 4K frames: the network could take nine, the memory for their planes one, for the frames in float32 two
    assert plan_image(UHD, 360, 14, InferenceOptions()).together == MAX_IMAGE_BYTES // (12 * 2160 * 3840) == 2
    plan = plan_image(UHD, 360, 14, InferenceOptions(), accelerated=True)
    assert (plan.way, plan.together) == ("masks", MAX_PLANE_BYTES // (4 * 14 * 2160 * 3840)) == ("masks", 1)
    assert plan_image(HD, 360, 14, InferenceOptions(), accelerated=True).together == 4


def test_confidences_take_three_copies_of_the_planes():
    assert plan_image(HD, 360, 14, InferenceOptions(), accelerated=True, confidence=True).together == 1
    assert plan_image(UHD, 360, 14, InferenceOptions(), accelerated=True, confidence=True).way == "logits"
    plan = plan_image((1024, 2048), None, 19, InferenceOptions(), accelerated=True, confidence=True)
    assert (plan.way, plan.together) == ("masks", 1)


def test_the_default_bound_takes_full_hd_and_cityscapes_whole():
    assert plan_image(HD, None, 19, InferenceOptions()).whole
    assert plan_image((1024, 2048), None, 19, InferenceOptions()).whole
    assert plan_image((1025, 2048), None, 19, InferenceOptions()).way == "views"


def test_what_the_network_cannot_take_whole_goes_in_windows():
    plan = plan_image(UHD, None, 14, InferenceOptions())
    assert (plan.way, plan.working, plan.window, plan.together) == ("views", UHD, (1024, 1024), 1)
    assert "8294400 pixels are more than 2097152" in plan.reason and "windows of 1024x1024" in plan.reason
    # the network's pixels count, not the image's
    assert plan_image(UHD, 720, 14, InferenceOptions()).whole


def test_a_side_shorter_than_a_window_is_not_padded():
    assert plan_image((200, 20_000), None, 14, InferenceOptions()).window == (200, 1024)


def test_one_window_that_covers_the_image_is_the_whole_image():
    options = InferenceOptions(max_pixels=1, window=(512, 640))
    for size in ((480, 640), (512, 640), (1, 1)):
        plan = plan_image(size, None, 14, options)
        assert (plan.way, plan.whole, plan.together) == ("logits", True, 1)
    assert not plan_image((513, 640), None, 14, options).whole
    assert not plan_image((512, 641), None, 14, options).whole


def test_images_that_would_not_fit_are_resized_here():
    plan = plan_image(FRAME_8K, 360, 14, InferenceOptions())
    assert (plan.way, plan.whole, plan.working) == ("views", True, (360, 640))
    assert "an image of 4320x7680 would take 379 MiB in float32, over 256" in plan.reason
    assert plan_image(FRAME_8K, 360, 14, InferenceOptions(), accelerated=True).way == "views"


def test_planes_that_would_not_fit_are_finished_here():
    assert plan_image(UHD, 360, 16, InferenceOptions(), accelerated=True).way == "masks"
    plan = plan_image(UHD, 360, 17, InferenceOptions(), accelerated=True)
    assert plan.way == "logits" and "planes of the classes at 2160x3840 would take 537 MiB, over 512" in plan.reason


def test_margins_are_computed_here_but_only_where_they_are_wanted():
    options, own = InferenceOptions(confidence_kind="margin"), (480, 640)
    assert plan_image(own, None, 14, options, accelerated=True).way == "masks"
    assert plan_image(own, None, 14, options, accelerated=True, confidence=True).way == "logits"
    assert plan_image(own, None, 14, InferenceOptions(), accelerated=True, confidence=True).way == "masks"


def test_a_network_of_one_size_sees_its_images_whole_and_refuses_others():
    small = InferenceOptions(max_pixels=1, window=(64, 64))
    for short_side_px in (None, 360):
        plan = plan_image(HD, short_side_px, 14, small, static_size=HD)
        assert (plan.way, plan.whole, plan.together) == ("logits", True, 1)
    assert plan_image(FRAME_8K, 360, 14, small, static_size=FRAME_8K).way == "logits", "nothing else can resize them"
    with pytest.raises(ImageSizeError, match="exported for images of 1080x1920 px only; this one has 1080x1921 px"):
        plan_image((1080, 1921), None, 14, small, static_size=HD)
    with pytest.raises(EngineError, match=r"cannot see them at scales \(0.5, 1.0\): export the model without --size"):
        plan_image(HD, None, 14, InferenceOptions(scales=(0.5, 1.0)), static_size=HD)
    assert plan_image(HD, None, 14, InferenceOptions(flip=True), static_size=HD).way == "views"
    with pytest.raises(EngineError, match="cannot see them mirrored: export the model without --size"):
        plan_image(HD, 360, 14, InferenceOptions(flip=True), static_size=HD)


@pytest.mark.parametrize("changes", [{"flip": True}, {"scales": (0.5, 1.0)}, {"scales": (0.75,)}])
def test_augmented_images_are_put_together_here(changes):
    plan = plan_image((480, 640), None, 14, InferenceOptions(**changes))
    assert (plan.way, plan.whole) == ("views", True) and "test-time augmentation" in plan.reason


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 1.5), (2.0,), (4.0, 1.0)])
@pytest.mark.parametrize("size", [(100, 90), (700, 900), (1000, 2000), FRAME_8K, (64, 60_000)])
@pytest.mark.parametrize("short_side_px", [None, 512])
def test_the_network_never_sees_more_than_the_larger_of_the_two_bounds(size, scales, short_side_px):
    options = InferenceOptions(max_pixels=1_000_000, window=(512, 768), scales=scales)
    plan = plan_image(size, short_side_px, 14, options)
    assert plan.working == working_size(size, short_side_px)
    seen = plan.window[0] * plan.window[1] * max(scales) ** 2
    assert seen * plan.together <= 1_000_000
    assert all(w <= s for w, s in zip(plan.window, plan.working, strict=True))
