"""Every public layout of pretrained weights gives the same tensors, and the report says what became of each."""

import argparse
from collections import OrderedDict

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.twins import Twins
from torch import nn

import roadseg
from roadseg.models.weights import LoadReport, match_weights, read_weights

OPTIONAL = ("norm.", "head.")
SIZES = {"embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4), "depths": (2, 2, 3, 2), "num_classes": 5}
PATTERNS = {"svt": {"wss": (7, 7, 7, 7)}, "pcpvt": {"mlp_ratios": (8, 8, 4, 4)}}
NECK = {"decode_head.conv_seg.weight": torch.ones(5, 4, 1, 1), "auxiliary_head.conv_seg.bias": torch.ones(5)}


def random_weights(network):
    torch.manual_seed(0)  # fresh norms are ones and zeros, which would hide a swap
    return {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in network.state_dict().items()}


def twins_weights(pattern="svt", **sizes):
    return random_weights(Twins(**{**SIZES, **PATTERNS[pattern], **sizes}))


def shapes_of(weights, without=()):
    return {name: t.shape for name, t in weights.items() if not name.startswith(tuple(without))}


def to_mmsegmentation(weights):
    """MMSegmentation's names for timm's, written from the modules that it builds rather than from our table."""
    renamed = {}
    for name, tensor in weights.items():
        match name.split("."):
            case ["patch_embeds", stage, "proj", leaf]:
                renamed[f"patch_embeds.{stage}.projection.{leaf}"] = tensor
            case ["pos_block", stage, "proj", "0", leaf]:
                renamed[f"position_encodings.{stage}.proj.{leaf}"] = tensor
            case ["blocks", stage, block, "mlp", layer, leaf]:
                inner = {"fc1": "0.0", "fc2": "1"}[layer]
                renamed[f"layers.{stage}.{block}.ffn.layers.{inner}.{leaf}"] = tensor
            case ["blocks", stage, block, "attn", "q", leaf]:
                packed = torch.cat([tensor, weights[f"blocks.{stage}.{block}.attn.kv.{leaf}"]])
                renamed[f"layers.{stage}.{block}.attn.attn.in_proj_{leaf}"] = packed
            case ["blocks", _, _, "attn", "kv", _] | ["head", _]:
                pass
            case ["blocks", stage, block, "attn", "proj", leaf] if (
                f"blocks.{stage}.{block}.attn.qkv.weight" not in weights
            ):
                renamed[f"layers.{stage}.{block}.attn.attn.out_proj.{leaf}"] = tensor
            case ["blocks", *rest]:
                renamed[".".join(["layers", *rest])] = tensor
            case _:
                renamed[name] = tensor
    return renamed


def prefixed(weights, prefix):
    return {prefix + name: tensor for name, tensor in weights.items()}


def assert_equal(weights, expected):
    assert list(weights) == list(expected)
    for name, tensor in expected.items():
        assert weights[name].dtype == tensor.dtype and torch.equal(weights[name], tensor), name


def backbone_of(weights):
    return {name: t for name, t in weights.items() if not name.startswith(OPTIONAL)}


# Layouts


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_timms_names_from_every_kind_of_file(tmp_path, pattern, suffix):
    expected = twins_weights(pattern)
    path = tmp_path / f"weights{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(expected, path)
    weights, report = match_weights(read_weights(path), shapes_of(expected), source=str(path), optional=OPTIONAL)
    assert_equal(weights, expected)
    assert report == LoadReport(str(path), "timm", tuple(expected), (), ())


def test_the_classifier_is_reported_where_the_network_has_none():
    full = twins_weights()
    weights, report = match_weights(full, shapes_of(full, OPTIONAL), source="X", optional=OPTIONAL)
    assert_equal(weights, backbone_of(full))
    assert report.ignored == ("norm.weight", "norm.bias", "head.weight", "head.bias")
    assert str(report) == (
        f"{len(weights)} tensors from X (timm's names); ignored: norm.weight, norm.bias, head.weight, head.bias"
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_authors_segmentation_checkpoints(pattern):
    expected = backbone_of(twins_weights(pattern))
    extra = {f"backbone.norm_list.{i}.{leaf}": torch.ones(8) for i in range(4) for leaf in ("weight", "bias")}
    raw = prefixed(expected, "backbone.") | extra | NECK | {"neck.fpn_convs.0.conv.weight": torch.ones(1)}
    weights, report = match_weights(raw, shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.layout == "official segmentation"
    assert report.ignored == (*extra, *NECK, "neck.fpn_convs.0.conv.weight")
    assert report.loaded == tuple(expected) and report.missing == ()
    assert "backbone.norm_list.* (8), decode_head.conv_seg.weight" in str(report)
    assert "here they stay raw" in str(report)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_mmsegmentations_names(pattern, prefix):
    expected = twins_weights(pattern)
    renamed = to_mmsegmentation(expected)
    assert not set(renamed) & {name for name in expected if name.startswith(("blocks", "pos_block"))}
    raw = prefixed(renamed, prefix) | (prefixed(NECK, prefix.removesuffix("backbone.")) if prefix else {})
    weights, report = match_weights(raw, shapes_of(expected), source="X", optional=OPTIONAL)
    assert_equal(weights, {name: t for name, t in expected.items() if not name.startswith("head.")})
    assert report.layout == "mmsegmentation"
    assert report.missing == ("head.weight", "head.bias")
    assert len(report.ignored) == (2 if prefix else 0)


def test_mmsegmentations_normalised_features_are_reported():
    expected = backbone_of(twins_weights())
    raw = to_mmsegmentation(expected) | {"norm_list.0.weight": torch.ones(8), "norm_list.0.bias": torch.ones(8)}
    _, report = match_weights(raw, shapes_of(expected), source="X")
    assert report.ignored == ("norm_list.0.weight", "norm_list.0.bias")
    assert "norm_list normalises the features" in str(report)


@torch.inference_mode()
def test_packed_attention_computes_the_same_after_unpacking():
    """PyTorch's own MultiheadAttention, which MMSegmentation wraps, is the reference."""
    network = Twins(**SIZES).eval()
    raw = to_mmsegmentation(random_weights(network))
    weights, _ = match_weights(raw, shapes_of(network.state_dict()), source="X", optional=OPTIONAL)
    network.load_state_dict(weights, strict=False)
    reference = nn.MultiheadAttention(32, 4, batch_first=True).eval()  # the last stage: 32 channels, no subsampling
    key = "layers.3.1.attn.attn."
    reference.load_state_dict({k.removeprefix(key): t for k, t in raw.items() if k.startswith(key)})
    tokens = torch.randn(2, 6, 32)
    attended = network.blocks[3][1].attn(tokens, (2, 3))
    torch.testing.assert_close(attended, reference(tokens, tokens, tokens)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["network.backbone.", "backbone."])
def test_this_projects_checkpoints_and_model_files(prefix):
    trained = roadseg.build_model("twins_svt_nano", num_classes=3, width=16)
    raw = prefixed(random_weights(trained), prefix.removesuffix("backbone."))
    expected = {k.removeprefix(prefix): t for k, t in raw.items() if k.startswith(prefix)}
    weights, report = match_weights(raw, shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.layout == "roadseg"
    assert set(report.ignored) == {key for key in raw if not key.startswith(prefix)}


def test_other_networks_take_timms_names():
    expected = random_weights(timm.create_model("resnet18", num_classes=3))
    assert expected["bn1.num_batches_tracked"].dtype == torch.int64
    raw = {name: t for name, t in expected.items() if name != "bn1.num_batches_tracked"}
    weights, report = match_weights(raw, shapes_of(expected, ["fc."]), source="X", optional=("fc.",))
    assert_equal(weights, {name: t for name, t in raw.items() if not name.startswith("fc.")})
    assert report.missing == ("bn1.num_batches_tracked",)  # old files lack them
    assert report.ignored == ("fc.weight", "fc.bias")


def test_swins_buffers_are_ignored():
    expected = random_weights(
        timm.create_model("swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1), num_heads=(1, 2), num_classes=3)
    )
    raw = expected | {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    weights, report = match_weights(raw, shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.ignored == ("layers.0.blocks.0.attn.relative_position_index",)


# Wrappers and precisions


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "module", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "module.module.", "_orig_mod."])
def test_wrappers_are_removed(tmp_path, wrapper, prefix):
    expected = twins_weights()
    path = tmp_path / "weights.pth"
    torch.save({wrapper: OrderedDict(prefixed(expected, prefix)), "epoch": 3, "optimizer": {"state": {}}}, path)
    weights, report = match_weights(read_weights(path), shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.ignored == ()


@pytest.mark.parametrize(("plain", "averaged"), [("model", "model_ema"), ("state_dict", "state_dict_ema")])
def test_plain_weights_win_over_averaged_ones_and_the_report_says_so(tmp_path, plain, averaged):
    expected = twins_weights()
    path = tmp_path / "weights.pth"
    other = {name: tensor + 1 for name, tensor in expected.items()}
    torch.save({averaged: other, plain: expected, "args": argparse.Namespace(lr=0.1, layers=[1, 2])}, path)
    weights, report = match_weights(read_weights(path), shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.ignored == tuple(f"{averaged}.{name}" for name in expected)
    assert f"ignored: {averaged}.* ({len(expected)})" in str(report)


def test_the_old_torch_format_is_read(tmp_path):
    expected = twins_weights()
    torch.save(expected, tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    assert_equal(read_weights(tmp_path / "weights.pth"), expected)


def test_averaging_counters_are_ignored():
    expected = twins_weights()
    raw = {"n_averaged": torch.tensor(3)} | prefixed(expected, "module.")
    weights, report = match_weights(raw, shapes_of(expected), source="X")
    assert_equal(weights, expected)
    assert report.ignored == ("n_averaged",)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_become_float32(dtype):
    half = {name: tensor.to(dtype) for name, tensor in twins_weights().items()}
    weights, _ = match_weights(half, shapes_of(half), source="X")
    assert_equal(weights, {name: tensor.float() for name, tensor in half.items()})


def test_a_classifier_of_other_classes_is_left_whole():
    full = twins_weights()
    shapes = shapes_of(full) | {"head.weight": (7, 32)}  # a bias that would fit must not be taken alone
    _, report = match_weights(full, shapes, source="X", optional=OPTIONAL)
    assert report.missing == report.ignored == ("head.weight", "head.bias")
