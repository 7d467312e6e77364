"""Weights that do not fit a network give it nothing, and the message says why."""

import pytest
import timm
import torch

import roadseg
from roadseg.errors import ModelError
from roadseg.models.weights import match_weights
from tests.models.test_weight_layouts import (
    OPTIONAL,
    prefixed,
    random_weights,
    shapes_of,
    to_mmsegmentation,
    twins_weights,
)


def refusal(raw, shapes, optional=OPTIONAL):
    with pytest.raises(ModelError) as caught:
        match_weights(raw, shapes, source="X", optional=optional)
    return str(caught.value)


@pytest.mark.parametrize("rename", [dict, to_mmsegmentation])
def test_another_size_is_refused_and_both_are_named(rename):
    with torch.device("meta"):
        small, base = (timm.create_model(f"twins_svt_{s}", num_classes=0).state_dict() for s in ("small", "base"))
    message = refusal(rename(base), shapes_of(small))
    assert "patch_embeds.0.proj.weight (96, 3, 4, 4) in the file, (64, 3, 4, 4) in the network" in message
    assert "looks like twins_svt_base (embed dims 96, 192, 384, 768; depths 2, 2, 18, 2)" in message
    assert "the network is twins_svt_small" in message and "nothing was loaded" in message
    assert "26 missing: blocks.3.2.norm1.weight" in message


@pytest.mark.parametrize(
    "size", ["svt_nano", *(f"{p}_{s}" for p in ("svt", "pcpvt") for s in ("small", "base", "large"))]
)
def test_the_known_twins_are_recognised(size):
    with torch.device("meta"):
        weights = roadseg.build_model(f"twins_{size}").backbone.state_dict()
    assert f"looks like twins_{size} (embed dims" in refusal(weights, {"conv1.weight": (1,)})


@pytest.mark.parametrize("rename", [dict, to_mmsegmentation])
def test_one_missing_tensor_is_named(rename):
    full = twins_weights()
    raw = {k: t for k, t in rename(full).items() if not k.endswith("2.1.norm2.bias")}
    assert "1 missing: blocks.2.1.norm2.bias" in refusal(raw, shapes_of(full))


def test_missing_query_biases_are_named():
    full = twins_weights("pcpvt")
    raw = {k: t for k, t in to_mmsegmentation(full).items() if not k.endswith("in_proj_bias")}  # qkv_bias=False there
    assert "18 missing: blocks.0.0.attn.q.bias, blocks.0.0.attn.kv.bias" in refusal(raw, shapes_of(full))


def test_one_wrong_shape_is_named():
    full = twins_weights()
    message = refusal(full | {"blocks.0.0.mlp.fc1.bias": torch.zeros(31)}, shapes_of(full))
    assert "1 of another shape: blocks.0.0.mlp.fc1.bias (31,) in the file, (32,) in the network" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_refused(value):
    full = twins_weights()
    broken = full["norm.weight"].double()
    broken[3] = value
    assert "1 with NaN or infinite values: norm.weight" in refusal(full | {"norm.weight": broken}, shapes_of(full))


@pytest.mark.parametrize(
    "change",
    [lambda t: t.to(torch.int8), lambda t: t.to(torch.complex64), lambda t: t.to_sparse(), lambda t: t.to("meta")],
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_what_is_no_plain_float_is_refused(change):
    full = twins_weights()
    message = refusal(full | {"norm.weight": change(full["norm.weight"])}, shapes_of(full))
    assert "1 not of plain floating-point numbers: norm.weight" in message


def test_tensors_without_a_place_are_refused():
    full = twins_weights()
    without_positions = shapes_of(full, ["pos_block."])
    message = refusal(prefixed(full, "backbone."), without_positions)
    assert "8 without a place in the network: backbone.pos_block.0.proj.0.weight" in message


def test_the_other_pattern_is_refused():
    message = refusal(twins_weights("pcpvt", mlp_ratios=(4, 4, 4, 4)), shapes_of(twins_weights()))
    assert "looks like a Twins-PCPVT" in message and "missing: blocks.0.0.attn.qkv.weight" in message


def test_another_kind_of_network_is_refused():
    resnet = random_weights(timm.create_model("resnet18", num_classes=3))
    message = refusal(resnet, shapes_of(twins_weights()))
    assert "looks like no Twins (conv1.weight, bn1.weight, bn1.bias, ...)" in message


def test_two_tensors_for_one_place_are_refused():
    full = twins_weights()
    raw = to_mmsegmentation(full) | {"blocks.0.0.norm1.weight": full["blocks.0.0.norm1.weight"]}
    assert "two tensors for 'blocks.0.0.norm1.weight'" in refusal(raw, shapes_of(full))
