"""Looking inside: attention weights against the attention modules themselves, fields against hand convolutions."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import nn

from roadseg.errors import ModelError
from roadseg.models.attention import GlobalSubsampledAttention, LocallyGroupedAttention
from roadseg.models.inspection import (
    attention_at,
    attention_input,
    attention_probabilities,
    effective_receptive_field,
    side_of_share,
    twins_of,
    without_peg,
)
from roadseg.models.zoo import build_model

SMALL = {"embed_dims": [8, 16, 16, 16], "num_heads": [2, 2, 2, 2], "depths": [2, 2, 2, 2]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_model("twins_svt_nano", "linear_concat", 3, width=8, backbone_options=SMALL).eval()


def random_map(height, width, dim=8):
    return torch.randn(1, height, width, dim, generator=torch.Generator().manual_seed(1))


def local(padding="zero"):
    torch.manual_seed(2)
    return LocallyGroupedAttention(8, 2, 3, padding).eval()


def subsampled(ratio=2):
    torch.manual_seed(3)
    return GlobalSubsampledAttention(8, 2, ratio).eval()


def by_hand(query, key):
    """softmax(q k^T / sqrt d) of one head in float64, by exponentials."""
    scores = np.exp(query.astype(np.float64) @ key.astype(np.float64).T / math.sqrt(query.shape[1]))
    return scores / scores.sum(1, keepdims=True)


def test_local_weights_are_the_softmax_computed_by_hand():
    attention, tokens = local(), random_map(3, 3)
    projected = attention.qkv(tokens.reshape(9, 8)).detach().numpy()  # q, k, v, each of two heads of four channels
    weights = attention_probabilities(attention, tokens).numpy()
    for head in range(2):
        query, key = projected[:, 4 * head : 4 * head + 4], projected[:, 8 + 4 * head : 12 + 4 * head]
        np.testing.assert_allclose(weights[0, head], by_hand(query, key), atol=1e-6)


def test_global_weights_are_the_softmax_computed_by_hand():
    attention, tokens = subsampled(1), random_map(2, 3)
    query = attention.q(tokens.reshape(6, 8)).detach().numpy()
    key = attention.kv(tokens.reshape(6, 8)).detach().numpy()[:, :8]
    weights = attention_probabilities(attention, tokens).numpy()
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        np.testing.assert_allclose(weights[0, head], by_hand(query[:, part], key[:, part]), atol=1e-6)


@pytest.mark.parametrize("attention", [local(), local("mask"), subsampled(), subsampled(1)])
def test_rows_sum_to_one_and_are_not_negative(attention):
    weights = attention_probabilities(attention, random_map(5, 7))
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 1)])
@pytest.mark.parametrize("padding", ["zero", "mask"])
def test_local_weights_on_the_values_give_the_attentions_output(size, padding):
    attention, tokens = local(padding), random_map(*size)
    expected = attention(tokens)[0]
    for row in range(size[0]):
        for column in range(size[1]):
            found = attention_at(attention, tokens, row, column)
            window = torch.zeros(3, 3, 8)  # what lies outside of the map is zeros
            part = tokens[0, found.top : found.top + 3, found.left : found.left + 3]
            window[: part.shape[0], : part.shape[1]] = part
            values = attention.qkv(window.reshape(9, 8))[:, 16:].view(9, 2, 4)
            weights = torch.from_numpy(found.weights).reshape(2, 9)
            taken = torch.einsum("hk,khd->hd", weights, values).reshape(8)
            torch.testing.assert_close(attention.proj(taken), expected[row, column], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("ratio", [1, 2])
def test_global_weights_on_the_values_give_the_attentions_output(ratio):
    attention, tokens = subsampled(ratio), random_map(5, 7)
    expected = attention(tokens)[0]
    _, value = attention.context(tokens)
    for row in range(5):
        for column in range(7):
            found = attention_at(attention, tokens, row, column)
            assert found.weights.shape == (2, -(-5 // ratio), -(-7 // ratio))
            weights = torch.from_numpy(found.weights).flatten(1)
            taken = torch.einsum("hk,hkd->hd", weights, value[0]).reshape(8)
            torch.testing.assert_close(attention.proj(taken), expected[row, column], atol=1e-5, rtol=1e-4)


def test_a_querys_weights_are_its_row_of_all():
    attention, tokens = subsampled(), random_map(4, 6)
    every = attention_probabilities(attention, tokens)[0].numpy()
    np.testing.assert_allclose(attention_at(attention, tokens, 2, 3).weights.reshape(2, 6), every[:, 15], rtol=1e-5)


def test_masked_padding_has_no_weight_and_zero_padding_has():
    tokens = random_map(4, 4)
    masked = attention_at(local("mask"), tokens, 3, 3).weights  # a window of which one position is in the map
    assert masked[:, 0, 0].tolist() == [1, 1] and masked.sum() == 2
    assert attention_at(local("zero"), tokens, 3, 3).weights[:, 1:].min() > 0


def test_the_input_of_a_block_leads_to_what_the_block_gives(network):
    image = torch.rand(1, 3, 64, 96) * 255
    attention, tokens = attention_input(network, image, 1, 1)
    assert isinstance(attention, GlobalSubsampledAttention) and tokens.shape == (1, 8, 12, 16)
    given = []
    block = network.backbone.blocks[1][1]
    handle = block.register_forward_hook(lambda module, inputs, output: given.append((inputs[0], output)))
    network(image)
    handle.remove()
    before, after = given[0]
    added = before + attention(tokens)
    torch.testing.assert_close(added + block.mlp(block.norm2(added)), after)
    assert not block.norm1._forward_hooks  # nothing is left behind


def test_blocks_that_are_not_there_or_cannot_be_looked_at_are_refused(network):
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ModelError, match=r"no block 2 in stage 1.*\[2, 2, 2, 2\]"):
        attention_input(network, image, 1, 2)
    with pytest.raises(ModelError, match="no block 0 in stage -1"):
        attention_input(network, image, -1, 0)
    for pattern, kind in (("H", "HaloAttention"), ("C", "ConvolutionMixing")):
        other = build_model("twins_svt_nano", num_classes=3, backbone_options=SMALL | {"pattern": pattern}).eval()
        with pytest.raises(ModelError, match=f"block 0 of stage 0 is a {kind}; only local and global attention"):
            attention_input(other, image, 0, 0)
    with pytest.raises(ModelError, match="TimmBackbone"):
        twins_of(build_model("resnet18", num_classes=3))


@pytest.mark.parametrize("place", [(-1, 0), (5, 0), (0, 7)])
def test_queries_outside_the_map_are_refused(place):
    with pytest.raises(ModelError, match="outside the map of 5 rows and 7 columns"):
        attention_at(local(), random_map(5, 7), *place)


def test_without_peg_equals_zeroed_encodings_and_leaves_the_network_alone(network):
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        before = network(image)
        off = without_peg(network)(image)
        assert torch.equal(network(image), before) and not torch.allclose(off, before)
        for encoding in network.backbone.pos_block:
            for parameter in encoding.parameters():
                parameter.zero_()
        torch.testing.assert_close(network(image), off)


class Stack(nn.Module):
    """Convolutions of ones, as a backbone with one feature."""

    def __init__(self, layers, kernel=3):
        super().__init__()
        convolutions = [nn.Conv2d(3 if i == 0 else 1, 1, kernel, padding=kernel // 2) for i in range(layers)]
        for convolution in convolutions:
            nn.init.ones_(convolution.weight)
        self.layers = nn.Sequential(*convolutions)

    def forward(self, image):
        return [self.layers(image)]


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_field_of_stacked_box_filters_is_their_convolution(layers):
    kernel = np.ones((1, 1))
    for _ in range(layers):
        kernel = convolve2d(kernel, np.ones((3, 3)))
    expected = np.zeros((21, 21))
    reach = layers
    expected[10 - reach : 11 + reach, 10 - reach : 11 + reach] = kernel / kernel.sum()
    images = [torch.randn(1, 3, 21, 21), torch.zeros(1, 3, 21, 21)]
    np.testing.assert_allclose(effective_receptive_field(Stack(layers), images), expected, atol=1e-9)


@pytest.mark.parametrize("size", [(6, 6), (6, 5), (2, 2)])
def test_the_field_of_an_even_map_lies_in_its_middle(size):
    class Pixels(nn.Module):
        def forward(self, image):
            return [image[:, :1]]

    middle = np.zeros(size)
    rows, columns = ([n // 2 - 1, n // 2] if n % 2 == 0 else [n // 2] for n in size)
    middle[np.ix_(rows, columns)] = 1 / (len(rows) * len(columns))
    np.testing.assert_allclose(effective_receptive_field(Pixels(), [torch.randn(1, 3, *size)]), middle)


def test_fields_of_images_are_averaged_not_their_sum_of_signs():
    class Square(nn.Module):
        def forward(self, image):
            return [image[:, :1] ** 2]

    images = [torch.full((1, 3, 3, 3), 2.0), torch.full((1, 3, 3, 3), -2.0)]
    field = effective_receptive_field(Square(), images)  # slopes 4 and -4 do not cancel
    assert field[1, 1] == 1 and field.sum() == 1


def test_the_field_of_global_attention_reaches_every_pixel_and_of_one_window_its_own():
    torch.manual_seed(0)
    options = SMALL | {"depths": [1, 1, 1, 1], "position": "none"}
    image = [torch.randn(1, 3, 84, 84)]
    local_only = build_model("twins_svt_nano", num_classes=3, backbone_options=options | {"pattern": "L"}).eval()
    field = effective_receptive_field(local_only.backbone, image, 0)  # 21x21 tokens: three windows a side
    inside = np.zeros(field.shape, bool)
    inside[28:56, 28:56] = True
    np.testing.assert_array_equal(field > 0, inside)
    everywhere = build_model("twins_svt_nano", num_classes=3, backbone_options=options | {"pattern": "G"}).eval()
    assert (effective_receptive_field(everywhere.backbone, image, 0) > 0).all()


def test_fields_without_images_or_influence_are_refused():
    with pytest.raises(ModelError, match="at least one"):
        effective_receptive_field(Stack(1), [])

    class Constant(nn.Module):
        def forward(self, image):
            return [image * 0]

    with pytest.raises(ModelError, match="no field"):
        effective_receptive_field(Constant(), [torch.zeros(1, 3, 4, 4)])


@pytest.mark.parametrize("size", [(5, 5), (6, 6), (5, 9), (1, 1)])
def test_the_side_of_a_share_is_that_of_growing_squares(size):
    field = np.random.default_rng(0).random(size)
    middle = [(n - 1) / 2 for n in size]
    for share in (0.2, 0.5, 0.9, 1.0):
        side = side_of_share(field, share)
        held = {}
        for tried in range(1, max(size) + 1):
            rows = np.abs(np.arange(size[0]) - middle[0]) <= (tried - 1) / 2
            columns = np.abs(np.arange(size[1]) - middle[1]) <= (tried - 1) / 2
            held[tried] = field[np.ix_(rows, columns)].sum() / field.sum()
        assert side == next(tried for tried, part in held.items() if part >= share - 1e-9)
