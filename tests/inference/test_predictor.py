"""The predictor against the bare network, and its refusals."""

import hashlib
import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import roadseg
from roadseg.errors import ConfigError, EngineError, ImageError, ModelFileError, UnsupportedImageError
from roadseg.ignore_regions import IgnoreRegions
from roadseg.inference.options import InferenceOptions
from roadseg.inference.package import read_model_file, write_model_file
from roadseg.inference.predictor import Predictor
from tests.inference.fake_engine import FakeEngine
from tests.inference.test_package import rewrite

RNG = np.random.default_rng(0)


def photo(height: int = 60, width: int = 90) -> np.ndarray:
    small = Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def bare_network(path) -> torch.nn.Module:
    """The network, put together by hand from the file."""
    model = read_model_file(path)
    network = roadseg.build_model("twins_svt_nano", "linear_concat", 11, width=32).eval()
    network.load_state_dict({k: torch.tensor(v) for k, v in model.tensors.items()})
    return network


@pytest.fixture(scope="module")
def predictor(model_file):
    return roadseg.load_predictor(model_file, device="cpu")


def test_the_mask_is_the_argmax_of_the_networks_logits(predictor, model_file):
    image = photo()
    with torch.inference_mode():
        logits = bare_network(model_file)(torch.tensor(image).permute(2, 0, 1)[None])
    result = predictor(image, confidence=True)
    assert np.array_equal(result.mask, logits.argmax(1)[0].numpy()) and result.mask.dtype == np.uint8
    assert len(np.unique(result.mask)) > 1, "a mask of one class would prove little"
    probabilities = np.exp(logits[0].numpy() - np.log(np.exp(logits[0].double().numpy()).sum(0)))
    assert np.allclose(result.confidence, probabilities.max(0), atol=1e-5)
    assert predictor(image).confidence is None


def test_every_kind_of_source_gives_the_same_mask(predictor, tmp_path):
    image = photo()
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    expected = predictor(image).mask
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), buffer.getvalue(), Image.fromarray(image)):
        assert np.array_equal(predictor(source).mask, expected)


def test_a_batch_of_mixed_sizes_comes_back_in_order(predictor):
    images = [photo(40, 50), photo(33, 47), photo(40, 50), photo(1, 1)]
    for image, result in zip(images, predictor.batch(images), strict=True):
        assert result.mask.shape == image.shape[:2] and np.array_equal(result.image, image)
        agreement = (result.mask == predictor(image).mask).mean()
        assert agreement > 0.999  # a batch may round otherwise than one image


def test_no_images_give_no_results(predictor):
    assert predictor.batch([]) == []


def test_exif_orientation_turns_the_mask_unless_stored_is_asked_for(predictor):
    image = photo(40, 64)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", exif=exif)
    displayed, stored = predictor(buffer.getvalue()), predictor(buffer.getvalue(), orientation="stored")
    assert displayed.mask.shape == (64, 40) and stored.mask.shape == (40, 64)
    assert displayed.exif_orientation == stored.exif_orientation == 6
    assert np.array_equal(stored.mask, predictor(image).mask)
    assert np.array_equal(displayed.mask, predictor(np.ascontiguousarray(np.rot90(image, -1))).mask)


def test_threads_may_share_a_predictor(predictor):
    images = [photo(32 + 8 * i, 64) for i in range(8)]
    expected = [predictor(image).mask for image in images]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert all(map(np.array_equal, pool.map(lambda i: predictor(i).mask, images), expected))


def test_the_inference_scale_of_the_file_is_used(model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "scaled.safetensors", header={"inference": {"short_side_px": 64}})
    image = photo(128, 160)
    batch = torch.tensor(image).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        small = F.interpolate(batch, (64, 80), mode="bilinear", antialias=True)
        logits = F.interpolate(bare_network(model_file)(small), (128, 160), mode="bilinear")
    mask = roadseg.load_predictor(path, device="cpu")(image).mask
    assert np.array_equal(mask, logits.argmax(1)[0].numpy())
    assert not np.array_equal(mask, roadseg.load_predictor(model_file, device="cpu")(image).mask)


