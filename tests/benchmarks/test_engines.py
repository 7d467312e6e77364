"""The judged table's arithmetic, and that the peers compute what ours does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import engines, peers, trained
from benchmarks.random_model import write_random_model
from roadseg.benching.timing import summarise
from roadseg.errors import ConfigError
from roadseg.inference.artefact import ArtefactFacts, seal
from roadseg.inference.package import read_model_file


def test_ratios_are_medians_beside_their_floors():
    spreads = {
        engines.TIMM: summarise([0.9, 1.0, 5.0]),
        "roadseg, OpenVINO f32": summarise([0.2, 0.4, 0.5]),
        f"{peers.DEEPLAB}, OpenVINO f32": summarise([0.48]),
    }
    f32, deeplab, bf16, int8 = engines.checks(spreads)
    assert (f32["ratio"], f32["floor"], f32["passed"]) == (2.5, 2.7, False)
    assert deeplab["ratio"] == pytest.approx(1.2) and deeplab["passed"] is False
    assert bf16["ratio"] is int8["ratio"] is None and int8["passed"] is None
    spreads["roadseg, OpenVINO f32"] = summarise([0.25])
    assert [check["passed"] for check in engines.checks(spreads)] == [True, True, None, None]


def test_what_did_not_run_is_named_with_its_reason_and_floors_are_printed():
    row = {
        "name": engines.TIMM,
        "seconds": {"median_s": 0.93, "low_s": 0.9, "high_s": 0.95},
        "weights": "random",
        "note": None,
        "agreement": 1.0,
        "ceiling_share": None,
    }
    note = {**row, "name": engines.INT8, "note": engines.INT8_NOTE}
    document = {
        "rows": [row, note, {"name": "roadseg, OpenVINO bf16", "unavailable": "no bf16"}],
        "trained": {"int8": None},
        "checks": engines.checks({}),
        "busy": True,
        "machine": {"load_1min": 7.5},
    }
    shown = engines.text(document)
    assert "930.0" in shown and "900.0..950.0" in shown and "no bf16" in shown
    assert f"{engines.INT8}: random weights, every layer quantised" in shown and "no artefact was given" in shown
    assert shown.count("not measured") == 4 and "floor 2.7x  aim 3.2x" in shown and "busy (load 7.5)" in shown


def test_random_weights_are_compared_with_timms_and_trained_ones_with_torch():
    spread, half = summarise([0.5]), np.array([[0, 1]])
    masks = {engines.TIMM: half, engines.INT8: half, trained.TORCH: 1 - half, trained.INT8: np.array([[1, 1]])}
    random, own = (engines.row(name, spread, masks, 10**9, {}) for name in (engines.INT8, trained.INT8))
    assert (random["agreement"], random["agreement_with"], random["weights"]) == (1.0, engines.TIMM, "random")
    assert (own["agreement"], own["agreement_with"], own["weights"]) == (0.5, trained.TORCH, "trained")
    assert "every layer" in random["note"] and own["note"] is None
    assert engines.row(f"{peers.DEEPLAB}, OpenVINO f32", spread, masks, 10**9, {})["agreement"] is None


def sealed(folder, model, **changes):
    folder.mkdir()
    for file in ("model.xml", "model.bin"):
        (folder / file).write_bytes(b"x")
    scores = {"scores_of_model": {"miou": 0.61}, "scores": {"miou": 0.605}, "source": "a drive", "frames": 7}
    details = {"int8": {"kept": [{"layer": "a"}, {"layer": "b"}], "layers": 40}}
    facts = ArtefactFacts("openvino", "int8", model.header, model.digest, verification=scores, details=details)
    seal(folder, replace(facts, **changes))
    return folder


def test_what_the_int8_export_found_is_on_record(tmp_path, model_file):
    model = read_model_file(model_file)
    artefact = trained.read_int8(sealed(tmp_path / "int8", model), model)
    found = trained.int8_facts(artefact)
    assert found["digest"] == artefact.digest and found["int8"]["layers"] == 40
    assert found["verification"]["scores"] == {"miou": 0.605}
    document = {"rows": [], "checks": [], "busy": False, "trained": {"int8": found}}
    assert "2 layers kept in float32; mIoU 0.6100 before, 0.6050 after, 7 frames of a drive" in engines.text(document)


@pytest.mark.parametrize("changes", [{"precision": "f32"}, {"model_digest": "0" * 64}])
def test_another_models_int8_is_refused(tmp_path, model_file, changes):
    model = read_model_file(model_file)
    folder = sealed(tmp_path / "other", model, **changes)
    with pytest.raises(ConfigError, match="--int8 is .*; give what `roadseg export roadseg-nano"):
        trained.read_int8(folder, model)


def test_without_an_int8_artefact_its_row_says_how_to_make_one(tmp_path, model_file):
    images = np.zeros((1, 8, 8, 3), np.uint8)
    makers = dict(trained.trained_contenders(read_model_file(model_file), None, images, tmp_path))
    with pytest.raises(ConfigError, match="--precision int8 .* and give --int8 DIR"):
        makers[trained.INT8]()


@pytest.mark.slow
def test_timms_network_with_our_weights_gives_our_masks(tmp_path, monkeypatch):
    """Fused or written out, in the plain form: the same function, so that times can be compared."""
    path = tmp_path / "model.safetensors"
    write_random_model(path, peers.BACKBONE, peers.DECODER, peers.CLASSES)
    model = read_model_file(path)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    expected = engines.ours(model, "torch", "f32", images, tmp_path)()
    assert len(np.unique(expected)) > 3
    for fused in (True, False):
        network = peers.ToMask(peers.PlainTwins(model, fused)).eval()
        assert np.mean(peers.in_torch(network, images)() == expected) > 0.9999


def test_timms_choice_of_attention_is_put_back(monkeypatch):
    import timm.layers

    before = bool(timm.layers.use_fused_attn())
    with pytest.raises(RuntimeError), peers.timm_attention(not before):
        assert bool(timm.layers.use_fused_attn()) is not before
        raise RuntimeError
    assert bool(timm.layers.use_fused_attn()) is before


def test_networks_are_fed_bytes_and_give_bytes():
    class Red(torch.nn.Module):
        """Class 1 where red is above the mean that images are normalised with."""

        def forward(self, image):
            return torch.cat([torch.zeros_like(image[:, :1]), image[:, :1]], 1)

    images = np.zeros((1, 2, 2, 3), np.uint8)
    images[0, 0, 1, 0] = 124  # the mean is 123.675
    images[0, 1, 0, 0] = 123
    mask = peers.in_torch(peers.ToMask(Red()), images)()
    assert mask.dtype == np.uint8 and mask.tolist() == [[[0, 1], [0, 0]]]
