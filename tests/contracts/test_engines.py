"""What every engine promises, whatever runs the network; the reference is the network itself and torch's resizing."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import roadseg
from roadseg.errors import EngineError
from roadseg.inference.engines import ENGINES, MODEL_FILE_ENGINES, make_engine
from roadseg.inference.scale import working_size
from tests.inference.exporting import BACKBONE, BIAS, BROKEN_CLASS

COMPILED = pytest.param("torch-compile", marks=pytest.mark.slow)
KINDS = ("torch", COMPILED, "torch program", "onnx", "openvino")
SHORT_SIDE_PX = 64
SCALES = (None, SHORT_SIDE_PX)

# Odd sides, whole patches, the short side itself, larger and smaller than it, slivers both ways, one pixel; and whole
# windows of 7x7 at every stage, where nothing is padded.
SIZES = [(1, 1), (33, 47), (97, 64), (64, 96), (150, 200), (20, 31), (1, 300), (210, 2), (224, 448)]

RNG = np.random.default_rng(0)


def pictures(batch, height, width):
    """Coarse blocks of colour under noise: masks of them vary."""
    coarse = RNG.integers(0, 256, (batch, height // 8 + 1, width // 8 + 1, 3))
    images = coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width] + RNG.integers(-9, 10, (batch, height, width, 3))
    return images.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def network(tiny_models):
    model = tiny_models[None]
    bare = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=16, backbone_options=BACKBONE).eval()
    bare.load_state_dict({name: torch.tensor(values) for name, values in model.tensors.items()})
    return bare


@pytest.fixture(scope="module", params=KINDS)
def engines(request, tiny_models, tiny_artefacts):
    """One engine for models that see images as they are, one for those with a short side."""
    if request.param in MODEL_FILE_ENGINES:
        return {scale: make_engine(tiny_models[scale], request.param, "f32", "cpu") for scale in SCALES}
    kind = {"torch program": "torch"}.get(request.param, request.param)
    return {scale: make_engine(tiny_artefacts(kind, scale), "auto", "auto", "cpu") for scale in SCALES}


@torch.inference_mode()
def reference(network, images, short_side_px, rescale=True):
    """Logits at the working size, and at the images' own."""
    size = images.shape[1:3]
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    working = working_size(size, short_side_px) if rescale else size
    if working != size:
        batch = F.interpolate(batch, working, mode="bilinear", antialias=min(working) < min(size))
    logits = network(batch)
    return logits.numpy(), F.interpolate(logits, size, mode="bilinear").numpy()


def check(network, engine, images, short_side_px, rescale=True):
    found = engine.run(images, ("mask", "confidence", "logits"), rescale=rescale)
    logits, full = reference(network, images, short_side_px, rescale)
    assert found["logits"].shape == logits.shape and found["logits"].dtype == np.float32
    tolerance = 2e-4 * np.ptp(logits)  # float32 through a network of 30 layers
    assert np.abs(found["logits"] - logits).max() <= tolerance
    mask, confidence = found["mask"], found["confidence"]
    assert mask.shape == images.shape[:3] and mask.dtype == np.uint8
    chosen = np.take_along_axis(full, mask[:, None].astype(np.int64), 1)[:, 0]
    assert (full.max(1) - chosen).max() <= 2 * tolerance, "another class only where two are as good as equal"
    assert (mask == full.argmax(1)).mean() > 0.998
    assert confidence.shape == images.shape[:3] and confidence.dtype == np.float32
    assert 1 / full.shape[1] <= confidence.min() and confidence.max() <= 1 + 1e-6
    exact = np.exp(full.astype(np.float64) - full.max(1, keepdims=True))
    assert np.abs(confidence - 1 / exact.sum(1)).max() <= tolerance


@pytest.mark.parametrize("short_side_px", SCALES)
@pytest.mark.parametrize("size", SIZES)
def test_masks_confidences_and_logits_are_those_of_the_network(engines, network, size, short_side_px):
    check(network, engines[short_side_px], pictures(1, *size), short_side_px)


@pytest.mark.parametrize("batch", [2, 3])
def test_images_run_together(engines, network, batch):
    check(network, engines[SHORT_SIDE_PX], pictures(batch, 90, 130), SHORT_SIDE_PX)


@pytest.mark.parametrize("size", [(33, 47), (100, 70)])
def test_without_rescaling_the_network_sees_images_as_they_are(engines, network, size):
    images = pictures(1, *size)
    assert working_size(size, SHORT_SIDE_PX) != size
    check(network, engines[SHORT_SIDE_PX], images, SHORT_SIDE_PX, rescale=False)