@pytest.mark.parametrize("size", [(1, 5000), (3000, 2)])
def test_a_sliver_is_not_enlarged_without_bound(model_file, tmp_path, size):
    path = rewrite(model_file, tmp_path / "scaled.safetensors", header={"inference": {"short_side_px": 224}})
    predictor = roadseg.load_predictor(path, device="cpu")
    seen = []
    predictor.engine._network.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].shape[-2:].numel())
    )
    assert predictor(np.zeros((*size, 3), np.uint8)).mask.shape == size
    assert max(seen) <= 8 * 224 * 224


def test_results_save_ids_and_overlays(predictor, tmp_path):
    result = predictor(photo())
    result.save(tmp_path / "deep" / "mask.png")
    written = Image.open(tmp_path / "deep" / "mask.png")
    assert written.mode == "P" and np.array_equal(np.asarray(written), result.mask)
    assert np.array_equal(np.asarray(written.convert("RGB")), result.taxonomy.palette[result.mask])
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["mask.png"], "no temporary file stays"
    assert result.areas() == {
        n: int((result.mask == i).sum()) for i, n in enumerate(result.taxonomy.names) if (result.mask == i).any()
    }
    assert np.array_equal(result.overlay(0.0), result.image)
    assert np.array_equal(result.overlay(1.0), result.taxonomy.palette[result.mask])
    mean = (result.image.astype(float) + result.taxonomy.palette[result.mask]) / 2
    assert np.abs(result.overlay() - mean).max() <= 0.5
    with pytest.raises(ConfigError, match="opacity is 1.5; use a value from 0 to 1"):
        result.overlay(1.5)


def test_bf16_is_used_only_when_asked_for(predictor, model_file):
    image = photo()
    assert predictor.engine.precision == "f32"
    lower = roadseg.load_predictor(model_file, precision="bf16", device="cpu")
    exact, rounded = (p(image, confidence=True).confidence for p in (predictor, lower))
    assert 0 < np.abs(exact - rounded).mean() < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tflite"}, "no engine 'tflite'; known: auto, torch, torch-compile, onnx, openvino, tensorrt"),
        ({"precision": "f8"}, "no precision 'f8'; known: auto, f32, f16, bf16, int8"),
        ({"device": "gpu"}, "no device 'gpu'; known: auto, cpu, cuda, cuda:N"),
        ({"device": "meta"}, "no device 'meta'"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
    ],
)
def test_unknown_engines_precisions_and_devices_are_named(model_file, options, message):
    with pytest.raises(EngineError, match=message):
        roadseg.load_predictor(model_file, **options)


def test_wrong_arrays_are_refused(predictor):
    with pytest.raises(UnsupportedImageError, match=r"got float32: scale and convert it"):
        predictor(photo().astype(np.float32))


def test_of_several_images_the_wrong_one_is_named(predictor):
    with pytest.raises(UnsupportedImageError, match=r"^image 1 of 3: .*float32"):
        predictor.batch([photo(), photo().astype(np.float32), photo()])
    with pytest.raises(ImageError, match=r"^image 0 of 2: "):
        predictor.batch([b"no image", photo()])


def test_a_predictor_says_what_it_is(predictor, model_file):
    digest = hashlib.sha256(Path(model_file).read_bytes()).hexdigest()
    assert repr(predictor) == f"<Predictor of model {digest[:12]}, 11 classes of camvid11, in torch f32 on cpu>"


def test_weights_that_do_not_fit_are_named(model_file, tmp_path):
    bad_shape = rewrite(model_file, tmp_path / "a.safetensors", tensors={"decoder.head.bias": np.zeros(7, np.float32)})
    with pytest.raises(ModelFileError, match=r"'decoder.head.bias' has shape \(7,\) of .*, the network needs \(11,\)"):
        roadseg.load_predictor(bad_shape)
    extra = rewrite(model_file, tmp_path / "b.safetensors", tensors={"surplus": np.zeros(7, np.float32)})
    with pytest.raises(ModelFileError, match=r"0 missing .* 1 unknown \(first \['surplus'\]\)"):
        roadseg.load_predictor(extra)


