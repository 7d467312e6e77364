"""Twins against timm's, with the same weights, and what this project adds to it."""

import weakref

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from roadseg.errors import ModelError
from roadseg.models.twins import Twins, TwinsOptions
from roadseg.models.twins_blocks import Mlp
from roadseg.models.zoo import build_backbone

PAPER = [f"twins_{kind}_{size}" for kind in ("svt", "pcpvt") for size in ("small", "base", "large")]
SIZES = [(224, 224), (256, 320), (480, 352), (512, 1024)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
QUICK = [(name, SIZES[0], torch.float64) for name in PAPER] + [
    (name, size, dtype)
    for name in ("twins_svt_small", "twins_pcpvt_small")
    for size, dtype in ((SIZES[1], torch.float32), (SIZES[2], torch.float64))
]
ALL = [(name, size, dtype) for name in PAPER for size in SIZES for dtype in TOLERANCE]
TINY = TwinsOptions(embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 3, 4), depths=(2, 2, 3, 2))


def tiny(**options: object) -> Twins:
    torch.manual_seed(0)
    values = {name: getattr(TINY, name) for name in TINY.__dataclass_fields__} | options
    network = Twins(TwinsOptions.of(**values)).double().eval()
    for parameter in network.parameters():  # biases and norms too, as after training
        nn.init.normal_(parameter, std=0.3)
    return network


def pair(name: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Ours and timm's network, with the same random weights."""
    torch.manual_seed(0)
    theirs = timm.create_model(name).to(dtype).eval()
    for parameter in theirs.parameters():
        if parameter.ndim == 1:  # zeros and ones after initialisation, which hide mistakes
            nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.1)
    with torch.device("meta"):  # no random weights that would be replaced at once
        ours = build_backbone(name, num_classes=1000)
    ours.load_state_dict(theirs.state_dict(), assign=True)
    return ours.eval(), theirs


@torch.inference_mode()
def check_parity(name: str, size: tuple[int, int], dtype: torch.dtype) -> None:
    ours, theirs = pair(name, dtype)
    image = torch.randn(2 if size == SIZES[1] else 1, 3, *size, dtype=dtype)
    last, features = theirs.forward_intermediates(image)
    expected = [*features, theirs.forward_head(last)]
    for a, b in zip([*ours(image), ours.classify(image)], expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= TOLERANCE[dtype] * b.abs().max()


@pytest.mark.parametrize(("name", "size", "dtype"), QUICK)
def test_equal_to_timm(name, size, dtype):
    check_parity(name, size, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "dtype"), [case for case in ALL if case not in QUICK])
def test_equal_to_timm_at_every_size(name, size, dtype):
    check_parity(name, size, dtype)


