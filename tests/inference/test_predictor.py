"""The predictor against the bare network, and its refusals."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import roadseg
from roadseg.errors import ConfigError, EngineError, ModelFileError, UnsupportedImageError
from roadseg.inference.package import read_model_file, write_model_file
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
        ({"engine": "tensorrt"}, "no engine 'tensorrt'; known: auto, torch"),
        ({"precision": "f8"}, "no precision 'f8'; known: auto, f32, bf16"),
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