def test_weights_of_another_type_are_named(model_file, tmp_path):
    path = rewrite(model_file, tmp_path / "a.safetensors", tensors={"decoder.head.bias": np.zeros(11, np.int64)})
    with pytest.raises(ModelFileError, match="'decoder.head.bias' has shape .* of torch.int64, the network needs"):
        roadseg.load_predictor(path)


def test_a_normalisation_that_contradicts_the_weights_is_refused(model_file, tmp_path):
    changed = {"normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]}}
    path = rewrite(model_file, tmp_path / "a.safetensors", header=changed)
    with pytest.raises(ModelFileError, match=r"the header says mean \[0.0, 0.0, 0.0\], the weights \[123.6"):
        roadseg.load_predictor(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"pretrained": True}}, "decoder 'linear_concat' has no option 'pretrained'"),
        ({"options": {"width": 2_000_000}}, "has shape .* the network needs .*2000000"),
        ({"backbone": "resnet9000"}, "cannot build its network: no backbone 'resnet9000'"),
        ({"options": {"depth": 3}}, "has no option 'depth'"),
        ({"num_classes": 5}, "the taxonomy has 11 classes, the network 5"),
    ],
)
def test_a_network_that_cannot_be_built_is_explained(model_file, tmp_path, change, message):
    model = read_model_file(model_file)
    architecture = {
        "backbone": "twins_svt_nano",
        "decoder": "linear_concat",
        "num_classes": 11,
        "options": {"width": 32},
    }
    path = rewrite(model_file, tmp_path / "x.safetensors", header={"architecture": {**architecture, **change}})
    assert model.header.architecture.num_classes == 11
    with pytest.raises(ModelFileError, match=message):
        roadseg.load_predictor(path)


def test_float16_weights_run_in_float32(model_file, tmp_path):
    model = read_model_file(model_file)
    half = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in model.tensors.items()}
    write_model_file(tmp_path / "half.safetensors", model.header, half)
    image = photo()
    small = roadseg.load_predictor(tmp_path / "half.safetensors", device="cpu")(image)
    assert (small.mask == roadseg.load_predictor(model_file, device="cpu")(image).mask).mean() > 0.9


def settled(model_file, **options):
    return roadseg.load_predictor(model_file, device="cpu", options=InferenceOptions(**options))


def test_one_window_is_the_whole_image_bit_by_bit(predictor, model_file):
    image = photo(50, 70)
    expected = predictor(image, confidence=True)
    one = settled(model_file, max_pixels=1, window=(64, 96))(image, confidence=True)
    assert np.array_equal(one.mask, expected.mask) and np.array_equal(one.confidence, expected.confidence)


def test_windows_are_the_networks_logits_of_each_blended(predictor, model_file):
    image = photo(64, 112)
    result = settled(model_file, max_pixels=1, window=(64, 64), overlap=0)(image, confidence=True)
    network, parts = bare_network(model_file), []
    for left in (0, 48):  # 64 px wide; the second ends with the image
        part = torch.tensor(image[:, left : left + 64]).permute(2, 0, 1)[None]
        with torch.inference_mode():
            parts.append(network(part)[0].double().numpy())
    x = np.arange(112)
    rising = 0.01 + 0.99 * np.sin(np.pi * (x - 48 + 0.5) / 64) ** 2
    falling = 0.01 + 0.99 * np.sin(np.pi * (x + 0.5) / 64) ** 2
    share = np.where(x < 48, 0, np.where(x >= 64, 1, rising / (rising + falling)))
    logits = np.zeros((11, 64, 112))
    logits[:, :, :64] += (1 - share[:64]) * parts[0]
    logits[:, :, 48:] += share[48:] * parts[1]
    assert (result.mask == logits.argmax(0)).mean() > 0.999
    probabilities = np.exp(logits - logits.max(0))
    assert np.allclose(result.confidence, 1 / probabilities.sum(0), atol=1e-4)
    assert not np.array_equal(result.mask, predictor(image).mask), "attention is global: windows are another function"