@pytest.mark.parametrize("name", PAPER)
def test_state_dict_keys_and_shapes_are_timms(name):
    with torch.device("meta"):
        ours, theirs = build_backbone(name, num_classes=1000), timm.create_model(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def test_a_backbone_without_classifier_takes_timms_whole_state_dict():
    weights = timm.create_model("twins_svt_small").state_dict()
    backbone = build_backbone("twins_svt_small")
    backbone.load_state_dict(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.state_dict().items())
    assert set(weights) - set(backbone.state_dict()) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    with pytest.raises(RuntimeError, match="blocks.0.0.attn.qkv.weight"):
        backbone.load_state_dict({k: v for k, v in weights.items() if k != "blocks.0.0.attn.qkv.weight"})


def test_gradients_equal_timms():
    ours, theirs = pair("twins_svt_small", torch.float64)
    image = torch.randn(1, 3, 96, 64, dtype=torch.float64)
    ours.classify(image).square().sum().backward()
    theirs(image).square().sum().backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert (parameter.grad - expected[name].grad).abs().max() <= 1e-9 * expected[name].grad.abs().max(), name


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (30, 90), (64, 192)])
def test_sides_of_features_are_rounded_up(size):
    features = tiny()(torch.randn(1, 3, *size, dtype=torch.float64))
    assert [tuple(f.shape[2:]) for f in features] == [tuple(-(-side // s) for side in size) for s in (4, 8, 16, 32)]


def test_no_edge_of_the_image_is_dropped():
    network, image = tiny(), torch.randn(1, 3, 50, 66, dtype=torch.float64)
    changed = image.clone()
    changed[..., -1, -1] += 1
    for before, after in zip(network(image), network(changed), strict=True):
        assert not torch.equal(before, after)
    at_timm = timm.models.twins.Twins(depths=TINY.depths, embed_dims=TINY.embed_dims, num_heads=TINY.num_heads).double()
    theirs = [at_timm.forward_intermediates(i)[1] for i in (image, changed)]
    kept = [torch.equal(a, b) for a, b in zip(*theirs, strict=True)]
    assert kept == [True] * 4  # there the last rows and columns never get in


def plain(mlp: Mlp, tokens: torch.Tensor) -> torch.Tensor:
    return mlp.fc2(F.gelu(mlp.fc1(tokens)))


def test_mlp_has_the_gradients_of_the_plain_one_twice_over():
    torch.manual_seed(0)
    mlp, tokens = Mlp(3, 5).double(), torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mlp, tokens)
    assert torch.autograd.gradgradcheck(mlp, tokens)
    gradients = [
        torch.autograd.grad(run(tokens).square().sum(), [tokens, *mlp.parameters()])
        for run in (mlp, lambda tokens: plain(mlp, tokens))
    ]
    for ours, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    weights = {name: parameter.detach() for name, parameter in mlp.named_parameters()}
    functional = torch.func.grad(lambda w: torch.func.functional_call(mlp, w, tokens.detach()).square().sum())(weights)
    for name, expected in zip(weights, gradients[1][1:], strict=True):
        torch.testing.assert_close(functional[name], expected, rtol=1e-12, atol=1e-12)


def test_mlp_trains_under_autocast_and_with_frozen_weights():
    torch.manual_seed(0)
    mlp, tokens = Mlp(16, 32), torch.randn(8, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours, expected = mlp(tokens), plain(mlp, tokens)
    assert ours.dtype == expected.dtype == torch.bfloat16
    pairs = [torch.autograd.grad(y.float().square().sum(), [tokens, *mlp.parameters()]) for y in (ours, expected)]
    for a, b in zip(*pairs, strict=True):
        assert a.dtype == b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * float(b.abs().max()))
    mlp.requires_grad_(False)
    (to_tokens,) = torch.autograd.grad(mlp(tokens).sum(), [tokens])
    assert to_tokens.any()


@pytest.mark.parametrize("pattern", ["LG", "G", "L", "HG", ["L", "LLG", "GL", "H"]])
def test_checkpointed_gradients_are_the_same(pattern):
    network, image = tiny(pattern=pattern).train(), torch.randn(2, 3, 40, 72, dtype=torch.float64)
    gradients = []
    for enable in (False, True):
        network.set_grad_checkpointing(enable)
        network.zero_grad()
        sum(f.square().sum() for f in network(image)).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_training_keeps_one_of_the_two_wide_tensors_and_checkpointing_none(monkeypatch):
    alive: list[weakref.ref[torch.Tensor]] = []
    original = F.gelu

    def gelu(hidden: torch.Tensor) -> torch.Tensor:
        activated = original(hidden)
        alive.extend((weakref.ref(hidden), weakref.ref(activated)))
        return activated

    monkeypatch.setattr(F, "gelu", gelu)
    kept = []
    for enable in (False, True):
        alive.clear()
        network = tiny().train()
        network.set_grad_checkpointing(enable)
        features = network(torch.randn(1, 3, 64, 64, dtype=torch.float64))
        assert len(alive) == 2 * 9  # blocks
        kept.append([reference() is not None for reference in alive])
        del features
    assert not any(kept[1])
    assert not any(kept[0][1::2])


def test_checkpointing_keeps_less_memory():
    def held(enable: bool) -> int:
        network, sizes = tiny().train(), []
        network.set_grad_checkpointing(enable)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            network(torch.randn(1, 3, 64, 64, dtype=torch.float64))
        return sum(sizes)

    assert held(True) < held(False) / 5


def test_stochastic_depth_drops_branches_by_image_and_keeps_the_mean():
    network = tiny(depths=1)
    block = network.blocks[0][0].train()
    block.drop_path_rate = 0.25
    tokens = torch.randn(1, 7, 7, 8, dtype=torch.float64).expand(4000, -1, -1, -1)
    with torch.inference_mode():
        torch.manual_seed(0)
        outcomes = block(tokens)
        kept = {round(float(o), 6) for o in (outcomes - tokens).abs().sum((1, 2, 3))}
        assert len(kept) == 4  # neither branch, either, both
        neither = (outcomes == tokens).flatten(1).all(1).double().mean()
        assert abs(neither - 0.25**2) < 0.015
        scaled = outcomes[0] if not torch.equal(outcomes[0], tokens[0]) else outcomes[1]
        assert not torch.equal(scaled, block.eval()(tokens[:1])[0])
        torch.testing.assert_close(block(tokens[:2]), block.eval()(tokens[:2]))


def test_stochastic_depth_grows_to_the_last_block():
    network = Twins(TINY, drop_path_rate=0.4)
    rates = [block.drop_path_rate for stage in network.blocks for block in stage]
    assert rates == pytest.approx([0.05 * i for i in range(9)])


@torch.inference_mode()
def test_without_peg_pcpvt_moves_with_the_image():
    network = tiny(pattern="G", position="none")
    image = torch.randn(1, 3, 128, 160, dtype=torch.float64)
    rolled = network(image.roll((32, 64), (2, 3)))
    for stride, before, after in zip((4, 8, 16, 32), network(image), rolled, strict=True):
        expected = before.roll((32 // stride, 64 // stride), (2, 3))
        assert (after - expected).abs().max() <= 1e-12 * expected.abs().max()


@torch.inference_mode()
def test_peg_tells_the_border():
    network = tiny(pattern="G")
    image = torch.randn(1, 3, 128, 160, dtype=torch.float64)
    before, after = network(image)[0].roll((8, 8), (2, 3)), network(image.roll((32, 32), (2, 3)))[0]
    assert (after - before).abs().max() > 1e-3 * before.abs().max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "LX"}, r"pattern is \('LX', .*use letters L \(local\), G \(global\), H .* and C"),
        ({"pattern": ["LG", "LG"]}, "one such word for each of the 4 stages"),
        ({"window_size": 1}, r"window_size is \(1, 1, 1, 1\); use a whole number from 2"),
        ({"window_size": [7, 7]}, "or 4 of them, one for each stage"),
        ({"window_size": 7.5}, "use a whole number from 2"),
        ({"halo_size": -1}, "use a whole number from 0"),
        ({"padding": "reflect"}, "padding is 'reflect'; use one of: zero, mask"),
        ({"subsampling": "max"}, "subsampling is 'max'; use one of: conv, separable, avgpool"),
        ({"position": "rope"}, "position is 'rope'; use one of: peg, none"),
        ({"downsampling": "pool"}, "downsampling is 'pool'; use one of: patch, attention"),
        ({"num_heads": 3}, "num_heads is 3 for a stage of 8 channels; use a divisor of 8"),
        ({"pattern": 5}, r"pattern is \(5, 5, 5, 5\); use letters L"),
        ({"pattern": [["L"], ["G"], ["L"], ["G"]]}, "use letters L"),
        ({"mlp_ratios": float("nan")}, "mlp_ratios is .*nan.*; use a number from 0.125 to 16384"),
        ({"sr_ratios": 10**9}, "use a whole number from 1 to 16384"),
        ({"depth": 3}, "Twins has no option 'depth'; it has embed_dims, num_heads, depths"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ModelError, match=message):
        tiny(**options)


def test_a_backbone_without_classifier_says_so():
    with pytest.raises(ModelError, match="no classifier; build it with num_classes above 0"):
        tiny().classify(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
