"""Convolutions in Twins' blocks and stem, against scipy's correlation in float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from torch import nn
from torch.nn import functional as F

from roadseg.errors import ModelError
from roadseg.models.auxiliary import build_auxiliary
from roadseg.models.twins import Twins, TwinsOptions
from roadseg.models.twins_blocks import ConvolutionMixing, DetailStem, OverlappingEmbedding

SIZES = {"embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 3, 4), "depths": (1, 1, 2, 1)}


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.double().eval()


def strided_correlation(image: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """(H, W, C) with (out, C, 3, 3), zeros outside, every second row and column: (ceil(H / 2), ceil(W / 2), out)."""
    maps = [
        sum(correlate(image[..., c], kernel[c], mode="constant") for c in range(image.shape[-1])) for kernel in kernels
    ]
    return np.stack(maps, -1)[::2, ::2]


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (12, 7)])
@torch.no_grad()
def test_mixing_is_a_correlation_with_each_channels_own_kernel(size):
    mixing = randomised(ConvolutionMixing(4))
    tokens = torch.randn(2, *size, 4, dtype=torch.float64)
    kernels, bias = mixing.mix.weight.numpy(), mixing.mix.bias
    for image, mixed in zip(tokens.numpy(), mixing(tokens), strict=True):
        by_hand = np.stack([correlate(image[..., c], kernels[c, 0], mode="constant") for c in range(4)], -1)
        expected = F.gelu(torch.from_numpy(by_hand) + bias) @ mixing.proj.weight.T + mixing.proj.bias
        torch.testing.assert_close(mixed, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (12, 8)])
@torch.no_grad()
def test_stem_and_embedding_are_strided_correlations(size):
    stem, embedding = randomised(DetailStem(4)), randomised(OverlappingEmbedding(3, 4))
    nn.init.normal_(stem.norm.running_mean)
    nn.init.uniform_(stem.norm.running_var, 0.5, 2.0)
    image = torch.randn(1, *size, 3, dtype=torch.float64)
    maps = torch.from_numpy(strided_correlation(image[0].numpy(), stem.proj.weight.numpy()))
    scale = stem.norm.weight / (stem.norm.running_var + 1e-5).sqrt()
    expected = ((maps - stem.norm.running_mean) * scale + stem.norm.bias).clamp(min=0)
    torch.testing.assert_close(stem(image)[0], expected, rtol=1e-12, atol=1e-12)
    maps = torch.from_numpy(strided_correlation(image[0].numpy(), embedding.proj.weight.numpy())) + embedding.proj.bias
    centred = maps - maps.mean(-1, keepdim=True)
    normalised = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    expected = normalised * embedding.norm.weight + embedding.norm.bias
    torch.testing.assert_close(embedding(image)[0], expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_the_first_feature_is_the_stems_map():
    network = randomised(Twins(TwinsOptions.of(**SIZES, stem="detail", pattern=("C", "C", "CG", "G"))))
    image = torch.randn(1, 3, 33, 50, dtype=torch.float64)
    features = network(image)
    assert [tuple(f.shape[1:]) for f in features] == [(4, 17, 25), (8, 9, 13), (16, 5, 7), (24, 3, 4), (32, 2, 2)]
    torch.testing.assert_close(features[0], network.detail(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_an_auxiliary_head_counts_features_from_stride_4():
    head = build_auxiliary({"feature": 0, "weight": 0.4, "channels": 4}, [4, 8, 16, 24, 32], 5)
    features = [torch.zeros(2, c, 32 >> i, 48 >> i) for i, c in enumerate([4, 8, 16, 24, 32])]
    assert head.project.in_channels == 8
    assert head(features, (61, 96)).shape == (2, 5, 61, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "conv"}, "stem is 'conv'; use one of: patch, detail"),
        ({"pattern": "CX"}, r"pattern is \('CX', 'CX', 'CX', 'CX'\); use letters L .* and C \(convolution\)"),
        ({"stem": "detail", "embed_dims": 1, "num_heads": 1}, "embed_dims is 1 for the first stage"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(ModelError, match=message):
        TwinsOptions.of(**{**SIZES, **options})