@pytest.mark.parametrize("short_side_px", [None, 64, 150])
def test_what_is_finished_here_is_what_the_engine_finishes(model_file, tmp_path, monkeypatch, short_side_px):
    """The three ways of a whole image differ by rounding alone."""
    path = rewrite(model_file, tmp_path / "a.safetensors", header={"inference": {"short_side_px": short_side_px}})
    predictor, image = roadseg.load_predictor(path, device="cpu"), photo(100, 130)
    expected = predictor(image, confidence=True)
    margin = predictor(image, confidence=True, options=InferenceOptions(confidence_kind="margin"))
    assert (margin.mask == expected.mask).mean() > 0.9999
    assert ((margin.confidence >= 0) & (margin.confidence <= expected.confidence + 1e-6)).all()
    assert (margin.confidence >= 2 * expected.confidence - 1 - 1e-5).all(), "the second class has at most what is left"
    assert predictor.plan((100, 130)).way == "logits"
    with monkeypatch.context() as patch:
        patch.setattr(predictor.engine, "device", "elsewhere")
        assert predictor.plan((100, 130)).way == "masks"
        assert (predictor(image).mask == expected.mask).mean() > 0.9999
    for name in ("MAX_PLANE_BYTES", "MAX_IMAGE_BYTES"):
        monkeypatch.setattr(f"roadseg.inference.plan.{name}", 1000)
    assert predictor.plan((100, 130)).way == ("logits" if short_side_px is None else "views")
    here = predictor(image, confidence=True)
    # the image is resized to whole grey levels here
    assert (here.mask == expected.mask).mean() > (0.9999 if short_side_px is None else 0.98)
    assert np.abs(here.confidence - expected.confidence).mean() < (1e-6 if short_side_px is None else 0.02)


def test_unsure_pixels_are_left_out_and_keep_their_confidence(predictor, model_file):
    image = photo()
    full = predictor(image, confidence=True)
    threshold = float(np.median(full.confidence))
    options = InferenceOptions(min_confidence=threshold)
    careful = predictor(image, confidence=True, options=options)
    unsure = full.confidence < threshold
    assert 0.3 < unsure.mean() < 0.7
    assert np.array_equal(careful.mask, np.where(unsure, 255, full.mask)) and careful.mask.dtype == np.uint8
    assert np.array_equal(careful.confidence, full.confidence)
    assert sum(careful.areas().values()) == (~unsure).sum()
    silent = settled(model_file, min_confidence=threshold)(image)
    assert silent.confidence is None and np.array_equal(silent.mask, careful.mask)
    assert np.array_equal(predictor(image).mask, full.mask), "options of one call are not those of the next"


