"""The folded decoder against the plain one, written the way the article draws it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from roadseg.errors import ModelError
from roadseg.models.decoders.linear_concat import LinearConcatDecoder

CHANNELS = [8, 12, 20, 32]


def resized_to(features: list[torch.Tensor], index: int, projected: torch.Tensor, resize: str) -> torch.Tensor:
    """One scale's projection at the finest size, at once or by way of every size between them."""
    for finer in range(index - 1, -1, -1) if resize == "stepwise" else [0]:
        size = features[finer].shape[-2:]
        projected = F.interpolate(projected, size=size, mode="bilinear", align_corners=False)
    return projected


def plain_forward(decoder: LinearConcatDecoder, features: list[torch.Tensor], resize: str) -> torch.Tensor:
    """Project each scale, resize to the finest, concatenate, fuse, drop out, classify."""
    projected = [projection(f) for projection, f in zip(decoder.projections, features, strict=True)]
    resized = [resized_to(features, i, p, resize) for i, p in enumerate(projected)]
    fused = F.conv2d(torch.cat(resized, 1), decoder.fuse.weight, decoder.fuse.bias)
    if decoder.norm is not None:
        fused = F.relu(decoder.norm(fused))
    return decoder.head(decoder.dropout(fused))


def make_features(height: int = 24, width: int = 40) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(2, c, height >> i, width >> i, dtype=torch.float64, requires_grad=True)
        for i, c in enumerate(CHANNELS)
    ]


def randomised(fuse: str, resize: str = "direct") -> LinearConcatDecoder:
    torch.manual_seed(2)
    decoder = LinearConcatDecoder(CHANNELS, 5, width=16, fuse=fuse, dropout=0.3, resize=resize).double()
    for parameter in decoder.parameters():
        nn.init.normal_(parameter)
    if decoder.norm is not None:  # as after some training
        nn.init.normal_(decoder.norm.running_mean)
        nn.init.uniform_(decoder.norm.running_var, 0.5, 2.0)
    return decoder


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("fuse", ["norm_relu", "linear"])
@pytest.mark.parametrize(("resize", "size"), [("direct", (24, 40)), ("stepwise", (24, 40)), ("stepwise", (25, 43))])
def test_folded_equals_plain_forward_and_gradients(fuse, training, resize, size):
    decoder, features = randomised(fuse, resize).train(training), make_features(*size)
    outcomes = []
    for forward in (decoder, lambda f: plain_forward(decoder, f, resize)):
        decoder.zero_grad()
        torch.manual_seed(3)  # the same dropout
        logits = forward(features)
        gradients = torch.autograd.grad(logits.square().sum(), [*features, *decoder.parameters()])
        outcomes.append([logits, *gradients])
    for folded, plain in zip(*outcomes, strict=True):
        assert (folded - plain).abs().max() <= 1e-10 * max(1.0, float(plain.detach().abs().max()))


def test_batch_norm_statistics_are_those_of_the_plain_form():
    folded, plain = randomised("norm_relu").train(), randomised("norm_relu").train()
    folded(make_features())
    plain_forward(plain, make_features(), "direct")
    torch.testing.assert_close(folded.norm.running_mean, plain.norm.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(folded.norm.running_var, plain.norm.running_var, rtol=1e-12, atol=1e-12)


def test_dropout_drops_in_training_only():
    decoder, features = randomised("norm_relu"), make_features()
    decoder.train()
    assert not torch.equal(decoder(features), decoder(features))
    decoder.eval()
    assert torch.equal(decoder(features), decoder(features))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fuse": "concat"}, "fuse is 'concat'; linear_concat knows 'norm_relu' and 'linear'"),
        ({"resize": "nearest"}, "resize is 'nearest'; linear_concat knows 'direct' and 'stepwise'"),
        ({"width": 0}, "width is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ModelError, match=message):
        LinearConcatDecoder(CHANNELS, 5, **options)


def test_another_number_of_features_is_refused():
    with pytest.raises(ModelError, match="linear_concat was given 3 features"):
        LinearConcatDecoder(CHANNELS[:3], 5)