def test_masks_vary(engines):
    """Otherwise the comparisons above would say little."""
    assert len(np.unique(engines[SHORT_SIDE_PX].run(pictures(1, 97, 64), ("mask",))["mask"])) > 2


@pytest.mark.parametrize("outputs", [("mask",), ("confidence",), ("logits",), ("logits", "mask"), ()])
def test_only_what_is_asked_for_comes_back(engines, outputs):
    images = pictures(1, 70, 50)
    everything = engines[SHORT_SIDE_PX].run(images, ("mask", "confidence", "logits"))
    some = engines[SHORT_SIDE_PX].run(images, outputs)
    assert set(some) == set(outputs)
    assert all(np.array_equal(some[name], everything[name]) for name in outputs)


@pytest.mark.parametrize("bias", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_gives_nan_or_infinity_has_no_mask_and_no_confidence(kind, bias, tiny_models, tiny_artefacts):
    """One weight of one class is broken; the other classes' logits are as ever, and one of them would win."""
    if kind in MODEL_FILE_ENGINES:
        model = tiny_models[SHORT_SIDE_PX]
        tensors = {name: np.array(values) for name, values in model.tensors.items()}
        tensors[BIAS][BROKEN_CLASS] = bias
        engine = make_engine(replace(model, tensors=tensors), kind, "f32", "cpu")
    else:
        kind = {"torch program": "torch"}.get(kind, kind)
        engine = make_engine(tiny_artefacts(kind, SHORT_SIDE_PX, bias), "auto", "auto", "cpu")
    images = pictures(2, 70, 90)
    for outputs in (("mask",), ("confidence",), ("mask", "confidence", "logits")):
        found = engine.run(images, outputs)
        assert "mask" not in outputs or (found["mask"] == 255).all()
        assert "confidence" not in outputs or np.isnan(found["confidence"]).all()
    assert not np.isfinite(found["logits"][:, BROKEN_CLASS]).any()
    assert (engine.run(images, ("mask",), rescale=False)["mask"] == 255).all()


def test_images_need_not_be_contiguous(engines):
    images = pictures(1, 60, 60)
    turned = np.rot90(images, axes=(1, 2))
    assert not turned.flags.c_contiguous
    (found, copied) = (engines[None].run(one, ("mask",))["mask"] for one in (turned, np.ascontiguousarray(turned)))
    assert np.array_equal(found, copied)


def test_threads_share_an_engine(engines):
    engine = engines[SHORT_SIDE_PX]
    batches = [pictures(1 + i % 2, 60 + 9 * i, 80) for i in range(6)]
    expected = [engine.run(images, ("mask",))["mask"] for images in batches]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda images: engine.run(images, ("mask",))["mask"], batches))
    assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 8, 8, 3), np.float32), r"images are float32 of shape \(1, 8, 8, 3\); give uint8 \(B, H, W, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 of shape \(8, 8, 3\)"),
        (np.zeros((1, 3, 8, 8), np.uint8), r"uint8 of shape \(1, 3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"uint8 of shape \(0, 8, 8, 3\)"),
        (np.zeros((1, 8, 0, 3), np.uint8), r"uint8 of shape \(1, 8, 0, 3\)"),
    ],
)
def test_wrong_arrays_are_refused(engines, images, message):
    with pytest.raises(EngineError, match=message):
        engines[None].run(images, ("mask",))


def test_unknown_outputs_are_refused(engines):
    with pytest.raises(EngineError, match="no output 'masks'; known: mask, confidence, logits"):
        engines[None].run(pictures(1, 8, 8), ("masks",))


def test_engines_say_what_they_run_in(engines):
    for engine in engines.values():
        assert engine.name in ENGINES and (engine.precision, engine.device) == ("f32", "cpu")


def test_an_unknown_device_is_refused(tiny_models, tiny_artefacts):
    for model in (tiny_models[None], tiny_artefacts("onnx", None), tiny_artefacts("torch", None)):
        with pytest.raises(EngineError, match="no device 'gpu'; known: auto, cpu, cuda, cuda:N"):
            make_engine(model, "auto", "auto", "gpu")
        with pytest.raises(EngineError, match="device 'cuda:99' cannot be used here"):
            make_engine(model, "auto", "auto", "cuda:99")