def test_ignore_regions_count_after_abstaining(model_file):
    regions = IgnoreRegions([{"polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}])
    options = InferenceOptions(min_confidence=1.0, confidence_kind="margin")
    predictor = roadseg.load_predictor(model_file, device="cpu", ignore_regions=regions, options=options)
    result = predictor(photo(40, 60), confidence=True)
    assert (result.mask == 255).all()
    assert (result.confidence[:, :30] == 0).all() and (result.confidence[:, 30:] > 0).any()


def faked(model_file, engine, **options):
    header = replace(read_model_file(model_file).header, taxonomy=roadseg.load_taxonomy("camvid11"))
    return Predictor(engine, header, "0" * 64, options=InferenceOptions(**options))


def test_a_batch_is_run_in_parts_that_fit_and_comes_back_in_order(model_file):
    engine = FakeEngine(11)
    predictor = faked(model_file, engine, max_pixels=5 * 40 * 50)
    images = [photo(40, 50) if i % 3 else photo(20, 30 + i) for i in range(20)]
    results = predictor.batch(images, confidence=True)
    assert max(np.prod(shape[:3]) for shape, *_ in engine.calls) <= 5 * 40 * 50
    assert sorted(shape[0] for shape, *_ in engine.calls if shape[1:3] == (40, 50)) == [3, 5, 5]
    for image, result in zip(images, results, strict=True):
        assert np.array_equal(result.mask, engine.logits(image[None])[0].argmax(0)) and result.image is not None


def test_only_what_is_needed_is_asked_of_the_engine(model_file):
    image = photo(40, 50)
    engine = FakeEngine(11)
    faked(model_file, engine)(image, confidence=True)
    assert {asked for _, asked, _ in engine.calls} == {("logits",)}, "a CPU's are finished here"
    for options, confidence, outputs in [
        ({}, False, ("mask",)),
        ({}, True, ("mask", "confidence")),
        ({"min_confidence": 0.5}, False, ("mask", "confidence")),
        ({"confidence_kind": "margin"}, False, ("mask",)),
        ({"confidence_kind": "margin"}, True, ("logits",)),
        ({"flip": True}, False, ("logits",)),
    ]:
        engine = FakeEngine(11, device="cuda")
        faked(model_file, engine, **options)(image, confidence=confidence)
        assert {asked for _, asked, _ in engine.calls} == {outputs}


@pytest.mark.parametrize("confidence", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "options", [{}, {"confidence_kind": "margin"}, {"flip": True}, {"max_pixels": 1, "window": (64, 64)}]
)
def test_logits_that_are_not_finite_are_refused_and_never_become_class_0(model_file, value, options, confidence):
    class Broken(FakeEngine):
        precision = "f16"

        def logits(self, images):
            logits = super().logits(images)
            logits[-1, 3, -1, -1] = value
            return logits

    with pytest.raises(EngineError, match=r"\(f16\) gave logits that are NaN or infinite for an image; use precision"):
        with np.errstate(invalid="ignore"):
            faked(model_file, Broken(11), **options)(photo(80, 90), confidence=confidence)


def test_answers_that_do_not_fit_the_model_are_refused(model_file):
    with pytest.raises(EngineError, match=r"engine fake \(f32\) gave class id 1\d where there are 11 classes"):
        faked(model_file, FakeEngine(20, device="cuda"))(photo())
    with pytest.raises(EngineError, match=r"engine fake gave logits of shape \(1, 20, 60, 90\), not \(1, 11, 60, 90\)"):
        faked(model_file, FakeEngine(20))(photo())


def test_options_of_another_type_are_refused(predictor, model_file):
    for call in (
        lambda: predictor(photo(), options={"flip": True}),
        lambda: predictor.plan((4, 4), options={"flip": True}),
        lambda: roadseg.load_predictor(model_file, device="cpu", options={"flip": True}),
    ):
        with pytest.raises(ConfigError, match=r"options is {'flip': True}; give .*InferenceOptions"):
            call()


def test_threads_may_share_a_predictor_of_windows_and_views(model_file):
    engine = FakeEngine(11)
    predictor = faked(model_file, engine, max_pixels=1, window=(64, 64), flip=True, min_confidence=0.3)
    images = [photo(70 + 8 * i, 90) for i in range(6)]
    expected = [predictor(image, confidence=True) for image in images]
    with ThreadPoolExecutor(6) as pool:
        for result, known in zip(pool.map(lambda i: predictor(i, confidence=True), images), expected, strict=True):
            assert np.array_equal(result.mask, known.mask) and np.array_equal(result.confidence, known.confidence)


def test_an_image_twice_as_high_takes_no_more_memory_than_its_own(model_file):
    engine = FakeEngine(11)
    predictor = faked(model_file, engine, max_pixels=1, window=(64, 128))

    def peak(height):
        image = np.zeros((height, 512, 3), np.uint8)
        tracemalloc.start()
        predictor(image)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - height * 512  # the mask

    low, high = peak(400), peak(800)
    assert low < 8 * 2**20 and high - low < 2**18
